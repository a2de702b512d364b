"""Feedback put into base data, row by row as a hand would."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gatewise.content import sha256_of
from training.dataset import Dataset
from training.merging import Feedback, merge
from training.splits import Splits


def rows(items: list[Any], labels: list[Any], kind: Any = "text", task: Any = "sequence", **fields: Any) -> Dataset:
    channels = ("x", "y") if kind == "series" else None
    return Dataset(kind, task, items, labels, channels, fields.get("groups"), "b.csv", np.arange(1, len(items) + 1))


def base(train: Dataset, valid: Dataset, test: Dataset | None = None) -> Splits:
    return Splits(train, valid, test, {}, ["divided"], np.zeros(len(valid), bool), None, divided=True)


TEXTS = base(rows(["a", "b", "b", "c"], ["x", "x", "x", "y"]), rows(["v"], ["x"]), rows(["t"], ["y"]))


def said(sequence: Any, label: Any, side: str | None = None) -> Feedback:
    """Feedback whose hash sends it to a side: the first byte decides, as `merging` states it."""
    first = {"gate": 0, "valid": 51, "train": 77}
    sha256 = sha256_of(sequence)
    return Feedback(sequence, label, sha256 if side is None else bytes([first[side]]) + sha256[1:])


def pairs(part: Dataset | None) -> list[tuple[Any, Any]]:
    assert part is not None
    assert part.labels is not None
    return list(zip(part.items, part.labels, strict=True))


def test_each_sequence_goes_to_one_side_and_the_latest_label_of_a_known_one_wins() -> None:
    feedback = [
        *(said("n1", "x", "train"), said("n2", "y", "valid"), said("n3", "y", "gate")),
        *(said("b", "y"), said("c", "y"), said("v", "y"), said("t", "x")),
    ]
    merged = merge(TEXTS, TEXTS.test, feedback, 10)
    assert pairs(merged.splits.train) == [("a", "x"), ("b", "y"), ("b", "y"), ("c", "y"), ("n1", "x")]
    assert pairs(merged.splits.valid) == [("v", "y"), ("n2", "y")]
    assert pairs(merged.splits.test) == [("t", "y")]
    assert pairs(merged.held_out) == [("n3", "y")]
    counts = merged.counts
    # b and v change, c is confirmed, t is of the test split.
    assert (counts.train, counts.valid, counts.gate) == (1, 1, 1)
    assert (counts.conflicts, counts.confirmed, counts.in_test) == (2, 1, 1)
    assert "2 change one" in counts.in_words()[0] or "change 2" in counts.in_words()[0]
    # The base data is as it was.
    assert pairs(TEXTS.train) == [("a", "x"), ("b", "x"), ("b", "x"), ("c", "y")]


def test_the_bytes_at_which_the_sides_meet() -> None:
    sha256 = sha256_of("n")
    sides = {}
    for first in (0, 50, 51, 76, 77, 255):
        merged = merge(TEXTS, None, [Feedback("n", "x", bytes([first]) + sha256[1:])], 10)
        counts = merged.counts
        sides[first] = (counts.gate, counts.valid, counts.train)
    gate, valid, train = (1, 0, 0), (0, 1, 0), (0, 0, 1)
    assert sides == {0: gate, 50: gate, 51: valid, 76: valid, 77: train, 255: train}


def test_a_sequence_is_on_the_same_side_whatever_else_comes() -> None:
    sequences = [f"s{i}" for i in range(300)]
    alone = merge(TEXTS, None, [said(sequence, "x") for sequence in sequences], 10)
    more = merge(TEXTS, None, [said(f"more{i}", "y") for i in range(50)] + [said(s, "y") for s in sequences[::-1]], 10)
    held = {item for item, _ in pairs(alone.held_out)}
    assert held == {item for item, _ in pairs(more.held_out)} & set(sequences)
    # A fifth, within three standard deviations of 300 draws.
    assert abs(len(held) - 300 * 51 / 256) < 3 * np.sqrt(300 * 0.2 * 0.8)


def test_rows_of_the_test_never_enter_training_wherever_they_come_from() -> None:
    test = rows(["c", "n"], ["y", "x"])
    merged = merge(TEXTS, test, [said("n", "x")], 10)
    assert pairs(merged.splits.train) == [("a", "x"), ("b", "x"), ("b", "x")]
    assert merged.splits.test is test
    assert merged.counts.in_test == 1


@pytest.mark.parametrize(("count", "is_taken"), [(9, False), (10, True)])
def test_a_new_label_becomes_a_class_from_so_many_rows_to_train_on(count: int, is_taken: bool) -> None:
    feedback = [said(f"n{i}", "z", "train") for i in range(count)] + [said("g", "z", "gate"), said("a", "z")][:1]
    merged = merge(TEXTS, TEXTS.test, feedback, 10)
    assert (("n0", "z") in pairs(merged.splits.train)) == is_taken
    assert (merged.held_out is not None) == is_taken
    assert merged.counts.new_labels == ({"z": count} if is_taken else {})
    assert merged.counts.rare == ({} if is_taken else {"z": count + 1})


def test_feedback_of_another_form_is_left_out_and_counted() -> None:
    series = base(
        rows([np.zeros((3, 2), np.float32)], ["x"], "series"), rows([np.ones((2, 2), np.float32)], ["y"], "series")
    )
    feedback = [
        said(np.full((4, 2), 5, np.float32), "x", "train"),
        *(said(np.zeros((4, 3), np.float32), "x"), said("text", "x"), said(np.zeros((3, 2), np.float32), ["x"] * 3)),
    ]
    merged = merge(series, None, feedback, 10)
    assert (len(merged.splits.train), merged.counts.train, merged.counts.unfit) == (2, 1, 3)
    assert merged.splits.test_in_train is None


def test_labels_of_steps_are_taken_whole_and_a_group_of_its_own_each() -> None:
    tags = base(
        rows([["p", "q"]], [["A", "B"]], task="step", groups=["g"]), rows([["r"]], [["A"]], task="step", groups=["h"])
    )
    merged = merge(tags, None, [said(["p", "q"], ["B", "B"]), said(["n"], ["A"], "train"), said(["m"], ["C"])], 2)
    assert pairs(merged.splits.train) == [(["p", "q"], ["B", "B"]), (["n"], ["A"])]
    assert merged.splits.train.groups is not None
    assert len(set(merged.splits.train.groups)) == 2
    assert (merged.counts.conflicts, merged.counts.rare) == (1, {"C": 1})
