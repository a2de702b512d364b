"""Base data and feedback put together: each sequence once, with its latest label, and none on two sides of a score.

A sequence that the base data has too gives its new label to the row that is there. A new one goes to the gate, to
validation or to train by its own hash, so that it is on the same side in every retraining of every machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from gatewise import content
from training.dataset import Dataset, join
from training.splits import Splits

# Of 256 values of a hash's first byte: a fifth of the feedback judges, a tenth validates, the rest is learnt from.
_GATE, _VALID = 51, 77
LEAST_NEW_ROWS = 10


@dataclass(frozen=True)
class Feedback:
    """A sequence with its latest label, or with the labels of its steps."""

    sequence: content.Sequence
    label: str | list[str]
    sha256: bytes


@dataclass
class MergeCounts:
    """What became of the feedback, in sequences.

    Attributes:
        train, valid, gate: new ones, by where they went.
        confirmed, conflicts: those that the base data has too, with the same label or another, which now is theirs.
        in_test: those of the test split, which stays as it was.
        unfit: those of another form than the base data's.
        rare: rows of each new label that has too few.
        new_labels: rows to train on of each new label that has enough.
    """

    train: int = 0
    valid: int = 0
    gate: int = 0
    confirmed: int = 0
    conflicts: int = 0
    in_test: int = 0
    unfit: int = 0
    rare: dict[str, int] = field(default_factory=dict)
    new_labels: dict[str, int] = field(default_factory=dict)

    def in_words(self) -> list[str]:
        """Sentences for the user."""
        told = [
            f"Feedback: {self.train} new sequences to train on, {self.valid} to validate and {self.gate} kept for the "
            f"gate; {self.confirmed} confirm a label of the base data and {self.conflicts} change one."
        ]
        if self.in_test:
            told.append(f"{self.in_test} stand in the test split and were left out, as it stays what it was.")
        if self.unfit:
            told.append(f"{self.unfit} are of another form than the base data's and were left out.")
        told += [f"{rows} rows of feedback bring the new class {name!r}." for name, rows in self.new_labels.items()]
        told += [
            f"{rows} rows of the new label {name!r} are too few and were left out." for name, rows in self.rare.items()
        ]
        return told

    def account(self) -> dict[str, Any]:
        """The figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class Merged:
    """The splits to train on, and the feedback that none of them holds."""

    splits: Splits
    held_out: Dataset | None
    counts: MergeCounts


def merge(base: Splits, test: Dataset | None, feedback: Iterable[Feedback], least_new_rows: int) -> Merged:
    """Put feedback into the splits of the base data.

    Args:
        test: the test rows, whose sequences are taken out of train and validation wherever they come from.
        feedback: the earliest first, each sequence once.
        least_new_rows: rows to train on that a label needs which the base data lacks.
    """
    counts = MergeCounts()
    tested = set() if test is None else {content.sha256_of(item) for item in test.items}
    train, valid = _Rows.of(base.train, tested), _Rows.of(base.valid, tested)
    gate = _Rows(base.train.take([]), {})
    fits = []
    for one in feedback:
        if not _fits(one, base.train):
            counts.unfit += 1
        elif one.sha256 in tested:
            counts.in_test += 1
        else:
            fits.append(one)
    known = frozenset[str]().union(*base.train.label_sets(), *base.valid.label_sets())
    learnt = Counter(label for one in fits if _part(one, train, valid) == "train" for label in _labels(one) - known)
    counts.new_labels = {label: rows for label, rows in sorted(learnt.items()) if rows >= least_new_rows}
    taken = known | counts.new_labels.keys()
    for one in fits:
        part = _part(one, train, valid)
        if unknown := _labels(one) - taken:
            for label in sorted(unknown):
                counts.rare[label] = counts.rare.get(label, 0) + 1
        elif one.sha256 in train.places or one.sha256 in valid.places:
            changed = (train if one.sha256 in train.places else valid).relabel(one)
            counts.conflicts += changed
            counts.confirmed += not changed
        else:
            {"train": train, "valid": valid, "gate": gate}[part].more.append(one)
    counts.train, counts.valid, counts.gate = (len(rows.more) for rows in (train, valid, gate))
    merged = _splits(base, train.dataset(), valid.dataset(), test, counts)
    return Merged(merged, gate.dataset() if gate.more else None, counts)


@dataclass
class _Rows:
    """The rows of a part, those of each sequence by its hash, and the feedback that joins them."""

    data: Dataset
    places: dict[bytes, list[int]]
    more: list[Feedback] = field(default_factory=list)

    @classmethod
    def of(cls, part: Dataset, without: set[bytes]) -> _Rows:
        keys = [content.sha256_of(item) for item in part.items]
        kept = [i for i, key in enumerate(keys) if key not in without]
        places: dict[bytes, list[int]] = {}
        for place, i in enumerate(kept):
            places.setdefault(keys[i], []).append(place)
        return cls(part.take(kept), places)

    def relabel(self, one: Feedback) -> bool:
        """Give the sequence's rows its label; whether one had another."""
        assert self.data.labels is not None
        places = self.places[one.sha256]
        changed = any(self.data.labels[place] != one.label for place in places)
        for place in places:
            self.data.labels[place] = one.label
        return changed

    def dataset(self) -> Dataset:
        """The rows, the feedback last."""
        if not self.more:
            return self.data
        groups = None if self.data.groups is None else [one.sha256.hex() for one in self.more]
        added = replace(
            self.data,
            items=[one.sequence for one in self.more],
            labels=[one.label for one in self.more],
            groups=groups,
            rows=np.arange(1, len(self.more) + 1),
        )
        return join([self.data, added])


def _part(one: Feedback, train: _Rows, valid: _Rows) -> str:
    """Where a sequence is: on the side where the base data has it, else where its hash says."""
    if one.sha256 in train.places:
        return "train"
    if one.sha256 in valid.places:
        return "valid"
    first = one.sha256[0]
    return "gate" if first < _GATE else "valid" if first < _VALID else "train"


def _fits(one: Feedback, like: Dataset) -> bool:
    """Whether a sequence and its label have the form of the base data's."""
    if (like.task == "step") != isinstance(one.label, list):
        return False
    if like.channels is not None:
        return isinstance(one.sequence, np.ndarray) and one.sequence.shape[1] == len(like.channels)
    return isinstance(one.sequence, list if like.task == "step" else str)


def _labels(one: Feedback) -> frozenset[str]:
    return frozenset([one.label] if isinstance(one.label, str) else one.label)


def _splits(base: Splits, train: Dataset, valid: Dataset, test: Dataset | None, counts: MergeCounts) -> Splits:
    seen = {content.sha256_of(item) for item in train.items}
    return replace(
        base,
        train=train,
        valid=valid,
        test=test,
        notes=[*base.notes, *counts.in_words()],
        valid_in_train=_mask(valid.items, seen),
        test_in_train=None if test is None else np.zeros(len(test), dtype=np.bool_),
    )


def _mask(items: Sequence[Any], seen: set[bytes]) -> Any:
    return np.array([content.sha256_of(item) in seen for item in items], dtype=np.bool_)
