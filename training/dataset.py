"""Labelled sequences in memory: what every reader gives and every trainer takes.

T timesteps, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import Kind, Task


@dataclass(frozen=True, eq=False)
class Dataset:
    """Sequences of one file, with their labels and the places where they stand.

    Attributes:
        items: text: a str, or with a label for each step a list of tokens; series: float32 (T, C), NaN where missing.
        labels: a str for each item, or with task "step" a list of them; None in an unlabelled file.
        channels: names of a series' channels, "0", "1", ... where the file names none.
        groups: the group of each item, where the user named a column of them on a file with a row for each sequence.
        source: the file's path as given.
        rows: int64, where each item begins: the line (the header is line 1) of a line format, else the record from 1.
    """

    kind: Kind
    task: Task
    items: list[Any]
    labels: list[Any] | None
    channels: tuple[str, ...] | None
    groups: list[str] | None
    source: str
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, indices: Iterable[int]) -> Dataset:
        """Return the items at `indices`, in that order."""
        chosen = np.fromiter((int(i) for i in indices), dtype=np.int64)
        return Dataset(
            kind=self.kind,
            task=self.task,
            items=[self.items[i] for i in chosen],
            labels=None if self.labels is None else [self.labels[i] for i in chosen],
            channels=self.channels,
            groups=None if self.groups is None else [self.groups[i] for i in chosen],
            source=self.source,
            rows=self.rows[chosen],
        )

    def label_sets(self) -> list[frozenset[str]]:
        """Return the labels that each item has, one or several."""
        assert self.labels is not None
        if self.task == "sequence":
            sets = {label: frozenset((label,)) for label in set(self.labels)}
            return [sets[label] for label in self.labels]
        return [frozenset(labels) for labels in self.labels]


def join(pieces: Sequence[Dataset]) -> Dataset:
    """Return the items of all pieces of one file, in order; there is at least one piece."""
    first = pieces[0]
    return Dataset(
        kind=first.kind,
        task=first.task,
        items=[item for piece in pieces for item in piece.items],
        labels=None if first.labels is None else [label for piece in pieces for label in piece.labels or ()],
        channels=first.channels,
        groups=None if first.groups is None else [group for piece in pieces for group in piece.groups or ()],
        source=first.source,
        rows=np.concatenate([piece.rows for piece in pieces]),
    )
