"""The threshold of abstaining against scipy's exact binomial test, and what it promises against simulated splits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from training.abstaining import answering, fit_threshold, lower_bound, rows_needed


@pytest.mark.parametrize(("right", "answered"), [(0, 3), (1, 1), (45, 45), (312, 327), (9, 20)])
def test_the_bound_is_that_of_the_exact_test(right: int, answered: int) -> None:
    exact = binomtest(right, answered, alternative="greater").proportion_ci(0.9, method="exact").low
    assert lower_bound(np.array([right]), np.array([answered]))[0] == pytest.approx(exact)


@pytest.mark.parametrize("target", [0.8, 0.95, 0.99])
def test_as_many_answers_without_a_mistake_as_are_needed_show_the_target(target: float) -> None:
    rows = rows_needed(target)
    bounds = lower_bound(np.array([rows - 1, rows]), np.array([rows - 1, rows]))
    assert bounds[0] < target <= bounds[1]


def test_the_threshold_is_the_lowest_that_is_shown_to_reach_the_target() -> None:
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.4, 1, size=500)
    correct = rng.random(500) < confidence
    abstaining = fit_threshold(confidence, correct, 0.8)
    shown = []
    for threshold in confidence:
        at = answering(confidence, correct, abstaining.model_copy(update={"threshold": float(threshold)}))
        exact = binomtest(at.right, at.answered, alternative="greater").proportion_ci(0.9, method="exact").low
        shown += [threshold] if exact >= 0.8 else []
    assert abstaining.threshold == min(shown)


def test_equal_confidences_are_answered_together_or_not_at_all() -> None:
    confidence = np.repeat([0.9, 0.6], 60)
    correct = np.repeat([True, True, False], [60, 20, 40])
    abstaining = fit_threshold(confidence, correct, 0.95)
    assert abstaining.threshold == 0.9
    assert answering(confidence, correct, abstaining) == (120, 60, 60)


def test_too_few_rows_or_a_model_too_poor_have_no_threshold_and_answer_nothing() -> None:
    for rows, right in [(44, 44), (500, 300)]:
        confidence, correct = np.linspace(0.5, 1, rows), np.random.default_rng(0).permutation(np.arange(rows) < right)
        abstaining = fit_threshold(confidence, correct, 0.95)
        assert abstaining.threshold is None
        assert abstaining.refuses(1.0)
        at = answering(confidence, correct, abstaining)
        assert (at.answered, at.share, at.precision) == (0, 0.0, None)


def test_on_new_rows_the_target_is_missed_by_few_splits() -> None:
    rng = np.random.default_rng(0)
    fresh = rng.uniform(0.5, 1, size=100_000)
    missed = 0
    for _ in range(200):
        confidence = rng.uniform(0.5, 1, size=500)
        threshold = fit_threshold(confidence, rng.random(500) < confidence, 0.9).threshold
        missed += threshold is not None and fresh[fresh >= threshold].mean() < 0.9
    assert 0 < missed < 35  # of 200; the bare precision would miss about a hundred
