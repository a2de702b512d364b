"""Split-conformal label sets: as few labels as hold the true one at a stated coverage.

The score of a label is its probability; the set is every label whose probability reaches the threshold, and the answer
itself. On rows exchangeable with those of the fit, a share of at least `coverage` of the sets holds the true label,
whatever the model (Vovk et al. 2005; least ambiguous sets: Sadinle, Lei & Wasserman 2019). Here the rows of the fit
also gave the temperature and chose the cell, which is a handful of choices on them, and a model that is trained once
more on them is another model: so the coverage is measured on test rows as well. N rows (or steps), K classes.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gatewise.artifact import LabelSets

_ROUNDING = 1e-9


def fit_label_sets(likelihood: NDArray[np.float64], coverage: float) -> LabelSets:
    """Return the threshold that all but a share of 1 - coverage of the true labels reach, N + 1 rows counted.

    Args:
        likelihood: the probability of the true label of each validation row, (N,).
    """
    kept = math.ceil((len(likelihood) + 1) * coverage - _ROUNDING)
    outside = len(likelihood) - kept
    # Too few rows for the coverage: only the set of all labels has it.
    threshold = float(np.sort(likelihood)[outside]) if outside >= 0 else 0.0
    return LabelSets(coverage=coverage, threshold=threshold)


def sets_of(probabilities: NDArray[np.float64], answers: NDArray[np.int64], label_sets: LabelSets) -> NDArray[np.bool_]:
    """Which labels are in the set of each row, (N, K)."""
    held: NDArray[np.bool_] = probabilities >= label_sets.threshold
    held[np.arange(len(held)), answers] = True
    return held
