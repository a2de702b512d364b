"""The body of `POST /predict`: bytes -> request -> encoded items, and logits -> bytes."""

from __future__ import annotations

import io
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import orjson
from pydantic import BaseModel

from gatewise.errors import Detail, InvalidSequence, Loc
from service.batching import Result
from service.body import MediaType
from service.errors import EngineFailure, InvalidRequest, MalformedBody
from service.readings import read_series
from service.registry import LiveModel

if TYPE_CHECKING:
    from gatewise.batch import Encoded

MAX_DETAILS = 20
_FIELDS = frozenset({"sequences", "probabilities", "label_set"})
_FLAGS = ("probabilities", "label_set")
# How orjson begins to say that a number is none that a float can hold.
_TOO_LARGE = "number is infinity"
_MOST_INTEGER_DIGITS = 18


class ModelIdentity(BaseModel):
    """Which model answered."""

    name: str
    version: str


class PredictResponse(BaseModel):
    """The answer as BentoML's own schema shows it; `openapi.py` says it exactly, for the live model."""

    predictions: list[dict[str, Any]]
    model: ModelIdentity


@dataclass(frozen=True)
class PredictRequest:
    """A body that has the promised form; its items are still raw."""

    sequences: list[Any]
    probabilities: bool | None = None
    label_set: bool | None = None

    def word(self, model: LiveModel, predictions: Sequence[Any]) -> tuple[bytes, int | None]:
        """The body of the answer, and how much of it is JSON where anything else follows that.

        Args:
            predictions: Prediction or StepPrediction, one for each sequence.
        """
        shown = [_shown(vars(prediction), self.probabilities) for prediction in predictions]
        return orjson.dumps({"predictions": shown, "model": model.identity}), None


class Answer(NamedTuple):
    """A response's body, how much of it is JSON where anything else follows that, and what the metrics count of it."""

    body: bytes
    head_size: int | None
    labels: Counter[str]
    confidences: list[float]


Read = Callable[[bytes | bytearray, LiveModel, int], PredictRequest]


def read_json(body: bytes | bytearray, model: LiveModel, max_sequences: int) -> PredictRequest:
    """Read a body of JSON.

    Raises:
        MalformedBody: it is not JSON in UTF-8, with the place.
        InvalidRequest: it is, and is not a request, or asks for what the model does not know.
    """
    series = read_series(body, model.channels) if model.channels else None
    if series is not None and len(series) <= max_sequences:
        return PredictRequest(series)
    request = parse(body, max_sequences)
    _check(model, request)
    return request


def parse(body: bytes | bytearray, max_sequences: int) -> PredictRequest:
    """Read a body of JSON, whatever its sequences are; as `read_json`, which reads plain series sooner."""
    raw = load_json(body, '{"sequences": [...]}')
    details = list(_wrong_fields(raw, max_sequences))
    if details:
        raise InvalidRequest(summary(details), details=details[:MAX_DETAILS])
    return PredictRequest(raw["sequences"], raw.get("probabilities"), raw.get("label_set"))


def load_json(body: bytes | bytearray, example: str) -> Any:
    """Decode JSON; raise MalformedBody with the place where it is none.

    Args:
        example: what to send, for who sent nothing.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if error.msg.startswith(_TOO_LARGE):
            with suppress(ValueError, TypeError, RecursionError):
                return _load_too_large(body)
        raise _malformed(bytes(body), error, example) from None


def _load_too_large(body: bytes | bytearray) -> Any:
    """Decode JSON with a number beyond the range of a float, as an infinity: it is refused where it stands.

    Raises:
        ValueError, TypeError, RecursionError: it is not JSON for another reason too.
    """
    found = json.loads(body.decode(), parse_int=_integer, parse_constant=_refuse)
    # A lone surrogate, which orjson never decodes, could not be quoted in an answer.
    orjson.dumps(found)
    return found


def _integer(digits: str) -> int | float:
    """As orjson reads it: a float where it is long."""
    return int(digits) if len(digits) <= _MOST_INTEGER_DIGITS else float(digits)


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def read_npy(body: bytes | bytearray, model: LiveModel, max_sequences: int) -> PredictRequest:
    """Read series of equal length as one array, (N, T, C) or, of one channel, (N, T); not copied.

    Raises:
        MalformedBody: it is not an array in numpy's format.
        InvalidRequest: its form is not what the service takes.
    """
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)  # type: ignore[no-untyped-call]
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, is_fortran, dtype = read_header[version](stream)  # type: ignore[no-untyped-call]
    except (ValueError, KeyError, TypeError, SyntaxError) as error:
        raise _malformed_at(0, f"the body is not an array in numpy's format: {str(error)[:200]}") from None
    start = stream.tell()
    size = math.prod(shape) * dtype.itemsize
    wrong = ""
    if dtype != np.float32 or is_fortran:
        wrong = f"expected an array of float32 in C order, got {dtype}{' in Fortran order' if is_fortran else ''}"
    elif len(shape) not in (2, 3):
        wrong = f"expected shape (sequences, timesteps, channels), got {shape}"
    elif not 0 < shape[0] <= max_sequences:
        wrong = f"has {shape[0]} sequences, and this service takes 1 to {max_sequences} in a request"
    elif min(shape) < 0 or len(body) - start != size:
        raise _malformed_at(start, f"an array of shape {shape} has {size} bytes, and {len(body) - start} came")
    if wrong:
        raise InvalidRequest(wrong, details=[{"loc": ["sequences"], "message": wrong}])
    return PredictRequest(list(np.frombuffer(body, dtype, offset=start).reshape(shape)))


READERS: dict[MediaType, Read] = {"application/json": read_json, "application/x-npy": read_npy}


def _check(model: LiveModel, request: PredictRequest) -> None:
    if request.label_set and model.card["label_sets"] is None:
        message = "this model was made without label sets; leave it out"
        raise InvalidRequest(f"label_set: {message}", details=[{"loc": ["label_set"], "message": message}])


def encode(model: LiveModel, sequences: Sequence[Any]) -> list[Encoded]:
    """Parse and encode every item.

    Raises:
        InvalidSequence: at least one is wrong; `details` has the places of the first twenty.
    """
    encoded: list[Encoded] = []
    details: list[Detail] = []
    for i, item in enumerate(sequences):
        try:
            encoded.append(encode_one(model, item, ("sequences", i)))
        except InvalidSequence as error:
            details += error.details
            if len(details) >= MAX_DETAILS:
                break
    if details:
        raise InvalidSequence(summary(details), details=details[:MAX_DETAILS])
    return encoded


def encode_one(model: LiveModel, item: Any, loc: Loc) -> Encoded:
    """Parse and encode one item.

    Raises:
        InvalidSequence: it breaks the model's input contract, or is longer than the service takes.
    """
    one, limit = model.predictor.encode(item, loc), model.max_timesteps
    if len(one.inputs) > limit:
        raise InvalidSequence(f"has {len(one.inputs)} timesteps, and this service takes {limit}", loc=loc)
    return one


def answer(model: LiveModel, encoded: Sequence[Encoded], results: Sequence[Result], request: PredictRequest) -> Answer:
    """Word the logits of a request's items.

    Raises:
        EngineFailure: the model broke on one of them.
        InvalidSequence: its logits are not finite: finite readings, but so large that they overflow in the network.
    """
    labels: Counter[str] = Counter()
    confidences: list[float] = []
    predictions = []
    for i, (one, logits) in enumerate(zip(encoded, results, strict=True)):
        if isinstance(logits, EngineFailure):
            raise EngineFailure(
                f"the model failed on sequences[{i}]; the server's log says how", details=_at(i, logits)
            )
        if not np.isfinite(logits).all():
            message = "its values are so large that the model's answer is not finite"
            raise InvalidSequence(f"sequences[{i}]: {message}", details=[{"loc": ["sequences", i], "message": message}])
        prediction = model.predictor.answer(
            one, logits, probabilities=request.probabilities, label_set=request.label_set
        )
        predictions.append(prediction)
        _count(vars(prediction), labels, confidences)
    return Answer(*request.word(model, predictions), labels, confidences)


def _shown(fields: dict[str, Any], probabilities: bool | None) -> dict[str, Any]:
    hidden = "probabilities" if probabilities is False else None
    return {name: value for name, value in fields.items() if value is not None and name != hidden}


def _count(fields: dict[str, Any], labels: Counter[str], confidences: list[float]) -> None:
    if "label" in fields:
        labels[fields["label"]] += 1
        confidences.append(fields["confidence"])
    else:
        labels.update(fields["labels"])
        confidences.append(sum(fields["confidences"]) / len(fields["confidences"]))


def _at(i: int, error: EngineFailure) -> list[Detail]:
    return [{"loc": ["sequences", i], "message": error.message}]


def _wrong_fields(raw: object, max_sequences: int) -> list[Detail]:
    if not isinstance(raw, dict):
        return [{"loc": [], "message": 'expected an object, {"sequences": [...]}'}]
    wrong: list[Detail] = [
        {"loc": [name[:100]], "message": f"no such field; known are sequences, {', '.join(_FLAGS)}"}
        for name in raw
        if name not in _FIELDS
    ]
    sequences = raw.get("sequences")
    if "sequences" not in raw:
        wrong.insert(0, {"loc": ["sequences"], "message": "missing; send a list of sequences"})
    elif not isinstance(sequences, list):
        wrong.append({"loc": ["sequences"], "message": "expected a list of sequences, even for one"})
    elif not sequences:
        wrong.append({"loc": ["sequences"], "message": "is empty; send at least one sequence"})
    elif len(sequences) > max_sequences:
        message = f"has {len(sequences)} sequences, and this service takes {max_sequences} in a request; split it"
        wrong.append({"loc": ["sequences"], "message": message})
    wrong += [
        {"loc": [flag], "message": "expected true, false or null"}
        for flag in _FLAGS
        if not isinstance(raw.get(flag), bool | None)
    ]
    return wrong


def summary(details: Sequence[Detail]) -> str:
    """The first place and what is wrong there, and how many more there are."""
    first = details[0]
    place = _path(first["loc"])
    more = "" if len(details) == 1 else f" (and {len(details) - 1} more in details)"
    return f"{place}: {first['message']}{more}" if place else first["message"] + more


def _path(loc: Sequence[str | int]) -> str:
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)
    return path.removeprefix(".")


def _malformed(body: bytes, error: orjson.JSONDecodeError, example: str) -> MalformedBody:
    try:
        text = body.decode()
    except UnicodeDecodeError as wrong:
        return _malformed_at(wrong.start, f"byte {wrong.start} is not UTF-8")
    if not text.strip():
        return _malformed_at(0, f"the body is empty; send {example}")
    # orjson counts characters, as str does.
    rest = text[error.pos :].lstrip("-+")
    mend = ""
    if rest.startswith(("NaN", "Infinity", "nan", "inf")):
        mend = "; JSON has no NaN and no Infinity: a missing reading is null"
    elif text.startswith("\ufeff"):
        mend = "; it begins with a byte order mark"
    return _malformed_at(
        error.pos, f"the body is not JSON at line {error.lineno}, column {error.colno}: {error.msg}{mend}"
    )


def _malformed_at(position: int, message: str) -> MalformedBody:
    return MalformedBody(message, details=[{"loc": ["body", position], "message": message}])
