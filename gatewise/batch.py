"""Batches of sequences of unequal length: the only padding in the project.

B batch, T timesteps, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Encoded:
    """One item, ready for a batch.

    Attributes:
        inputs: features float32 (T, F); T is at least 1.
        wide: what a linear branch adds to the item's logits, (K,), where the model has one.
        tokens: what the timesteps of a text are, where each gets a label.
        truncated: whether the item was longer than the model's maximum.
        unknown_tokens: of a text, how many of its timesteps the vocabulary lacks.
    """

    inputs: NDArray[Any]
    tokens: list[str] | None = None
    truncated: bool = False
    wide: NDArray[np.float32] | None = None
    unknown_tokens: int = 0


@dataclass(frozen=True)
class Batch:
    """Right-padded sequences.

    Attributes:
        inputs: features float32 (B, T, F), or in training forms of tokens int64 (B, T); zero beyond a length.
        lengths: real timesteps of each sequence, int64 (B,), each at least 1.
    """

    inputs: NDArray[Any]
    lengths: NDArray[np.int64]

    @cached_property
    def mask(self) -> NDArray[np.bool_]:
        """(B, T), True at a real timestep."""
        mask: NDArray[np.bool_] = np.arange(self.inputs.shape[1]) < self.lengths[:, None]
        return mask


def collate(encoded: Sequence[NDArray[Any]]) -> Batch:
    """Pad encoded sequences, (T_i, F) features or (T_i,) ids, with zeros to the longest of them."""
    if len(encoded) == 1:
        return Batch(encoded[0][None], np.array([len(encoded[0])], dtype=np.int64))
    lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
    inputs = np.zeros((len(encoded), int(lengths.max()), *encoded[0].shape[1:]), dtype=encoded[0].dtype)
    for row, sequence in zip(inputs, encoded, strict=True):
        row[: len(sequence)] = sequence
    return Batch(inputs, lengths)
