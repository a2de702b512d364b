"""Temperature scaling (Guo et al. 2017): one number that makes confidence mean what it says, and how nearly it does.

N rows (or steps), K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Bins of equal width between 0 and 1, as Guo et al. have them.
BINS = 15
_DRAWS = 100
_LOG_BOUND = float(np.log(4.0))
# As if this many rows had said that the temperature is 1: a small split without a single mistake would else make it 0.
_PRIOR_ROWS = 5.0


def fit_temperature(logits: NDArray[Any], truth: NDArray[np.int64]) -> float:
    """Return the temperature, between 1/4 and 4, under which `truth` is most likely.

    Args:
        logits: (N, K), of the validation split.
        truth: (N,), class indices.
    """
    rows = np.arange(len(truth))
    scores = logits.astype(np.float64)

    def loss(log_temperature: float) -> float:
        scaled = scores * np.exp(-log_temperature)
        highest = scaled.max(axis=1)
        partition = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
        return float((partition - scaled[rows, truth]).sum() + _PRIOR_ROWS * log_temperature**2)

    return float(np.exp(_minimize(loss, -_LOG_BOUND, _LOG_BOUND)))


class Bin(NamedTuple):
    """The answers whose confidence lies in (low, high]; `confidence` and `accuracy` are their means."""

    low: float
    high: float
    rows: int
    confidence: float
    accuracy: float


def reliability(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> list[Bin]:
    """Return the bins that hold answers, from the least confident up.

    Args:
        confidence: of each answer, (N,).
        correct: whether it was right, (N,).
    """
    places = _places(confidence)
    found = []
    for place in np.unique(places):
        inside = places == place
        means = float(confidence[inside].mean()), float(correct[inside].mean())
        found.append(Bin(place / BINS, (place + 1) / BINS, int(inside.sum()), *means))
    return found


def calibration_error(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> float:
    """Expected calibration error: the mean over answers of how far their bin's confidence is from its accuracy.

    Source: Naeini et al. 2015, Guo et al. 2017; of the answer's confidence alone, in 15 bins of equal width.
    """
    gap = np.bincount(_places(confidence), confidence - correct, BINS)
    return float(np.abs(gap).sum() / len(confidence))


def error_by_chance(confidence: NDArray[np.float64], *, seed: int = 0) -> float:
    """The mean calibration error where each confidence is exactly right: what so few rows show of a perfect model.

    Each answer is drawn right with the probability that its confidence says, a hundred times over.
    """
    rng = np.random.default_rng(seed)
    errors = [calibration_error(confidence, rng.random(len(confidence)) < confidence) for _ in range(_DRAWS)]
    return float(np.mean(errors))


def before_scaling(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """What calibrated probabilities (N, K) were before the temperature: softmax(z) of softmax(z / temperature)."""
    raised: NDArray[np.float64] = (probabilities / probabilities.max(axis=1, keepdims=True)) ** temperature
    raised /= raised.sum(axis=1, keepdims=True)
    return raised


def _places(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each confidence; 1/15 exactly belongs to the first."""
    return np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)


def _minimize(function: Callable[[float], float], low: float, high: float, *, tolerance: float = 1e-4) -> float:
    """Golden-section search for the minimum of a function with one."""
    ratio = (np.sqrt(5.0) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    fa, fb = function(a), function(b)
    while high - low > tolerance:
        if fa < fb:
            high, b, fb = b, a, fa
            a = high - ratio * (high - low)
            fa = function(a)
        else:
            low, a, fa = a, b, fb
            b = low + ratio * (high - low)
            fb = function(b)
    return float((low + high) / 2)
