"""Label sets against the definition of their quantile, and their coverage against simulated rows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from training.label_sets import fit_label_sets, sets_of


@pytest.mark.parametrize("rows", [9, 10, 19, 57, 300])
@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.99])
def test_the_threshold_is_the_quantile_of_the_definition(rows: int, coverage: float) -> None:
    likelihood = np.random.default_rng(rows).random(rows)
    rank = math.ceil(round((rows + 1) * coverage, 6))
    scores = np.sort(1 - likelihood)
    expected = 1 - scores[rank - 1] if rank <= rows else 0.0
    assert fit_label_sets(likelihood, coverage).threshold == pytest.approx(expected, abs=1e-12)


def test_nine_rows_are_enough_for_nine_tenths_and_eight_are_not() -> None:
    likelihood = np.linspace(0.9, 0.1, 9)
    assert fit_label_sets(likelihood, 0.9).threshold == pytest.approx(0.1)
    assert fit_label_sets(likelihood[:8], 0.9).threshold == 0.0


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_the_sets_hold_the_truth_as_often_as_stated(coverage: float) -> None:
    rng = np.random.default_rng(0)
    held = []
    for _ in range(300):
        # A model that is overconfident: the truth is drawn by other shares than it says.
        shares = rng.dirichlet(np.ones(5), size=200)
        said = shares**3 / (shares**3).sum(axis=1, keepdims=True)
        truth = (shares.cumsum(axis=1) > rng.random((200, 1))).argmax(axis=1)
        likelihood = said[np.arange(200), truth]
        label_sets = fit_label_sets(likelihood[:100], coverage)
        sets = sets_of(said[100:], said[100:].argmax(axis=1), label_sets)
        held.append(sets[np.arange(100), truth[100:]].mean())
    assert np.mean(held) == pytest.approx(coverage, abs=0.02)


def test_a_set_holds_the_answer_though_its_probability_is_too_low() -> None:
    label_sets = fit_label_sets(np.full(100, 0.6), 0.9)
    sets = sets_of(np.array([[0.5, 0.3, 0.2], [0.1, 0.7, 0.2]]), np.array([0, 2]), label_sets)
    assert sets.tolist() == [[True, False, False], [False, True, True]]
