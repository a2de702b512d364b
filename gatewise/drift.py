"""How far the sequences that come now have moved from those that the model was measured on.

A measure is what each sequence has one value of (its length, the rate of its tokens that the vocabulary lacks), or one
for each step (the readings of a channel, the labels and confidences of a per-step model). Its histogram holds the share
of the sequences in each bin, and every sequence weighs one, however long it is: its steps share that weight. So the
number of sequences bounds what chance alone does to a histogram, though the steps of a sequence resemble each other.

B bins, S steps looked at, T timesteps, W channels watched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from gatewise.timeseries import TimeSeriesEncoderConfig

if TYPE_CHECKING:
    from gatewise.batch import Encoded
    from gatewise.predictor import Predictor

Source = Literal["valid", "test", "train"]
State = Literal["unknown", "none", "moderate", "major"]
Array = NDArray[np.float64]
# The values of one sequence by measure, each (1,) or (S,); labels are class numbers, a missing reading is NaN.
Observation = Mapping[str, NDArray[Any]]

LENGTH, UNKNOWN_RATE, LABEL, CONFIDENCE, CHANNEL = "length", "unknown_rate", "label", "confidence", "channel:"
# The customary thresholds of the index: Siddiqi, Credit Risk Scorecards, 2006.
MODERATE, MAJOR = 0.1, 0.25
# Sequences before a state is told.
ENOUGH = 200

_BINS = 10
_MAX_LABELS, _MAX_CHANNELS, _MAX_STEPS = 20, 32, 64
_SMOOTHING = 0.01
# How often sequences like the reference's may be called drifted, were each look a new sample.
_FALSE_ALARM = 1e-3


class Histogram(BaseModel):
    """A measure over the reference's sequences.

    Attributes:
        edges: between the bins of a number, ascending; the outer bins are open. None of labels.
        classes: class numbers with a bin of their own, ascending; None of numbers.
        has_rest: whether one more bin, the last, holds all other labels, or missing readings.
        shares: of the sequences in each bin, (B,); they sum to 1.
        sequences: how many there were.
        source: the split that they are of.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    edges: tuple[float, ...] | None = None
    classes: tuple[int, ...] | None = None
    has_rest: bool = False
    shares: tuple[float, ...] = Field(min_length=1)
    sequences: int = Field(ge=1)
    source: Source

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if (self.edges is None) == (self.classes is None):
            raise ValueError("a histogram has either edges or classes")
        ascending = self._ascending.tolist()
        if ascending != sorted(set(ascending)):
            raise ValueError("the bins do not ascend")
        if len(self.shares) != _bin_count(self.edges, self.classes, has_rest=self.has_rest):
            raise ValueError("there is not one share for each bin")
        return self

    @classmethod
    def fit(cls, measure: str, values: Sequence[NDArray[Any]], source: Source, num_classes: int) -> Histogram:
        """Fix the bins by the values of each sequence, and count them.

        Args:
            values: (1,) or (S,) of each sequence, at least one.
        """
        flat = np.concatenate(values)
        edges, classes = None, None
        if measure == LABEL:
            classes = _own_classes(flat, num_classes)
            has_rest = len(classes) < num_classes
        else:
            edges = fit_edges(flat[~np.isnan(flat)])
            has_rest = measure.startswith(CHANNEL)
        blank = (1.0,) * _bin_count(edges, classes, has_rest=has_rest)
        bins = cls(edges=edges, classes=classes, has_rest=has_rest, shares=blank, sequences=len(values), source=source)
        return bins.model_copy(update={"shares": tuple((bins.count(values) / len(values)).tolist())})

    def count(self, values: Sequence[NDArray[Any]]) -> Array:
        """What sequences add to each bin, (B,): their sum is the number of sequences."""
        sizes = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        flat = np.concatenate(values)
        weights = np.repeat(1 / sizes, sizes)
        return np.bincount(self._places(flat), weights, minlength=len(self.shares)).astype(np.float64)

    def bin_names(self, labels: Sequence[str]) -> list[str]:
        """The bins in words.

        Args:
            labels: of the model, by class number.
        """
        if self.classes is not None:
            return [labels[k] for k in self.classes] + ["other labels"] * self.has_rest
        edges = [f"{edge:.4g}" for edge in self.edges or ()]
        if edges:
            between = [f"{low} to {high}" for low, high in pairwise(edges)]
            names = [f"below {edges[0]}", *between, f"{edges[-1]} or more"]
        else:
            names = ["any"]
        return names + ["missing"] * self.has_rest

    @property
    def _ascending(self) -> NDArray[Any]:
        return np.array(self.edges if self.classes is None else self.classes)

    def _places(self, values: NDArray[Any]) -> NDArray[np.int64]:
        bounds, rest = self._ascending, len(self.shares) - 1
        if self.classes is None:
            places = np.searchsorted(bounds, values, side="right")
            return np.where(np.isnan(values), rest, places) if self.has_rest else places
        nearest = np.minimum(np.searchsorted(bounds, values), len(bounds) - 1)
        return np.where(bounds[nearest] == values, nearest, rest)


class DriftReference(BaseModel):
    """The histograms that an artifact carries, by measure."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    histograms: dict[str, Histogram] = Field(min_length=1)

    def count(self, observations: Sequence[Observation]) -> Array:
        """What sequences, at least one, add to the bins of all measures, one measure's after the other's."""
        return np.concatenate([bins.count([one[name] for one in observations]) for name, bins in self._named])

    def compare(self, counts: Array, sequences: int) -> Drift:
        """Compare what came now with the reference.

        Args:
            counts: the sum of what `count` gave for `sequences` of them, at least one.
        """
        ends = np.cumsum([len(bins.shares) for _, bins in self._named])
        parts = np.split(counts / sequences, ends[:-1])
        measures = {
            name: self._measured(bins, part, sequences) for (name, bins), part in zip(self._named, parts, strict=True)
        }
        worst = max((one.state for one in measures.values()), key=_ORDER.index)
        return Drift(state=worst, sequences=sequences, measures=measures)

    @property
    def _named(self) -> list[tuple[str, Histogram]]:
        return list(self.histograms.items())

    def _measured(self, bins: Histogram, now: Array, sequences: int) -> Measured:
        psi = population_stability_index(bins.shares, now)
        chance = chance_bound(len(now), bins.sequences, sequences, _FALSE_ALARM / len(self.histograms))
        state: State = _state(psi, chance) if sequences >= ENOUGH else "unknown"
        return Measured(psi=round(psi, 6), chance=round(chance, 6), state=state, now=now.round(6).tolist())


class Measured(BaseModel):
    """One measure now.

    Attributes:
        psi: the population stability index.
        chance: what it stays under, all but surely, while nothing has changed.
        now: the share of each bin, (B,).
    """

    psi: float
    chance: float
    state: State
    now: list[float]


class Drift(BaseModel):
    """All measures now; `state` is that of the one that moved most, `unknown` below `ENOUGH` sequences."""

    state: State
    sequences: int
    measures: dict[str, Measured]


NOTHING_SEEN = Drift(state="unknown", sequences=0, measures={})
_ORDER: tuple[State, ...] = ("unknown", "none", "moderate", "major")


class Observer:
    """Measures sequences as the model reads and answers them; training and the service use the same one."""

    def __init__(self, predictor: Predictor) -> None:
        self._predictor = predictor
        self._is_text = predictor.manifest.kind == "text"
        channels = predictor.manifest.channels or ()
        # Evenly spread where there are more: neighbours are often alike, and all would cost more than they tell.
        watched = np.linspace(0, len(channels) - 1, min(len(channels), _MAX_CHANNELS)).round().astype(int)
        self._channels = len(channels)
        self._watched, self._names = watched, [CHANNEL + channels[i] for i in watched]
        encoder = predictor.manifest.encoder
        if isinstance(encoder, TimeSeriesEncoderConfig):
            self._mean, self._scale = np.array(encoder.mean)[watched], np.array(encoder.scale)[watched]

    def observe(self, encoded: Encoded, logits: NDArray[Any]) -> Observation:
        """All measures of one sequence.

        Args:
            logits: the network's, (K,) or (T, K).
        """
        classes, p = self._predictor.decode(encoded, logits)
        answered = np.atleast_1d(classes)
        steps = _spread(len(answered))
        answered = answered[steps]
        confidences = np.atleast_2d(p)[steps][np.arange(len(answered)), answered]
        return {**self.inputs(encoded), LABEL: answered, CONFIDENCE: confidences}

    def inputs(self, encoded: Encoded) -> Observation:
        """The measures that the model's answer does not change; of a long sequence some steps, evenly spread.

        Readings are in the channel's own unit.
        """
        T = len(encoded.inputs)
        length = {LENGTH: np.array([float(T)])}
        if self._is_text:
            return {**length, UNKNOWN_RATE: np.array([encoded.unknown_tokens / T])}
        steps = encoded.inputs[_spread(T)].astype(np.float64)
        readings = steps[:, self._watched] * self._scale + self._mean
        if self._predictor.manifest.allow_missing:
            # The masks are the last features; where one is set, the reading was filled in.
            masks = steps[:, self._watched - self._channels]
            readings[masks > 0] = np.nan
        return {**length, **dict(zip(self._names, readings.T, strict=True))}


def population_stability_index(reference: Sequence[float] | Array, now: Sequence[float] | Array) -> float:
    """Return PSI = sum over the bins of (q - p) ln(q / p), p the reference's shares and q those of now.

    Both are smoothed first, p <- (1 - 0.01) p + 0.01 / B, so that an empty bin gives a finite term, and one that is
    empty in both gives none.

    Source: Jeffreys 1946 (the divergence), Lewis 1994 and Siddiqi 2006 (as an index of stability); the smoothing is
    that of Jelinek & Mercer 1980.
    """
    return float(stability_terms(reference, now).sum())


def stability_terms(reference: Sequence[float] | Array, now: Sequence[float] | Array) -> Array:
    """What each bin adds to the index, (B,)."""
    p, q = (_SMOOTHING / len(shares) + (1 - _SMOOTHING) * np.asarray(shares) for shares in (reference, now))
    terms: Array = (q - p) * np.log(q / p)
    return terms


def chance_bound(bins: int, reference_sequences: int, sequences: int, false_alarm: float) -> float:
    """Return what the PSI exceeds with this probability when both samples are of one distribution.

    (1/n + 1/m) chi2(B - 1) in the limit (Yurdakul & Naranjo 2020); the quantile is Wilson & Hilferty's 1931.
    """
    freedom = max(1, bins - 1)
    z, spread = NormalDist().inv_cdf(1 - false_alarm), 2 / (9 * freedom)
    return (1 / reference_sequences + 1 / sequences) * freedom * (1 - spread + z * math.sqrt(spread)) ** 3


def fit_edges(values: NDArray[Any]) -> tuple[float, ...]:
    """Return edges of about ten bins that hold equal shares of the values.

    An edge stands midway between two values, never on one, so that rounding moves none. Of ten values or fewer each has
    a bin, and what lies outside them all has one on either side, though the reference has nothing there.
    """
    distinct = np.unique(values).astype(np.float64)
    if not len(distinct):
        return ()
    middles = (distinct[1:] + distinct[:-1]) / 2
    if len(distinct) <= _BINS:
        nearest = np.diff(distinct).min() / 2 if len(middles) else 1e-6 * max(1.0, abs(distinct[0]))
        return (float(distinct[0] - nearest), *middles.tolist(), float(distinct[-1] + nearest))
    quantiles = np.quantile(values, np.arange(1, _BINS) / _BINS, method="inverted_cdf")
    places = np.unique(np.searchsorted(distinct, quantiles))
    return tuple(middles[places[places < len(middles)]].tolist())


def _own_classes(values: NDArray[Any], num_classes: int) -> tuple[int, ...]:
    if num_classes <= _MAX_LABELS:
        return tuple(range(num_classes))
    most = np.argsort(-np.bincount(values, minlength=num_classes), kind="stable")[: _MAX_LABELS - 1]
    return tuple(sorted(most.tolist()))


def _bin_count(edges: tuple[float, ...] | None, classes: tuple[int, ...] | None, *, has_rest: bool) -> int:
    return (len(classes) if edges is None and classes is not None else len(edges or ()) + 1) + has_rest


def _spread(length: int) -> slice:
    return slice(None, None, -(-length // _MAX_STEPS))


def _state(psi: float, chance: float) -> State:
    if psi <= max(MODERATE, chance):
        return "none"
    return "moderate" if psi <= max(MAJOR, chance) else "major"
