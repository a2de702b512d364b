"""Encoded rows to batches of similar length, in an order that a seed and an epoch fix.

B batch, T timesteps.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from gatewise.batch import collate

# What torch's cross-entropy leaves out by default: the label of a step beyond a sequence's end.
IGNORED = -100
# Rows are sorted by length within pools of this many batches: little padding, and still a new order each epoch.
_POOL = 32

TrainingBatch = tuple[Tensor, Tensor, Tensor]


class EncodedDataset(Dataset[TrainingBatch]):
    """Encoded sequences with label indices; an index of it is a list of rows, an item of it a whole batch.

    Args:
        inputs: (T_i,) ids or (T_i, F) features each.
        labels: an index each, or (T_i,) indices each.
    """

    def __init__(self, inputs: Sequence[NDArray[Any]], labels: Sequence[Any]) -> None:
        self.inputs = inputs
        self.labels = labels
        self.lengths = np.array([len(row) for row in inputs])
        self._per_step = isinstance(labels[0], np.ndarray)

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, rows: Sequence[int]) -> TrainingBatch:
        """Return inputs (B, T) or (B, T, F), lengths (B,) and labels (B,) or (B, T)."""
        batch = collate([self.inputs[i] for i in rows])
        if self._per_step:
            labels = np.full(batch.inputs.shape[:2], IGNORED, dtype=np.int64)
            for target, i in zip(labels, rows, strict=True):
                target[: len(self.labels[i])] = self.labels[i]
        else:
            labels = np.array([self.labels[i] for i in rows], dtype=np.int64)
        return torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths), torch.from_numpy(labels)

    def joined(self, other: EncodedDataset) -> EncodedDataset:
        """These rows and the other's."""
        return EncodedDataset([*self.inputs, *other.inputs], [*self.labels, *other.labels])


class BucketSampler(Sampler[list[int]]):
    """Batches of rows of similar length.

    The order of an epoch is a function of seed and epoch alone, so a resumed run goes on with the very batches that the
    killed one would have had. With several devices each takes every world_size-th batch of that one order.
    """

    def __init__(
        self,
        lengths: NDArray[np.int64],
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; Lightning calls this."""
        self.epoch = epoch

    def __len__(self) -> int:
        # Every device must take the same number of steps; the order is continued from its beginning to fill up.
        return -(-self._batches // self.world_size)

    @property
    def _batches(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batches = self._order()
        for position in range(self.rank, len(self) * self.world_size, self.world_size):
            yield batches[position % len(batches)]

    def _order(self) -> list[list[int]]:
        if not self.shuffle:
            order = np.argsort(self.lengths, kind="stable")
            return [order[i : i + self.batch_size].tolist() for i in range(0, len(order), self.batch_size)]
        rng = np.random.default_rng((self.seed, self.epoch))
        rows = rng.permutation(len(self.lengths))
        pool = self.batch_size * _POOL
        pools = [rows[i : i + pool] for i in range(0, len(rows), pool)]
        rows = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in pools])
        batches = [rows[i : i + self.batch_size].tolist() for i in range(0, len(rows), self.batch_size)]
        return [batches[i] for i in rng.permutation(len(batches))]


class SequenceDataModule(pl.LightningDataModule):
    """The train and validation splits, encoded; the latter may be left out."""

    def __init__(self, train: EncodedDataset, valid: EncodedDataset | None, *, batch_size: int, seed: int) -> None:
        super().__init__()
        self.train = train
        self.valid = valid
        self.batch_size = batch_size
        self.seed = seed

    def train_dataloader(self) -> DataLoader[TrainingBatch]:
        """Bucketed batches in a new order each epoch, shared out over the devices."""
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return _loader(
            self.train,
            BucketSampler(self.train.lengths, self.batch_size, seed=self.seed, rank=rank, world_size=world_size),
        )

    def val_dataloader(self) -> DataLoader[TrainingBatch]:
        """All rows, shortest first; every device sees them all, so that all agree on the score."""
        assert self.valid is not None
        return _loader(self.valid, BucketSampler(self.valid.lengths, 4 * self.batch_size, shuffle=False))

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Move the tensors of a batch; to a CPU they need not be."""
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, dataloader_idx)


def _loader(dataset: EncodedDataset, sampler: BucketSampler) -> DataLoader[TrainingBatch]:
    # The sampler yields whole batches (batch_size=None): Lightning finds its set_epoch only in this place.
    return DataLoader(dataset, sampler=sampler, batch_size=None, pin_memory=torch.cuda.is_available())
