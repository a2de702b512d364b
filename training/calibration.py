"""Temperature scaling (Guo et al. 2017): one number that makes confidence mean what it says.

N rows (or steps), K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
