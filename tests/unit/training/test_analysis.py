"""The analysis of errors, against scikit-learn, scipy and counts by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from tests.reports import answered
from training.analysis import (
    answering_curve,
    by_length,
    class_figures,
    confident_mistakes,
    confusion,
    label_suspects,
    quantiles,
    share,
)
from training.answers import Answered, joined

LABELS = ("a", "b", "c", "d")


def flat(answers: Answered) -> tuple[list[str], list[str]]:
    return [label for row in answers.truth for label in row], [LABELS[k] for row in answers.classes for k in row]


@pytest.mark.parametrize(("count", "rows"), [(0, 7), (7, 7), (3, 7), (900, 1000)])
def test_the_interval_of_a_share_is_wilsons(count: int, rows: int) -> None:
    expected = binomtest(count, rows).proportion_ci(0.95, method="wilson")
    found = share(count, rows)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-6)
    assert found.value == pytest.approx(count / rows)


def test_a_share_of_nothing_has_no_figures() -> None:
    assert share(0, 0).model_dump() == {"count": 0, "rows": 0, "value": None, "low": None, "high": None}


@pytest.mark.parametrize("steps", [False, True])
def test_the_figures_of_each_class_are_those_of_scikit_learn(steps: bool) -> None:
    answers = answered(200, LABELS, steps=steps)
    truth, given = flat(answers)
    expected = precision_recall_fscore_support(truth, given, labels=list(LABELS))
    found = class_figures(answers)
    assert [c.label for c in found] == list(LABELS)
    for figures, *values in zip(found, *expected, strict=True):
        assert (figures.precision, figures.recall, figures.f1, figures.support) == pytest.approx(tuple(values))


def test_a_class_that_nothing_is_of_has_no_figures() -> None:
    one = Answered(("a", "b"), "sequence", [["a"]], [np.array([0])], [np.array([[0.9, 0.1]])], np.array([3]))
    assert class_figures(one)[1].model_dump() == {
        "label": "b", "precision": None, "recall": None, "f1": None, "support": 0,
    }  # fmt: skip


def test_labels_that_training_never_saw_count_as_wrong_and_for_no_class() -> None:
    shares = np.array([[0.9, 0.1]])
    rows = Answered(("a", "b"), "sequence", [["a"], ["z"]], [np.array([0])] * 2, [shares] * 2, np.array([3, 4]))
    assert rows.correct.tolist() == [True, False]
    assert rows.likelihood.tolist() == [0.9, 0.0]
    assert (class_figures(rows)[0].precision, class_figures(rows)[0].recall) == (0.5, 1.0)
    assert confusion(rows).counts == [[1, 0], [0, 0]]
    assert label_suspects(rows) == []


def test_the_confusion_is_that_of_scikit_learn_with_its_most_frequent_pairs() -> None:
    answers = answered(300, LABELS)
    truth, given = flat(answers)
    expected = confusion_matrix(truth, given, labels=list(LABELS))
    found = confusion(answers)
    assert (found.labels, found.left_out) == (list(LABELS), 0)
    assert found.counts == expected.tolist()
    pairs = {(LABELS[a], LABELS[b]): int(expected[a, b]) for a in range(4) for b in range(4) if a != b}
    counts = [count for _, _, count in found.pairs]
    assert counts == sorted(pairs.values(), reverse=True)
    assert all(pairs[a, b] == count for a, b, count in found.pairs)


def test_of_many_classes_the_most_confused_are_shown() -> None:
    labels = tuple(f"k{k:02d}" for k in range(30))
    # k07 is always taken for k21, and k03 now and then for k04; the others are never mistaken.
    truth = [*range(30)] * 4 + [7] * 5 + [3]
    given = [*range(30)] * 4 + [21] * 5 + [4]
    shares = np.full((1, 30), 1 / 30)
    answers = Answered(
        labels,
        "sequence",
        [[labels[k]] for k in truth],
        [np.array([k]) for k in given],
        [shares] * 126,
        np.ones(126, int),
    )
    found = confusion(answers)
    assert found.left_out == 18
    assert {"k03", "k04", "k07", "k21"} <= set(found.labels)
    assert found.labels == sorted(found.labels)
    assert found.pairs == [("k07", "k21", 5), ("k03", "k04", 1)]
    assert found.counts[found.labels.index("k07")][found.labels.index("k21")] == 5


@pytest.mark.parametrize("steps", [False, True])
def test_every_answer_is_in_the_group_of_its_sequences_length(steps: bool) -> None:
    answers = answered(200, LABELS, steps=steps)
    groups = by_length(answers)
    assert sum(group.sequences for group in groups) == 200
    assert all(a.high < b.low for a, b in itertools.pairwise(groups))
    for group in groups:
        rows = np.flatnonzero((answers.lengths >= group.low) & (answers.lengths <= group.high))
        inside = answers.take(rows)
        assert (group.correct.count, group.correct.rows) == (int(inside.correct.sum()), len(inside.correct))


def test_sequences_of_one_length_are_one_group() -> None:
    answers = answered(20, LABELS)
    equal = Answered(LABELS, "sequence", answers.truth, answers.classes, answers.probabilities, np.full(20, 7))
    [group] = by_length(equal)
    assert (group.low, group.high, group.sequences) == (7, 7, 20)


def test_mistakes_come_most_confident_first() -> None:
    answers = answered(100, LABELS, steps=True)
    places = confident_mistakes(answers, 15)
    assert len(places) == 15
    assert not answers.correct[places].any()
    confidences = answers.confidence[places]
    assert (np.diff(confidences) <= 0).all()
    assert np.sort(answers.confidence[~answers.correct])[-15:] == pytest.approx(confidences[::-1])


def test_suspects_are_the_labels_that_were_made_wrong() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, size=400)
    shares = np.full((400, 4), 0.02)
    shares[np.arange(400), truth] = 0.94
    unsure = rng.choice(400, size=60, replace=False)
    shares[unsure] = 0.25 + rng.normal(scale=0.01, size=(60, 4))
    shares /= shares.sum(axis=1, keepdims=True)
    flipped = np.setdiff1d(np.arange(400), unsure)[:12]
    labels = [LABELS[(k + 1) % 4] if i in flipped else LABELS[k] for i, k in enumerate(truth)]
    classes = [np.array([k]) for k in shares.argmax(axis=1)]
    answers = Answered(
        LABELS, "sequence", [[label] for label in labels], classes, [*shares[:, None]], np.ones(400, int)
    )
    # Rows that the model is unsure of are mistakes as well, and no suspects.
    assert (~answers.correct).sum() > 40
    assert sorted(label_suspects(answers)) == flipped.tolist()


def test_the_answering_curve_is_precision_by_share() -> None:
    answers = answered(150, LABELS)
    curve = answering_curve(answers, points=40)
    assert curve[-1] == pytest.approx((1.0, answers.correct.mean()))
    for part, precision in curve:
        threshold = np.sort(answers.confidence)[::-1][round(part * 150) - 1]
        given = answers.confidence >= threshold
        assert part == pytest.approx(given.mean())
        assert precision == pytest.approx(answers.correct[given].mean())


def test_parts_are_joined_in_their_order() -> None:
    one, other = answered(5, LABELS, seed=1, steps=True), answered(7, LABELS, seed=2, steps=True)
    both = joined([one, other])
    assert len(both) == 12
    assert both.truth == [*one.truth, *other.truth]
    assert both.confidence == pytest.approx(np.concatenate([one.confidence, other.confidence]))
    assert both.take(range(5, 12)).correct.tolist() == other.correct.tolist()


def test_quantiles_are_lengths_that_there_are() -> None:
    assert quantiles([5, 1, 2, 100, 3]) == (1, 3, 100, 100)
