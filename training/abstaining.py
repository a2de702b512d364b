"""A confidence below which predictions are marked as abstained, so that the others reach a target precision.

N answers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from gatewise.artifact import Abstaining

# The threshold whose bare precision on validation reaches the target misses it on other rows every second time, by
# selection alone. In simulations of 200 to 2,000 rows a bound of this confidence at each threshold, though not
# corrected for the choice among them, missed it in about a tenth of the splits.
CONFIDENCE = 0.9


class Answering(NamedTuple):
    """What is answered of some rows at a threshold.

    Attributes:
        rows: all of them.
        answered: those whose confidence reaches the threshold.
        right: the right ones of these.
    """

    rows: int
    answered: int
    right: int

    @property
    def share(self) -> float:
        """The share of the rows that is answered."""
        return self.answered / self.rows

    @property
    def precision(self) -> float | None:
        """The share of the answered that is right; None where none is answered."""
        return self.right / self.answered if self.answered else None


def fit_threshold(confidence: NDArray[np.float64], correct: NDArray[np.bool_], target_precision: float) -> Abstaining:
    """Return the lowest threshold whose answers are shown to reach the target.

    Shown: the lower bound of their precision (Clopper & Pearson 1934, one-sided, at 90 %) is no less than the target.
    Where no threshold is, the result has none.

    Args:
        confidence, correct: of the validation split, (N,).
    """
    order = np.argsort(-confidence, kind="stable")
    right, answered = np.cumsum(correct[order].astype(np.int64)), np.arange(1, len(order) + 1)
    falling = confidence[order]
    # Equal confidences are answered together or not at all.
    is_last = np.append(falling[1:] != falling[:-1], True)
    reaches = np.flatnonzero(is_last & (lower_bound(right, answered) >= target_precision))
    threshold = float(falling[reaches[-1]]) if len(reaches) else None
    return Abstaining(target_precision=target_precision, threshold=threshold)


def lower_bound(right: NDArray[np.int64], answered: NDArray[np.int64]) -> NDArray[np.float64]:
    """The precision that `right` of `answered` show with 90 % confidence, (N,)."""
    bound: NDArray[np.float64] = np.where(
        right > 0, beta.ppf(1 - CONFIDENCE, np.maximum(right, 1), answered - right + 1), 0.0
    )
    return bound


def rows_needed(target_precision: float) -> int:
    """How many answers without a mistake show the target."""
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(target_precision))


def answering(confidence: NDArray[np.float64], correct: NDArray[np.bool_], abstaining: Abstaining) -> Answering:
    """What is answered of rows (N,)."""
    threshold = abstaining.threshold
    answered = np.zeros(len(confidence), dtype=np.bool_) if threshold is None else confidence >= threshold
    return Answering(len(confidence), int(answered.sum()), int((answered & correct).sum()))
