"""The data of the comparison, made from a seed, in one file that every system reads.

N sequences, T timesteps, C channels, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TIMESTEPS, CHANNELS, SERIES_CLASSES = 128, 8, 4
VOCABULARY, SHORTEST, LONGEST, TEXT_CLASSES = 20_000, 5, 200, 4
# What a step keeps of the sum of the steps before it.
_MEMORY = 0.8
# The share of a text's words that are its topic's own.
_TOPICAL = 0.3


@dataclass(frozen=True)
class Part:
    """Sequences of one split.

    Attributes:
        inputs: series float32 (N, T, C), or the ids of all texts one after another, int64, from 2 to VOCABULARY - 1.
        lengths: int64 (N,).
        labels: int64, (N, T) for series and (N,) for texts.
    """

    inputs: NDArray[np.generic]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]


def series(count: int, seed: int) -> Part:
    """Noise; a step's label is the one of the first K channels whose decaying sum is largest by then."""
    rng = np.random.default_rng((seed, 1))
    inputs = rng.normal(size=(count, TIMESTEPS, CHANNELS)).astype(np.float32)
    sums = np.zeros((count, SERIES_CLASSES))
    labels = np.empty((count, TIMESTEPS), dtype=np.int64)
    for t in range(TIMESTEPS):
        sums = _MEMORY * sums + inputs[:, t, :SERIES_CLASSES]
        labels[:, t] = sums.argmax(axis=1)
    return Part(inputs, np.full(count, TIMESTEPS, dtype=np.int64), labels)


def texts(count: int, seed: int) -> Part:
    """Texts of 5 to 200 words, lengths lognormal, words by Zipf's law; the label is the topic some words come from."""
    rng = np.random.default_rng((seed, 2))
    lengths = np.clip(rng.lognormal(mean=3.2, sigma=0.8, size=count), SHORTEST, LONGEST).astype(np.int64)
    labels = rng.integers(0, TEXT_CLASSES, size=count)
    total = int(lengths.sum())
    ranks = np.floor((VOCABULARY - 2) ** rng.random(total)).astype(np.int64) - 1
    # A topic's words are those whose rank has the topic as its remainder.
    topical = rng.random(total) < _TOPICAL
    topics = np.repeat(labels, lengths)
    ranks[topical] += topics[topical] - ranks[topical] % TEXT_CLASSES
    return Part(2 + np.clip(ranks, 0, VOCABULARY - 3), lengths, labels)


def write(path: Path, kind: str, rows: int, held_out: int, seed: int = 0) -> None:
    """Write train and held-out sequences of a kind, `series` or `text`, as arrays that numpy reads."""
    make = {"series": series, "text": texts}[kind]
    parts = {"train": make(rows, 2 * seed), "held_out": make(held_out, 2 * seed + 1)}
    arrays = {f"{name}_{what}": getattr(part, what) for name, part in parts.items() for what in Part.__annotations__}
    np.savez(path, **arrays)
