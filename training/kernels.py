"""The linear branch of series, `gatewise.kernels`: kernels drawn, thresholds measured and weights fitted on train.

N rows, T timesteps, C channels of the data, D dilations, Q thresholds of a kernel, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from gatewise.kernels import KERNELS, LENGTH, MOST_CHANNELS, KernelFeatures, kernel_logits
from gatewise.timeseries import TimeSeriesEncoder
from training.blending import Encoder
from training.dataset import Dataset
from training.linear import fit_linear

FloatArray = NDArray[np.float32]

_MOST_DILATIONS = 10
# About so many features; five times as many, as published, were no better in cross-validation on seven sets.
_FEATURES = 2000
# The time and the weights of a fit grow with the classes.
_MOST_CLASSES = 256
# More rows tell a linear classifier of so few features little, and would have to be held at once.
_MOST_ROWS = 20_000
# Of 0.03, 0.1 and 0.3 none was better than the others in cross-validation on seven sets.
_STRENGTH = 0.1
# A share that is the same in nearly all rows, divided by next to nothing, would tell of one odd series alone.
_LEAST_DEVIATION = 0.003
# An irrational step, whose multiples fill the range from 0 to 1 evenly however many are taken.
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Kernels:
    """A fitted branch.

    Attributes:
        dilations: D, rising.
        channels, thresholds: float32 (D, 84, C) and (D, 84, Q), as `KernelFeatures` takes them.
        weight, bias: float32 (D * 84 * Q, K) and (K,).
    """

    # Where networks and kernels were both cross-validated, half was right or nearly so; a few rows cannot say better.
    expected_share: ClassVar[float] = 0.5

    dilations: tuple[int, ...]
    channels: FloatArray
    thresholds: FloatArray
    weight: FloatArray
    bias: FloatArray

    def logits(self, data: Dataset, encoder: Encoder) -> FloatArray:
        """Scores of every row, (N, K)."""
        assert isinstance(encoder, TimeSeriesEncoder)
        features = KernelFeatures(self.dilations, self.channels, self.thresholds)
        weight = self.weight.astype(np.float64)
        rows = encoder.encode_many(data.items)
        return np.stack([kernel_logits(features.of(row), weight, self.bias) for row in rows])

    def weights(self, share: float) -> dict[str, FloatArray]:
        """The weights that serve, where the network's logits have the weight 1 and the branch's this one."""
        return {
            "wide.channels": self.channels,
            "wide.thresholds": self.thresholds,
            "wide.weight": self.weight * np.float32(share),
            "wide.bias": self.bias * np.float32(share),
        }

    def parts(self) -> dict[str, Any]:
        """What the model's configuration says of it."""
        channels, thresholds = self.channels.shape[2], self.thresholds.shape[2]
        return {"wide_dilations": self.dilations, "wide_channels": channels, "wide_thresholds": thresholds}

    def again(self, train: Dataset, encoder: Encoder, labels: tuple[str, ...], *, seed: int) -> Kernels | None:
        """The branch fitted to other rows."""
        assert isinstance(encoder, TimeSeriesEncoder)
        return fit_kernels(train, encoder, labels, seed=seed)


def fit_kernels(train: Dataset, encoder: TimeSeriesEncoder, labels: tuple[str, ...], *, seed: int) -> Kernels | None:
    """Draw channels, measure thresholds and fit a logistic regression on their features; None of too many classes."""
    assert train.labels is not None
    if len(labels) > _MOST_CLASSES:
        return None
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(train))[:_MOST_ROWS])
    inputs = encoder.encode_many([train.items[i] for i in rows])
    dilations = _dilations([len(row) for row in inputs])
    channels = _channels(random, len(dilations), len(encoder.config.channels))
    thresholds = _thresholds(random, inputs, dilations, channels)
    kernels = KernelFeatures(dilations, channels, thresholds)
    features = np.stack([kernels.of(row) for row in inputs])
    mean, scale = features.mean(axis=0), np.maximum(features.std(axis=0), _LEAST_DEVIATION)
    truth = np.array([labels.index(train.labels[i]) for i in rows])
    weight, bias = fit_linear((features - mean) / scale, truth, len(labels), _STRENGTH, seed)
    weight = weight / scale[:, None]
    return Kernels(
        dilations, channels, thresholds, weight.astype(np.float32), (bias - mean @ weight).astype(np.float32)
    )


def _dilations(lengths: Sequence[int]) -> tuple[int, ...]:
    """Evenly by factors, up to where a kernel spans a long row."""
    widest = max(1.0, (float(np.quantile(lengths, 0.95)) - 1) / (LENGTH - 1))
    return tuple(np.unique(np.geomspace(1, widest, _MOST_DILATIONS).astype(int)).tolist())


def _channels(random: np.random.Generator, dilations: int, channels: int) -> FloatArray:
    """For each kernel some channels, few more often than many, (D, 84, C)."""
    drawn = np.zeros((dilations, len(KERNELS), channels), dtype=np.float32)
    most = min(channels, MOST_CHANNELS)
    for kernel in drawn.reshape(-1, channels):
        count = int(2 ** random.uniform(0, np.log2(most + 1)))
        kernel[random.choice(channels, count, replace=False)] = 1
    return drawn


def _thresholds(
    random: np.random.Generator, inputs: Sequence[FloatArray], dilations: tuple[int, ...], channels: FloatArray
) -> FloatArray:
    """Quantiles of what each kernel sums to in some row, (D, 84, Q), each kernel at levels of its own."""
    count = max(1, round(_FEATURES / len(KERNELS) / len(dilations)))
    thresholds = np.zeros((len(dilations), len(KERNELS), count), dtype=np.float32)
    levels = (np.arange(1, thresholds.size + 1) * _GOLDEN % 1).reshape(thresholds.shape)
    kernels = KernelFeatures(dilations, channels, thresholds)
    for d in range(len(dilations)):
        rows = random.integers(len(inputs), size=len(KERNELS))
        for row in np.unique(rows):
            sums = kernels.sums(kernels.on_grid(inputs[row]), d)
            for k in np.flatnonzero(rows == row):
                thresholds[d, k] = np.floor(np.quantile(sums[k], levels[d, k]))
    return thresholds
