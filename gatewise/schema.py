"""The data contract: what an item to classify may be, and what an answer is.

Training, `gatewise predict` and the service all parse raw items here: an item that one accepts, all accept.
T timesteps, C channels, K classes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from gatewise.errors import InvalidSequence, Loc

FloatArray = NDArray[np.float32]
_NUMBERS = frozenset({int, float})
_NUMBERS_OR_NULL = frozenset({int, float, type(None)})
_LISTS = frozenset({list, tuple})


class Prediction(BaseModel):
    """One answer for one sequence. `probabilities` sum to 1; `confidence` is that of `label`.

    Attributes:
        abstained: whether the confidence is too low for the target precision; None where no target was asked for.
        label_set: the labels that together hold the true one at the model's coverage, likeliest first; on request.
    """

    model_config = ConfigDict(extra="forbid")

    label: str
    confidence: float
    probabilities: dict[str, float]
    abstained: bool | None = None
    label_set: list[str] | None = None


class StepPrediction(BaseModel):
    """One answer for each timestep of a sequence. `tokens` says what a text's timesteps are.

    Attributes:
        abstained, label_set: as in `Prediction`, for each step.
    """

    model_config = ConfigDict(extra="forbid")

    labels: list[str]
    confidences: list[float]
    tokens: list[str] | None = None
    probabilities: list[dict[str, float]] | None = None
    abstained: list[bool] | None = None
    label_set: list[list[str]] | None = None


class LayerGates(BaseModel):
    """The gates of one recurrent layer in one direction, each float32 (T, H), in the order of the sequence's steps.

    `gates` holds input_gate, forget_gate, candidate and output_gate of an LSTM; reset_gate, update_gate and candidate
    of a GRU. `outputs` are the hidden states that the layer gives on.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    layer: int
    direction: str
    gates: dict[str, FloatArray]
    outputs: FloatArray


class Explanation(BaseModel):
    """What every gate did at every timestep of one item. `tokens` says what a text's timesteps are."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    layers: list[LayerGates]
    tokens: list[str] | None = None

    def __getitem__(self, gate: str) -> FloatArray:
        """A gate of the first layer from left to right, (T, H); raises KeyError with the names that there are."""
        gates = self.layers[0].gates
        if gate not in gates:
            raise KeyError(f"{gate}: this cell has {', '.join(gates)}")
        return gates[gate]


def parse_text(item: object, loc: Loc = ()) -> str:
    """Return `item` when it is a string that UTF-8 can hold.

    Raises:
        InvalidSequence: it is not, with its place.
    """
    if not isinstance(item, str):
        raise InvalidSequence(f"expected a string, got {_name(item)}", loc=loc)
    if item.isascii():
        return item
    try:
        item.encode()
    except UnicodeEncodeError as error:
        raise InvalidSequence(f"character {error.start} is a lone surrogate, not text", loc=loc) from None
    return item


def parse_tokens(item: object, loc: Loc = ()) -> list[str]:
    """Return the tokens of a text whose every token gets a label.

    Args:
        item: a list of strings, kept as it is, or one string, split at white space.
    Raises:
        InvalidSequence: a token is not a string, or there is none.
    """
    if isinstance(item, str):
        tokens = parse_text(item, loc).split()
    elif isinstance(item, list | tuple):
        tokens = [parse_text(token, (*loc, t)) for t, token in enumerate(item)]
    else:
        raise InvalidSequence(f"expected a list of tokens or a string, got {_name(item)}", loc=loc)
    if not tokens:
        raise InvalidSequence("has no tokens; send at least one", loc=loc)
    return tokens


def parse_series(item: object, channels: int, *, allow_missing: bool, loc: Loc = ()) -> FloatArray:
    """Return readings as float32 (T, C), NaN where one is missing.

    Args:
        item: [[c1, c2, ...], ...], or [v, v, ...] with one channel, or a numeric array of those shapes; null, None or
            NaN is a missing reading.
        channels: C, as the model was trained.
        allow_missing: whether the model was trained to take missing readings.
    Raises:
        InvalidSequence: anything else, with the place of the first wrong reading. Nothing is ever reshaped.
    """
    values: NDArray[Any] = item if isinstance(item, np.ndarray) else _to_array(item, channels, loc)
    if values.dtype.kind not in "fiu":
        raise InvalidSequence(f"expected numbers, got an array of {values.dtype}", loc=loc)
    if values.ndim == 1 and channels == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != channels:
        raise InvalidSequence(f"expected shape (timesteps, {channels}), got {values.shape}", loc=loc)
    if not len(values):
        raise InvalidSequence("has no timesteps; send at least one", loc=loc)
    with np.errstate(over="ignore"):
        readings: FloatArray = values.astype(np.float32)
    _check_finite(readings, allow_missing, loc)
    return readings


def _to_array(item: object, channels: int, loc: Loc) -> NDArray[np.float64]:
    if not isinstance(item, list | tuple):
        raise InvalidSequence(f"expected a list of timesteps, got {_name(item)}", loc=loc)
    if not item:
        raise InvalidSequence("has no timesteps; send at least one", loc=loc)
    flat = channels == 1 and not isinstance(item[0], list | tuple)
    rows: Sequence[Any] = [item] if flat else item
    if not set(map(type, rows)) <= _LISTS:
        t = next(t for t, row in enumerate(rows) if type(row) not in _LISTS)
        raise InvalidSequence(f"expected a list of {channels} readings, got {_name(item[t])}", loc=(*loc, t))
    if not flat and set(map(len, rows)) != {channels}:
        t = next(t for t, row in enumerate(rows) if len(row) != channels)
        raise InvalidSequence(f"expected {channels} channels, got {len(rows[t])}", loc=(*loc, t))
    readings = list(chain.from_iterable(rows))
    # type() rather than isinstance(): a JSON true is an int to Python, and not a reading.
    types = set(map(type, readings))
    if not types <= _NUMBERS_OR_NULL:
        t, c = next((t, c) for t, row in enumerate(rows) for c, v in enumerate(row) if type(v) not in _NUMBERS_OR_NULL)
        raise InvalidSequence(f"expected a number, got {_name(rows[t][c])}", loc=(*loc, c) if flat else (*loc, t, c))
    try:
        if type(None) in types:
            return np.array(item, dtype=np.float64)
        # A fourth of the time that numpy needs for a list: parsing is what a request costs most beside the model.
        packed = struct.pack(f"{len(readings)}d", *readings)
        return np.frombuffer(packed, dtype=np.float64).reshape(len(item), -1)
    except (OverflowError, struct.error):
        raise InvalidSequence("holds an integer too large for a float", loc=loc) from None


def _check_finite(values: FloatArray, allow_missing: bool, loc: Loc) -> None:
    # The search for the place runs only when there is one.
    if np.isfinite(values).all():
        return
    bad = np.isinf(values) if allow_missing else ~np.isfinite(values)
    if not bad.any():
        return
    t, c = (int(i) for i in np.argwhere(bad)[0])
    place = (*loc, t) if values.shape[1] == 1 else (*loc, t, c)
    if np.isnan(values[t, c]):
        raise InvalidSequence("a reading is missing, and this model was trained without missing readings", loc=place)
    raise InvalidSequence("is infinite or beyond the range of a 32-bit float", loc=place)


_NAMES = {dict: "an object", str: "a string", bool: "a boolean", type(None): "null", list: "a list"}


def _name(value: object) -> str:
    return _NAMES.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)
