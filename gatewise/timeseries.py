"""Readings to model inputs: filled, standardized by train statistics, with the channels that say what was done.

T timesteps, C channels of the data, F features of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from gatewise.batch import Encoded
from gatewise.errors import InvalidSequence, Loc
from gatewise.schema import FloatArray, parse_series

# Deviations from the mean. Farther out the network's sums may overflow, and each engine makes something else of that.
_FARTHEST = 1e30


class TimeSeriesEncoderConfig(BaseModel):
    """How a series becomes model inputs; every number is of the train split.

    Attributes:
        channels: names, in the order of the readings.
        mean, scale: of each channel, in its own unit; a constant channel has scale 1.
        difference_scale: standard deviation of each channel's first difference, where differences are inputs too.
        allow_missing: whether missing readings were in the train split; they are filled with the last reading seen
            (before the first one, with the mean), and a mask channel for each channel says where.
        max_length: a longer series keeps its first or last so many steps, as `keep` says; per-step models keep all.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["series"] = "series"
    channels: tuple[str, ...] = Field(min_length=1)
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    difference_scale: tuple[float, ...] | None = None
    allow_missing: bool = False
    max_length: int | None = Field(default=None, ge=2)
    keep: Literal["head", "tail"] = "tail"

    @property
    def input_size(self) -> int:
        """F: the channels, their differences, their masks."""
        return len(self.channels) * (1 + (self.difference_scale is not None) + self.allow_missing)


class TimeSeriesEncoder:
    """Encodes readings (T, C) to inputs (T, F): standardized values, their differences, missing-reading masks."""

    def __init__(self, config: TimeSeriesEncoderConfig) -> None:
        self.config = config
        self._mean = np.array(config.mean, dtype=np.float64)
        self._scale = np.array(config.scale, dtype=np.float64)
        self._difference_scale = np.array(config.difference_scale or (), dtype=np.float64)

    @classmethod
    def fit(
        cls,
        items: Sequence[FloatArray],
        channels: Sequence[str],
        *,
        differences: bool = False,
        max_length: int | None = None,
        keep: Literal["head", "tail"] = "tail",
    ) -> TimeSeriesEncoder:
        """Measure the train split.

        Args:
            items: readings (T_i, C), NaN where missing.
            channels: C names.
            differences: whether first differences are inputs too.
        """
        mean, scale = _moments(items)
        steps = [np.diff(_fill(item.astype(np.float64), mean), axis=0) for item in items] if differences else []
        config = TimeSeriesEncoderConfig(
            channels=tuple(channels),
            mean=tuple(mean.tolist()),
            scale=tuple(scale.tolist()),
            difference_scale=tuple(_moments(steps)[1].tolist()) if differences else None,
            allow_missing=any(bool(np.isnan(item).any()) for item in items),
            max_length=max_length,
            keep=keep,
        )
        return cls(config)

    def encode(self, item: object, loc: Loc = ()) -> Encoded:
        """Encode one raw item.

        Raises:
            InvalidSequence: it is not readings of the model's channels, with its place.
        """
        values = parse_series(item, len(self.config.channels), allow_missing=self.config.allow_missing, loc=loc)
        kept = self._kept(len(values))
        features = self._features(values[kept])
        self._check_range(features, kept.start, loc)
        return Encoded(features, truncated=len(features) < len(values))

    def encode_many(self, items: Sequence[Any]) -> list[NDArray[np.float32]]:
        """Encode items that `encode` would accept."""
        return [self.encode(item, (i,)).inputs for i, item in enumerate(items)]

    def _kept(self, length: int) -> slice:
        limit = self.config.max_length
        if limit is None or length <= limit:
            return slice(0, length)
        return slice(0, limit) if self.config.keep == "head" else slice(length - limit, length)

    def _check_range(self, features: FloatArray, start: int, loc: Loc) -> None:
        if max(features.max(), -features.min()) <= _FARTHEST:
            return
        far = np.abs(features) > _FARTHEST
        C = len(self.config.channels)
        t, feature = (int(i) for i in np.argwhere(far)[0])
        place = (start + t,) if C == 1 else (start + t, feature % C)
        raise InvalidSequence("is too far from every reading of the training data", loc=(*loc, *place))

    def _features(self, values: FloatArray) -> FloatArray:
        filled = values.astype(np.float64)
        if self.config.allow_missing:
            filled = _fill(filled, self._mean)
        parts = [(filled - self._mean) / self._scale]
        if self.config.difference_scale is not None:
            parts.append(np.diff(filled, axis=0, prepend=filled[:1]) / self._difference_scale)
        if self.config.allow_missing:
            parts.append(np.isnan(values).astype(np.float64))
        # A reading near the end of float32's range may leave it here; `encode` refuses it.
        with np.errstate(over="ignore"):
            return np.concatenate(parts, axis=1, dtype=np.float32, casting="same_kind")


def _moments(items: Sequence[NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel over every reading of (T_i, C) items, missing ones left out."""
    values = np.concatenate(items, dtype=np.float64)
    count = np.maximum((~np.isnan(values)).sum(axis=0), 1)
    mean = np.nansum(values, axis=0) / count
    deviation = np.sqrt(np.nansum((values - mean) ** 2, axis=0) / count)
    # Rounding leaves a constant channel a deviation of some 1e-8 of its size; dividing by that would make noise of it.
    constant = deviation <= 1e-7 * np.maximum(np.abs(mean), 1e-30)
    return mean, np.where(constant, 1.0, deviation)


def _fill(values: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Carry the last reading of each channel of (T, C) forward; before the first there is the mean.

    Nothing after a step is used to fill it, so a stream fills as a whole sequence does.
    """
    missing = np.isnan(values)
    if not missing.any():
        return values
    last = np.maximum.accumulate(np.where(missing, -1, np.arange(len(values))[:, None]), axis=0)
    return np.where(last >= 0, np.take_along_axis(values, np.maximum(last, 0), axis=0), mean)
