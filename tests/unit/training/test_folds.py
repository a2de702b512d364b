"""The folds of cross-validation: every row once, like with like, and by a model that did not see it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from training import folds
from training.answers import Answered
from training.dataset import Dataset
from training.folds import answer_folds, held_out_rows


def texts(rows: int = 60, *, groups: list[str] | None = None) -> Dataset:
    """Each text stands twice; a third of the rows is of class b."""
    items = [f"text {i // 2}" for i in range(rows)]
    labels = ["b" if i // 2 % 3 == 0 else "a" for i in range(rows)]
    return Dataset("text", "sequence", items, labels, None, groups, "data.csv", np.arange(rows))


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_row_is_left_out_once_and_classes_are_shared_out(count: int) -> None:
    data = texts()
    parts = held_out_rows(data, count, seed=0)
    assert len(parts) == count
    assert sorted(np.concatenate(parts)) == list(range(60))
    for part in parts:
        shares = Counter(data.take(part).labels or ())
        assert shares["b"] == pytest.approx(20 / count, abs=2)


def test_equal_items_are_left_out_together() -> None:
    data = texts()
    for part in held_out_rows(data, 4, seed=3):
        assert all(count == 2 for count in Counter(data.take(part).items).values())


def test_a_group_is_left_out_whole() -> None:
    groups = [f"g{i % 7}" for i in range(60)]
    parts = held_out_rows(texts(groups=groups), 3, seed=0)
    assert sum(len({groups[i] for i in part}) for part in parts) == 7


def test_there_are_no_more_folds_than_contents() -> None:
    assert len(held_out_rows(texts(6), 10, seed=0)) == 3


def test_the_seed_decides_the_folds() -> None:
    one, same, other = (held_out_rows(texts(), 3, seed=seed) for seed in (0, 0, 1))
    assert [part.tolist() for part in one] == [part.tolist() for part in same]
    assert [part.tolist() for part in one] != [part.tolist() for part in other]


def test_rows_that_all_belong_together_have_no_folds() -> None:
    said: list[str] = []
    assert [*answer_folds(texts(groups=["one"] * 60), 3, 0, lambda rows, number: None, said.append)] == []
    assert said == ["No cross-validation: all rows belong together, so none can be left out"]


def test_a_row_is_answered_by_a_model_that_did_not_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[int, set[str]] = {}

    def train(rows: Dataset, number: int) -> Any:
        seen[number] = set(rows.items)
        return number

    def answer(model: Any, pieces: list[Dataset]) -> Answered:
        [piece] = pieces
        assert not seen[model] & set(piece.items)
        truth = [[label] for label in piece.labels or ()]
        shares = np.array([[0.6, 0.4]])
        return Answered(("a", "b"), "sequence", truth, [np.array([0])] * len(piece), [shares] * len(piece), piece.rows)

    monkeypatch.setattr(folds, "answer_all", answer)
    said: list[str] = []
    answers = [*answer_folds(texts(), 3, 0, train, said.append)]
    assert sorted(i for rows, _ in answers for i in rows.rows) == list(range(60))
    assert [line.partition(":")[0] for line in said] == ["Fold 1 of 3", "Fold 2 of 3", "Fold 3 of 3"]
