"""Answers that differ from their labels, with where they stand and as much of the sequence as fits in a line."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.answers import Answered, joined
from training.dataset import Dataset
from training.report.contents import Excerpt, Finding

_CHARACTERS = 240
_TOKENS_AROUND, _TOKEN_CHARACTERS = 8, 40
_POINTS, _CHANNELS, _STEPS_AROUND = 60, 4, 30

Part = tuple[Dataset, Answered]


class Finder:
    """Describes answers of several data sets, by their places among the answers of all.

    Args:
        parts: each data set with its answers.
        examples: whether the sequences themselves are shown.
    """

    def __init__(self, parts: Sequence[Part], *, examples: bool) -> None:
        self.answered = joined(answered for _, answered in parts)
        self._rows = [(data, i) for data, _ in parts for i in range(len(data))]
        self._examples = examples

    def describe(self, places: Iterable[int]) -> list[Finding]:
        """Describe the answers at these places."""
        return [self._describe(place) for place in places]

    def _describe(self, place: int) -> Finding:
        answered = self.answered
        sequence, t = (int(i) for i in answered.places[place])
        data, i = self._rows[sequence]
        step = t if answered.task == "step" else None
        return Finding(
            file=Path(data.source).name,
            row=int(data.rows[i]),
            step=step,
            label=answered.truth[sequence][t],
            answer=answered.labels[answered.answers[place]],
            confidence=float(answered.confidence[place]),
            likelihood=float(answered.likelihood[place]),
            item=excerpt(data.items[i], step) if self._examples else None,
        )


def excerpt(item: Any, step: int | None = None) -> Excerpt:
    """A bounded part of an item; around a step where one is given."""
    if isinstance(item, str):
        return Excerpt(text=_cut(item, _CHARACTERS), timesteps=len(item))
    if isinstance(item, list):
        return _of_tokens(item, step or 0)
    return _of_series(item, step)


def _of_tokens(tokens: list[str], step: int) -> Excerpt:
    start, end = max(0, step - _TOKENS_AROUND), step + 1 + _TOKENS_AROUND
    shown = [_cut(token, _TOKEN_CHARACTERS) for token in tokens[start:end]]
    before, after = shown[: step - start], shown[step - start + 1 :]
    return Excerpt(
        text=" ".join([*(["…"] if start else []), *before]),
        marked=shown[step - start],
        after=" ".join([*after, *(["…"] if end < len(tokens) else [])]),
        timesteps=len(tokens),
    )


def _of_series(series: NDArray[np.float32], step: int | None) -> Excerpt:
    around = series
    if step is not None:
        around = series[max(0, step - _STEPS_AROUND) : step + 1 + _STEPS_AROUND]
    stride = math.ceil(len(around) / _POINTS)
    readings = around[::stride, :_CHANNELS].T.astype(np.float64)
    return Excerpt(
        series=[[round(v, 4) if math.isfinite(v) else None for v in channel.tolist()] for channel in readings],
        stride=stride,
        timesteps=len(series),
    )


def _cut(text: str, characters: int) -> str:
    return text if len(text) <= characters else text[: characters - 1] + "…"
