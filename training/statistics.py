"""What the recipe reads: a few figures of the train split.

T timesteps, C channels.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from gatewise.architecture import Kind, Task
from training.dataset import Dataset
from training.metrics import is_bio

# Enough rows to know lengths and vocabularies by; reading a million tells nothing more.
_SAMPLE = 20_000
_UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_WORD = re.compile(rf"{_UNSPACED.pattern}|[^\W\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]+")


@dataclass(frozen=True)
class Statistics:
    """Figures of the train split.

    Attributes:
        lengths: quantiles 0.5, 0.95 and 1 of the number of words, tokens or timesteps.
        class_counts: rows (per step: steps) of each class, most frequent first.
        unknown_share: words (of a tenth of the rows) that the other rows do not hold twice; text only.
        uppercase_share: tokens that begin with a capital; text only.
        roughness: standard deviation of first differences over that of the readings, median of channels; series only.
        channels: C; series only.
        divided: whether the validation rows were taken from the train file.
    """

    kind: Kind
    task: Task
    rows: int
    lengths: tuple[int, int, int]
    class_counts: dict[str, int]
    bio: bool
    unknown_share: float = 0.0
    uppercase_share: float = 0.0
    roughness: float = 0.0
    channels: int = 0
    divided: bool = False

    @property
    def imbalance(self) -> float:
        """Rows of the most frequent class for each row of the rarest."""
        return max(self.class_counts.values()) / min(self.class_counts.values())


def measure(train: Dataset, *, divided: bool = False) -> Statistics:
    """Measure the train split.

    Args:
        divided: whether the validation rows were taken from its file.
    """
    assert train.labels is not None
    labels = train.labels if train.task == "sequence" else chain.from_iterable(train.labels)
    counts = dict(Counter(labels).most_common())
    step = max(1, len(train) // _SAMPLE)
    sample = train.items[::step]
    rows: list[list[str]] = []
    if train.kind == "text":
        rows = [_WORD.findall(item) if isinstance(item, str) else item for item in sample]
    lengths = np.array([len(row) for row in rows] if rows else [len(item) for item in train.items])
    half, most, longest = (int(q) for q in np.quantile(lengths, [0.5, 0.95, 1.0]))
    return Statistics(
        kind=train.kind,
        task=train.task,
        rows=len(train),
        lengths=(half, most, longest),
        class_counts=counts,
        bio=train.task == "step" and is_bio(sorted(counts)),
        unknown_share=_unknown_share(rows),
        uppercase_share=_uppercase_share(rows),
        roughness=_roughness(sample) if train.kind == "series" else 0.0,
        channels=sample[0].shape[1] if train.kind == "series" else 0,
        divided=divided,
    )


def _unknown_share(rows: Sequence[list[str]]) -> float:
    known = Counter(word.lower() for i, row in enumerate(rows) if i % 10 for word in row)
    words = [word.lower() for row in rows[::10] for word in row]
    return sum(known[word] < 2 for word in words) / max(len(words), 1)


def _uppercase_share(rows: Sequence[list[str]]) -> float:
    words = list(chain.from_iterable(rows))
    return sum(word[:1].isupper() for word in words) / max(len(words), 1)


def _roughness(items: Sequence[Any]) -> float:
    readings = np.concatenate(items)
    differences = np.concatenate([np.diff(item, axis=0) for item in items])
    # A channel without two readings side by side says nothing.
    seen = np.isfinite(differences).any(axis=0)
    readings, differences = readings[:, seen], differences[:, seen]
    deviation = np.nanstd(readings, axis=0)
    moving = deviation > 0
    if not moving.any():
        return 0.0
    return float(np.median(np.nanstd(differences, axis=0)[moving] / deviation[moving]))
