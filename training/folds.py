"""Cross-validation: every row is answered by a model that was trained without it, and without its like."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from gatewise.predictor import Predictor
from training.answers import Answered, answer_all
from training.callbacks import Say
from training.dataset import Dataset
from training.partition import strata
from training.splits import item_key


def held_out_rows(data: Dataset, folds: int, seed: int) -> list[NDArray[np.int64]]:
    """The rows that each fold leaves out: every row once, classes shared out alike, groups and equal items together."""
    keys = data.groups if data.groups is not None else [item_key(item) for item in data.items]
    numbers: dict[str | bytes, int] = {}
    units = np.array([numbers.setdefault(key, len(numbers)) for key in keys])
    _, first = np.unique(units, return_index=True)
    classes = np.array(strata(data.label_sets()))[first]
    mixed = np.random.default_rng(seed).permutation(len(first))
    dealt = mixed[np.argsort(classes[mixed], kind="stable")]
    fold_of_unit = np.empty(len(first), dtype=np.int64)
    fold_of_unit[dealt] = np.arange(len(first)) % folds
    parts = [np.flatnonzero(fold_of_unit[units] == fold) for fold in range(folds)]
    return [part for part in parts if len(part)]


def answer_folds(
    data: Dataset, folds: int, seed: int, train: Callable[[Dataset, int], Predictor], say: Say
) -> Iterator[tuple[Dataset, Answered]]:
    """Train without a part of the rows and answer that part, for each part in turn.

    Args:
        train: makes a model of the rows that it is given, for the fold of this number, from 1.
    """
    parts = held_out_rows(data, folds, seed)
    if len(parts) < 2:
        say("No cross-validation: all rows belong together, so none can be left out")
        return
    for number, held_out in enumerate(parts, 1):
        rest = np.setdiff1d(np.arange(len(data)), held_out)
        say(f"Fold {number} of {len(parts)}: training on {len(rest)} rows, to answer the other {len(held_out)}")
        rows = data.take(held_out)
        yield rows, answer_all(train(data.take(rest), number), [rows])
