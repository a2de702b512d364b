"""The temperature against a search of a fine grid, and against logits whose temperature is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from training.calibration import fit_temperature

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
