"""Series as wholes: random convolutions with a ridge, and the nearest neighbour under time warping, by aeon.

N series, C channels, T timesteps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.comparators.interface import Answered, Comparator, TooMuch, whole_series
from training.dataset import Dataset

# The shortest series that MiniRocket's kernels of 9 steps take.
_SHORTEST = 9
_KERNELS = 10_000
# A ridge over 10,000 features of more rows than this needs more memory and hours than a small machine has.
_MOST_ROWS = 20_000
# Cells of warping matrices times channels; a core fills some 300 million a second.
_MOST_CELLS = 2e12


def _minirocket(train: Dataset, valid: Dataset, parts: Sequence[Dataset], seed: int) -> Answered:
    """MiniRocket (Dempster et al. 2021) with the ridge that aeon gives it."""
    from aeon.classification.convolution_based import MiniRocketClassifier

    if len(train) > _MOST_ROWS:
        raise TooMuch(f"a ridge over {_KERNELS:,} features of {len(train):,} rows")
    longest = max(_SHORTEST, max(len(item) for item in train.items))
    model = MiniRocketClassifier(n_kernels=_KERNELS, random_state=seed)
    model.fit(_padded(train, longest), np.asarray(train.labels))
    return Answered([model.predict(_padded(part, longest)).tolist() for part in parts], choice=f"{_KERNELS} kernels")


def _dtw(train: Dataset, valid: Dataset, parts: Sequence[Dataset], seed: int) -> Answered:
    """One nearest neighbour under dynamic time warping without a window, channels together."""
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier

    steps, channels = np.mean([len(item) for item in train.items]), train.items[0].shape[1]
    cells = len(train) * sum(map(len, parts)) * steps**2 * channels
    if cells > _MOST_CELLS:
        raise TooMuch(f"{cells:.0e} cells of warping matrices")
    model = KNeighborsTimeSeriesClassifier(distance="dtw", n_neighbors=1)
    model.fit(_listed(train), np.asarray(train.labels))
    return Answered([np.asarray(model.predict(_listed(part))).tolist() for part in parts])


def _padded(data: Dataset, length: int) -> NDArray[np.float32]:
    """Series (N, C, T), the short ones held at their last reading, the long ones cut."""
    rows = [np.pad(item[:length], ((0, length - len(item[:length])), (0, 0)), mode="edge") for item in data.items]
    return np.stack(rows).transpose(0, 2, 1)


def _listed(data: Dataset) -> Any:
    """Series as aeon takes them: (N, C, T), or where lengths differ a list of (C, T)."""
    rows = [np.ascontiguousarray(item.T, dtype=np.float64) for item in data.items]
    return np.stack(rows) if len({row.shape[1] for row in rows}) == 1 else rows


MINIROCKET = Comparator("minirocket", _minirocket, takes=whole_series)
DTW = Comparator("dtw-1nn", _dtw, takes=whole_series, once=True)
