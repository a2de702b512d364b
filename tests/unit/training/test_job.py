"""What a job says of its data before it trains."""

from __future__ import annotations

import numpy as np
import pytest

from training.dataset import Dataset
from training.job import _scarcity
from training.splits import Splits


def part(rows: int, task: str = "sequence") -> Dataset:
    labels = ["a"] * rows if task == "sequence" else [["a", "b"]] * rows
    return Dataset("text", task, ["x y"] * rows, labels, None, None, "data.csv", np.arange(rows))  # type: ignore[arg-type]


def splits_of(train: int, valid: int, task: str = "sequence") -> Splits:
    parts = part(train, task), part(valid, task)
    return Splits(*parts, None, {"sequence": "text", "label": "label"}, [], np.zeros(valid, bool), None, True)


@pytest.mark.parametrize(
    ("train", "valid", "classes", "told"),
    [
        (8, 2, 2, ["validation split of 2", "4.0 train rows for each class"]),
        (300, 29, 3, ["validation split of 29"]),
        (3000, 300, 1000, ["3.0 train rows for each class"]),
        (300, 30, 3, []),
    ],
)
def test_few_rows_are_said_to_tell_little(train: int, valid: int, classes: int, told: list[str]) -> None:
    warnings = _scarcity(splits_of(train, valid), classes)
    assert len(warnings) == len(told)
    assert all(part in warning for part, warning in zip(told, warnings, strict=True))


def test_one_long_sequence_whose_steps_have_labels_is_not_called_few_rows() -> None:
    assert _scarcity(splits_of(1, 1, "step"), 2) == []
