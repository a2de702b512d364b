"""Intervals and tests against scipy's own, and against cases that can be counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from training.metrics import classification, span_f1
from training.resampling import RESAMPLES, intervals, paired_test
from training.tallies import Tally, mean_of, pooled, tally_all

LABELS = ("a", "b", "c")


def accuracy_of(correct: Any) -> Tally:
    return mean_of(np.array(correct, dtype=np.float64), np.ones(len(correct)))


def answers(rows: int, seed: int, labels: tuple[str, ...] = LABELS) -> tuple[list[Any], list[Any], list[Any]]:
    """Truth, answers and probabilities of rows of one to four steps, some with a label that training never saw."""
    rng = np.random.default_rng(seed)
    truth, answered, probabilities = [], [], []
    for steps in rng.integers(1, 5, size=rows):
        truth.append([str(label) for label in rng.choice([*labels, "unseen"], size=steps, p=[0.5, 0.3, 0.15, 0.05])])
        p = rng.dirichlet(np.ones(len(labels)), size=steps)
        probabilities.append(p)
        answered.append([labels[k] for k in p.argmax(axis=1)])
    return truth, answered, probabilities


def by_scipy(values: Any) -> tuple[float, float]:
    found = scipy.stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=0)
    return found.confidence_interval.low, found.confidence_interval.high


def flat(rows: list[list[str]]) -> list[str]:
    return [label for row in rows for label in row]


def test_tallies_give_the_metrics_of_all_rows_and_of_any_resample() -> None:
    truth, answered, p = answers(40, 0)
    tallies = tally_all(truth, answered, p, LABELS, per_step=True)
    drawn = np.random.default_rng(1).integers(40, size=40)
    counts = np.bincount(drawn, minlength=40)[None].astype(float)
    for rows, found in (
        (range(40), {name: tally.value for name, tally in tallies.items()}),
        (drawn, {name: float(tally.of(counts)[0]) for name, tally in tallies.items()}),
    ):
        truths, given = (flat([part[i] for i in rows]) for part in (truth, answered))
        assert found == pytest.approx(classification(truths, given, np.concatenate([p[i] for i in rows]), LABELS))


def test_spans_are_tallied_where_tags_are_bio() -> None:
    labels = ("B-x", "I-x", "O")
    truth = [["B-x", "I-x", "O"], ["O", "B-x"], ["O"]]
    given = [["B-x", "I-x", "O"], ["B-x", "B-x"], ["O"]]
    p = [np.full((len(row), 3), 1 / 3) for row in truth]
    tally = tally_all(truth, given, p, labels, per_step=True)["span_f1"]
    assert tally.value == span_f1(truth, given) == 0.8
    # Without any span there is nothing to miss.
    assert tally.of(np.array([[0.0, 0.0, 2.0]]))[0] == 1.0
    assert "span_f1" not in tally_all(truth, given, p, labels, per_step=False)


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    correct = np.random.default_rng(0).random(200) < 0.8
    [found] = intervals([[accuracy_of(correct)]])
    expected = by_scipy(correct.astype(float))
    assert found == pytest.approx(expected, abs=0.012)


def test_rows_without_a_mistake_leave_room_for_those_that_were_not_seen() -> None:
    perfect, hopeless = intervals([[accuracy_of([1] * 30)], [accuracy_of([0] * 30)]])
    assert (perfect, hopeless) == ((0.9, 1.0), (0.0, 0.1))
    assert intervals([[accuracy_of([1] * 5)], [accuracy_of([0, 1, 1, 1, 1])]]) == [None, None]


def test_the_interval_of_a_paired_difference_is_scipys() -> None:
    rng = np.random.default_rng(3)
    ours = rng.random(300) < 0.8
    theirs = np.where(rng.random(300) < 0.1, ~ours, ours)
    test = paired_test(("a", "b"), "accuracy", [accuracy_of(ours)], [accuracy_of(theirs)])
    difference = ours.astype(float) - theirs
    expected = by_scipy(difference)
    assert test.difference == pytest.approx(difference.mean())
    assert (test.low, test.high) == pytest.approx(expected, abs=0.01)


def test_the_p_value_of_right_and_wrong_answers_is_that_of_the_sign_test() -> None:
    # 14 rows are right in one alone, 4 in the other alone: McNemar's exact test.
    ours = [1] * 50 + [1] * 14 + [0] * 4
    theirs = [1] * 50 + [0] * 14 + [1] * 4
    test = paired_test(("a", "b"), "accuracy", [accuracy_of(ours)], [accuracy_of(theirs)])
    expected = scipy.stats.binomtest(14, 18).pvalue
    assert test.p_value == pytest.approx(expected, abs=4 * np.sqrt(expected / RESAMPLES))
    assert test.p_value < 0.05


def test_a_difference_that_is_won_and_lost_on_many_rows_tells_nothing() -> None:
    base = np.array([1] * 60 + [0] * 40)
    mixed = base.copy()
    mixed[40:60], mixed[60:84] = 0, 1
    assert not paired_test(("a", "b"), "accuracy", [accuracy_of(mixed)], [accuracy_of(base)]).is_clear
    better = base.copy()
    better[60:68] = 1
    assert paired_test(("a", "b"), "accuracy", [accuracy_of(better)], [accuracy_of(base)]).is_clear


@pytest.mark.parametrize("rows", [1, 2, 5, 6])
def test_fewer_than_six_rows_tell_nothing_however_large_the_difference(rows: int) -> None:
    # All rows for one: the chance of that by lot is a half to the power of the rows, for either of the two.
    test = paired_test(("a", "b"), "accuracy", [accuracy_of([1] * rows)], [accuracy_of([0] * rows)])
    assert test.p_value == pytest.approx(min(1.0, 2 * 0.5**rows), abs=0.05)
    assert (test.low is None) == (rows < 6)
    assert test.is_clear == (rows == 6)


def test_equal_answers_have_a_p_value_of_one() -> None:
    tally = accuracy_of([1, 0, 1, 1] * 2)
    test = paired_test(("a", "b"), "accuracy", [tally], [tally])
    assert (test.difference, test.p_value, test.low, test.high) == (0.0, 1.0, 0.0, 0.0)


def test_seeds_that_differ_widen_the_interval() -> None:
    rng = np.random.default_rng(0)
    seeds = [accuracy_of(rng.random(1000) < share) for share in (0.6, 0.75, 0.9)]
    together, alone = intervals([seeds, [seeds[1]]])
    assert together is not None
    assert alone is not None
    assert together[1] - together[0] > 2 * (alone[1] - alone[0])
    assert together[0] < pooled(seeds).value < together[1]
    # What one seed of three wins, two lose: rows alone would call it clear.
    other = [accuracy_of(rng.random(1000) < 0.7) for _ in range(3)]
    test = paired_test(("a", "b"), "accuracy", seeds, other)
    assert "rows and seeds" in test.method
    assert test.p_value < 0.05
    assert not test.is_clear


def test_macro_f1_is_compared_as_such() -> None:
    # Both are right on 90 of 100 rows; one never names the rare class.
    truth = [["a"]] * 80 + [["b"]] * 20
    careless = [["a"]] * 90 + [["b"]] * 10
    never = [["a"]] * 100
    p = [np.full((1, 3), 1 / 3)] * 100
    one, other = (tally_all(truth, given, p, LABELS, per_step=False)["macro_f1"] for given in (careless, never))
    test = paired_test(("a", "b"), "macro_f1", [one], [other])
    assert test.difference == pytest.approx((2 * 80 / 170 + 2 * 10 / 30) / 2 - (2 * 80 / 180) / 2)
    assert test.is_clear


def test_the_same_rows_give_the_same_figures_again() -> None:
    ours, theirs = accuracy_of(np.arange(50) % 3 > 0), accuracy_of(np.arange(50) % 4 > 0)
    first, again = (paired_test(("a", "b"), "accuracy", [ours], [theirs]) for _ in range(2))
    assert first == again
    assert 0.05 < first.p_value < 1
