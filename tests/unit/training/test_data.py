"""Batches: every row once an epoch, an order that seed and epoch fix, little padding, a fair share for each device."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
import torch

from training.data import IGNORED, BucketSampler, EncodedDataset, SequenceDataModule

LENGTHS = np.random.default_rng(1).geometric(0.05, size=1003)


def batches(epoch: int = 0, **options: int | bool) -> list[list[int]]:
    sampler = BucketSampler(LENGTHS, 16, **options)  # type: ignore[arg-type]
    sampler.set_epoch(epoch)
    found = list(sampler)
    assert len(found) == len(sampler)
    return found


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_comes_once_an_epoch(shuffle: bool) -> None:
    rows = sorted(chain.from_iterable(batches(epoch=3, shuffle=shuffle)))
    assert rows == list(range(len(LENGTHS)))


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    assert batches(seed=1, epoch=2) == batches(seed=1, epoch=2)
    orders = [batches(seed=seed, epoch=epoch) for seed in (1, 2) for epoch in (0, 1, 2)]
    assert len({str(order) for order in orders}) == len(orders)


def test_an_epoch_can_be_read_without_those_before_it() -> None:
    sampler = BucketSampler(LENGTHS, 16, seed=5)
    read_through = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        read_through.append(list(sampler))
    assert read_through == [batches(seed=5, epoch=epoch) for epoch in range(3)]


def test_padding_is_a_small_part_of_the_batches() -> None:
    def padded_steps(order: list[list[int]]) -> int:
        return sum(len(rows) * int(LENGTHS[rows].max()) for rows in order)

    shuffled = np.random.default_rng(0).permutation(len(LENGTHS))
    unsorted = [shuffled[i : i + 16].tolist() for i in range(0, len(shuffled), 16)]
    assert padded_steps(batches()) < 1.2 * LENGTHS.sum()
    assert padded_steps(unsorted) > 2 * LENGTHS.sum()


def test_batches_of_an_epoch_do_not_come_by_length() -> None:
    means = [LENGTHS[rows].mean() for rows in batches()]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.3


@pytest.mark.parametrize("world_size", [2, 3, 4, 8])
def test_devices_share_the_batches_of_one_order_and_take_as_many_steps(world_size: int) -> None:
    shares = [batches(epoch=1, rank=rank, world_size=world_size) for rank in range(world_size)]
    whole = batches(epoch=1)
    assert {len(share) for share in shares} == {-(-len(whole) // world_size)}
    # Taken in turns they are the order itself, filled up from its beginning; no batch is with two before that.
    turns = [rows for step in zip(*shares, strict=True) for rows in step]
    assert turns[: len(whole)] == whole
    assert turns[len(whole) :] == whole[: len(turns) - len(whole)]


def test_more_devices_than_batches_all_get_one() -> None:
    shares = [list(BucketSampler(np.array([3, 4]), 16, rank=rank, world_size=3)) for rank in range(3)]
    assert [sorted(rows) for share in shares for rows in share] == [[0, 1]] * 3


def test_a_batch_of_labelled_sequences_is_padded_with_zeros() -> None:
    data = EncodedDataset([np.array([5, 6, 7]), np.array([8])], [1, 0])
    inputs, lengths, labels = data[[1, 0]]
    assert inputs.tolist() == [[8, 0, 0], [5, 6, 7]]
    assert lengths.tolist() == [1, 3]
    assert labels.tolist() == [0, 1]
    assert labels.dtype == torch.int64


def test_labels_of_steps_are_padded_with_what_no_loss_counts() -> None:
    readings = [np.ones((2, 3), np.float32), np.full((4, 3), 2, np.float32)]
    data = EncodedDataset(readings, [np.array([2, 1]), np.array([0, 1, IGNORED, 0])])
    inputs, lengths, labels = data[[0, 1]]
    assert inputs.shape == (2, 4, 3)
    assert inputs[0, 2:].abs().sum() == 0
    assert lengths.tolist() == [2, 4]
    assert labels.tolist() == [[2, 1, IGNORED, IGNORED], [0, 1, IGNORED, 0]]


def test_the_data_module_gives_all_rows_of_both_splits() -> None:
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, 9, size=length) for length in rng.integers(1, 20, size=50)]
    train = EncodedDataset(rows[:40], list(range(40)))
    valid = EncodedDataset(rows[40:], list(range(10)))
    data = SequenceDataModule(train, valid, batch_size=8, seed=3)
    trained = list(data.train_dataloader())
    assert sorted(torch.cat([labels for _, _, labels in trained]).tolist()) == list(range(40))
    assert [len(labels) for _, _, labels in trained] == [8] * 5
    lengths = torch.cat([lengths for _, lengths, _ in data.val_dataloader()])
    assert lengths.tolist() == sorted(len(row) for row in rows[40:])


def test_lightning_finds_where_to_set_the_epoch() -> None:
    # Lightning calls set_epoch on dataloader.sampler and dataloader.batch_sampler.sampler, and nowhere else.
    data = EncodedDataset([np.array([1])] * 4, [0] * 4)
    loader = SequenceDataModule(data, data, batch_size=2, seed=0).train_dataloader()
    assert isinstance(loader.sampler, BucketSampler)


def test_joined_rows_are_those_of_one_and_then_those_of_the_other() -> None:
    one = EncodedDataset([np.ones(3), np.ones(1)], [np.array([0, 1, 0]), np.array([1])])
    other = EncodedDataset([np.zeros(2)], [np.array([1, IGNORED])])
    both = one.joined(other)
    assert both.lengths.tolist() == [3, 1, 2]
    assert [row.tolist() for row in both.labels] == [[0, 1, 0], [1], [1, IGNORED]]
    assert (len(one), len(other), len(both)) == (2, 1, 3)
    inputs, lengths, labels = both[[2, 0]]
    assert inputs.tolist() == [[0, 0, 0], [1, 1, 1]]
    assert lengths.tolist() == [2, 3]
    assert labels.tolist() == [[1, IGNORED, IGNORED], [0, 1, 0]]


def test_a_module_without_validation_rows_has_train_batches_all_the_same() -> None:
    rows = EncodedDataset([np.ones((n, 2), np.float32) for n in (3, 1, 2)], [0, 1, 0])
    module = SequenceDataModule(rows, None, batch_size=2, seed=0)
    assert sorted(n for _, lengths, _ in module.train_dataloader() for n in lengths.tolist()) == [1, 2, 3]


def test_a_batch_for_the_cpu_is_not_copied_and_for_another_device_it_is_moved() -> None:
    rows = EncodedDataset([np.arange(3), np.arange(2)], [0, 1])
    data = SequenceDataModule(rows, None, batch_size=2, seed=0)
    batch = rows[[0, 1]]
    assert data.transfer_batch_to_device(batch, torch.device("cpu"), 0) is batch
    moved = data.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert [part.device.type for part in moved] == ["meta"] * 3
