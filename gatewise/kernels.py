"""A linear classifier over fixed dilated kernels, beside the network of a series (MiniRocket, Dempster et al. 2021).

Short patterns tell classes apart that a network takes many rows to learn; these kernels need not be learnt at all. One
has nine weights, six of -1 and three of 2, which makes 84 of them; each is used at several dilations, on channels drawn
once. Its features are the shares of the steps at which its sum is above a few thresholds. Their scores are added to the
network's logits. `training/kernels.py` draws the channels and fits the rest.

Standardized readings are rounded to whole numbers first. Their sums are whole numbers that float32 holds exactly, so
that every machine, in whatever order it adds up, counts the same steps.

T timesteps, F features, of which the first C are the readings, D dilations, Q thresholds of a kernel, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from gatewise.architecture import ModelConfig
from gatewise.errors import ArtifactCorrupt
from gatewise.schema import FloatArray

LENGTH = 9
# (84, 9): each choice of three places has a 2 there; a level that does not change sums to zero.
KERNELS: FloatArray = np.array(
    [np.where(np.isin(np.arange(LENGTH), places), 2, -1) for places in combinations(range(LENGTH), 3)], dtype=np.float32
)
# Of so many channels at most a kernel reads: its sums are then at most 12 * 9 * 32 * 4096, less than 2 ** 24.
MOST_CHANNELS = 9
# Whole numbers to a standard deviation; a reading farther out than so many deviations is as good as one that far.
_STEPS, _FARTHEST = 4096, 32
# Steps whose sums, 84 of them each, are held at once; fewer than 2 ** 16, which is counted faster.
_PIECE = 4096


class KernelFeatures:
    """What the kernels tell of a series.

    Args:
        channels: (D, 84, C), 1 where a kernel reads a channel.
        thresholds: whole numbers (D, 84, Q).
    """

    def __init__(self, dilations: Sequence[int], channels: FloatArray, thresholds: FloatArray) -> None:
        self.dilations = tuple(dilations)
        self._channels = channels.shape[2]
        self._kernels = (KERNELS[:, :, None] * channels[:, :, None, :]).reshape(len(self.dilations), len(KERNELS), -1)
        self._thresholds = thresholds

    def of(self, inputs: FloatArray) -> FloatArray:
        """Features (D * 84 * Q,), each from 0 to 1, of a series (T, F)."""
        grid = self.on_grid(inputs)
        counts = np.zeros(self._thresholds.shape, dtype=np.int64)
        for d, thresholds in enumerate(self._thresholds):
            padded = self._pad(grid, d)
            for start in range(0, len(grid), _PIECE):
                piece = padded[start : start + _PIECE + len(padded) - len(grid)]
                above = self._sums(piece, d)[:, None, :] > thresholds[:, :, None]
                counts[d] += above.sum(axis=2, dtype=np.uint16)
        return counts.ravel().astype(np.float32) / np.float32(len(grid))

    def on_grid(self, inputs: FloatArray) -> FloatArray:
        """The readings of (T, F) as whole numbers, (T, C)."""
        readings = np.clip(inputs[:, : self._channels], -_FARTHEST, _FARTHEST)
        grid: FloatArray = np.rint(readings * np.float32(_STEPS))
        return grid

    def sums(self, grid: FloatArray, d: int) -> FloatArray:
        """What the kernels of dilation number `d` sum to around each step of (T, C), (84, T)."""
        return self._sums(self._pad(grid, d), d)

    def _pad(self, grid: FloatArray, d: int) -> FloatArray:
        """With zeros, the mean, before the first step and after the last, as far as a kernel reaches."""
        reach = LENGTH // 2 * self.dilations[d]
        padded = np.zeros((len(grid) + 2 * reach, grid.shape[1]), dtype=np.float32)
        padded[reach : reach + len(grid)] = grid
        return padded

    def _sums(self, padded: FloatArray, d: int) -> FloatArray:
        dilation = self.dilations[d]
        steps = len(padded) - (LENGTH - 1) * dilation
        read = sliding_window_view(padded, steps, axis=0)[::dilation]
        summed: FloatArray = self._kernels[d] @ read.reshape(-1, steps)
        return summed


class KernelBranch:
    """Reads the weights `wide.channels`, `wide.thresholds`, `wide.weight` and `wide.bias`."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, FloatArray]) -> None:
        """Raise ArtifactCorrupt where a weight is missing or has another shape than the configuration says."""
        for name, shape in kernel_shapes(config).items():
            if name not in weights or weights[name].shape != shape:
                raise ArtifactCorrupt(f"the weights have no {name} of shape {shape}; restore the folder")
        self._features = KernelFeatures(config.wide_dilations, weights["wide.channels"], weights["wide.thresholds"])
        self._weight = weights["wide.weight"].astype(np.float64)
        self._bias = weights["wide.bias"]

    def logits(self, inputs: FloatArray) -> FloatArray:
        """What the branch adds to the logits (K,) of a series (T, F)."""
        return kernel_logits(self._features.of(inputs), self._weight, self._bias)


def kernel_logits(features: FloatArray, weight: NDArray[np.float64], bias: FloatArray) -> FloatArray:
    """Scores (K,) of features (D * 84 * Q,), added up in float64: thousands of terms nearly cancel each other."""
    scores: FloatArray = (features.astype(np.float64) @ weight + bias).astype(np.float32)
    return scores


def kernel_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of the branch's weights, by name."""
    kernels = (len(config.wide_dilations), len(KERNELS))
    return {
        "wide.channels": (*kernels, config.wide_channels),
        "wide.thresholds": (*kernels, config.wide_thresholds),
        "wide.weight": (kernels[0] * kernels[1] * config.wide_thresholds, config.num_classes),
        "wide.bias": (config.num_classes,),
    }
