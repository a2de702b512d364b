"""The temperature against a search of a fine grid and known logits; the calibration error against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from training.calibration import (
    before_scaling,
    calibration_error,
    error_by_chance,
    fit_temperature,
    reliability,
)

GRID = np.exp(np.linspace(-np.log(4), np.log(4), 20_001))


def drawn(rows: int, seed: int = 0, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Logits that mean what they say: each truth is drawn by their own softmax."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(rows, classes))
    shares = np.exp(log_softmax(logits, axis=1))
    truth = np.array([rng.choice(classes, p=p) for p in shares])
    return logits.astype(np.float32), truth


def loss(temperature: float, logits: np.ndarray, truth: np.ndarray) -> float:
    """Log loss, and five rows' worth of belief that the temperature is 1."""
    likelihood = log_softmax(logits.astype(np.float64) / temperature, axis=1)[np.arange(len(truth)), truth]
    return float(-likelihood.sum() + 5 * np.log(temperature) ** 2)


@pytest.mark.parametrize("rows", [3, 30, 300])
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 3.0, 20.0])
def test_the_temperature_is_the_best_of_a_fine_grid(rows: int, scale: float) -> None:
    logits, truth = drawn(rows, seed=rows)
    logits = logits * np.float32(scale)
    best = GRID[np.argmin([loss(t, logits, truth) for t in GRID[::20]]) * 20]
    found = fit_temperature(logits, truth)
    assert found == pytest.approx(best, rel=3e-3)
    assert loss(found, logits, truth) <= loss(best, logits, truth) + 1e-4 * rows


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_logits_that_say_too_much_or_too_little_are_set_right(temperature: float) -> None:
    logits, truth = drawn(20_000)
    assert fit_temperature(logits * np.float32(temperature), truth) == pytest.approx(temperature, rel=0.03)


def test_the_temperature_keeps_its_bounds() -> None:
    logits, truth = drawn(2000)
    assert fit_temperature(logits * np.float32(100), truth) == pytest.approx(4.0, rel=1e-3)
    assert fit_temperature(logits * np.float32(0.01), truth) == pytest.approx(0.25, rel=1e-3)


def test_a_tiny_split_without_a_mistake_does_not_make_the_model_certain() -> None:
    truth = np.array([0, 1, 2, 0, 1, 2])
    logits = 1.5 * np.eye(3, dtype=np.float32)[truth]
    temperature = fit_temperature(logits, truth)
    confidence = np.exp(log_softmax(logits / temperature, axis=1)).max(axis=1)
    before = np.exp(log_softmax(logits, axis=1)).max(axis=1)
    assert 0.5 < temperature < 1.0
    assert (before < confidence).all()
    assert (confidence < 0.92).all()


def test_logits_as_large_as_they_come_do_not_overflow() -> None:
    logits = np.array([[3e38, -3e38], [1e30, 0.0]], dtype=np.float32)
    assert 0.25 <= fit_temperature(logits, np.array([0, 1])) <= 4.0


# Bins of 1/15: 0.50 in (7/15, 8/15], 0.60 ends (8/15, 9/15], 0.95 and 1 in the last.
CONFIDENCE = np.array([0.5, 0.5, 0.6, 0.95, 1.0])
CORRECT = np.array([True, False, True, True, False])


def test_the_calibration_error_is_the_mean_gap_of_the_bins_by_their_rows() -> None:
    # |1.0 - 1| / 5 for the pair at 0.5, |0.6 - 1| / 5, |1.95 - 1| / 5
    assert calibration_error(CONFIDENCE, CORRECT) == pytest.approx((0.0 + 0.4 + 0.95) / 5)


def test_the_bins_hold_the_means_of_their_answers() -> None:
    assert [tuple(found) for found in reliability(CONFIDENCE, CORRECT)] == [
        pytest.approx((7 / 15, 8 / 15, 2, 0.5, 0.5)),
        pytest.approx((8 / 15, 9 / 15, 1, 0.6, 1.0)),
        pytest.approx((14 / 15, 1.0, 2, 0.975, 0.5)),
    ]


def test_the_error_is_that_of_the_bins_whatever_they_hold() -> None:
    rng = np.random.default_rng(0)
    confidence, correct = rng.random(1000), rng.random(1000) < 0.7
    bins = reliability(confidence, correct)
    assert sum(found.rows for found in bins) == 1000
    by_hand = sum(found.rows * abs(found.confidence - found.accuracy) for found in bins) / 1000
    assert calibration_error(confidence, correct) == pytest.approx(by_hand)


def test_chance_alone_shows_an_error_that_more_rows_make_smaller() -> None:
    rng = np.random.default_rng(0)
    few, many = (error_by_chance(rng.uniform(0.5, 1, size=rows)) for rows in (100, 10_000))
    # A bin of n answers at p is off by sqrt(2 p (1 - p) / (pi n)) on average; 7.5 bins share the rows here.
    assert few == pytest.approx(10 * many, rel=0.15)
    assert many == pytest.approx(0.0089, rel=0.15)
    assert error_by_chance(np.ones(50)) == 0


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_probabilities_before_scaling_are_the_softmax_of_the_logits(temperature: float) -> None:
    logits, _ = drawn(50)
    scaled = np.exp(log_softmax(logits.astype(np.float64) / temperature, axis=1))
    plain = np.exp(log_softmax(logits.astype(np.float64), axis=1))
    np.testing.assert_allclose(before_scaling(scaled, temperature), plain, rtol=1e-9)
