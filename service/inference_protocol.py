"""The Open Inference Protocol, version 2, over HTTP: what KServe, Seldon and Triton clients speak.

A request becomes the one that `POST /predict` would have been, and its predictions become tensors: checks, batches and
answers are the same. Tensors travel in JSON, or after it by Triton's binary tensor extension.
Sources: open-inference-protocol, specification/protocol/inference_rest.md; Triton, protocol/extension_binary_data.md.

N sequences, T timesteps of the longest, C channels, K labels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import orjson

from gatewise import __version__
from gatewise.errors import Loc, ModelNotFound
from service import payload, tensors
from service.errors import BodyTooLarge, MalformedBody
from service.payload import PredictRequest
from service.registry import LiveModel
from service.tensors import TensorSpec, Values, refuse

SERVER, LIVE, READY = "/v2", "/v2/health/live", "/v2/health/ready"
MODEL, MODEL_READY, INFER = "/v2/models/{name}", "/v2/models/{name}/ready", "/v2/models/{name}/infer"
EXTENSION = "binary_tensor_data"
HEAD_SIZE = b"inference-header-content-length"

_PATH = re.compile(r"/v2/models/([^/]+)(?:/versions/([^/]+))?(/ready|/infer)?")
# What codecs of MLServer write beside a tensor, of whose datatype it says nothing more.
_CONTENT_TYPES = (None, "np", "str")
# A few kilobytes of texts, one of them long, would otherwise make an answer of gigabytes.
_MOST_STEPS = 1 << 20
_EXAMPLE = '{"inputs": [{"name": "sequences", "datatype": ..., "shape": [...], "data": [...]}]}'


class Address(NamedTuple):
    """What a path under /v2/models says; no version is whichever is live."""

    route: str
    name: str
    version: str | None

    def check(self, model: LiveModel) -> None:
        """Raise ModelNotFound where the live model is another."""
        name, version = model.identity["name"], model.identity["version"]
        if self.name != name:
            raise ModelNotFound(f"no model {self.name[:100]!r} is live here; {name} is")
        if self.version not in (None, version):
            raise ModelNotFound(f"version {str(self.version)[:100]!r} of {name} is not live; {version} is")


class Requested(NamedTuple):
    """An output that a client wants, and how."""

    spec: TensorSpec
    is_binary: bool


@dataclass(frozen=True)
class InferRequest(PredictRequest):
    """A request that is answered with tensors."""

    id: str | None = None
    outputs: Sequence[Requested] = ()

    def word(self, model: LiveModel, predictions: Sequence[Any]) -> tuple[bytes, int | None]:
        """The body of the answer, and how much of it is JSON where tensors follow that."""
        answered, tail = [], b""
        for spec, is_binary in self.outputs:
            array = tensors.to_array([_of(prediction, spec.name) for prediction in predictions], spec)
            tensor: dict[str, Any] = {"name": spec.name, "datatype": spec.datatype, "shape": list(array.shape)}
            if is_binary:
                data = tensors.to_bytes(array)
                tensor["parameters"] = {"binary_data_size": len(data)}
                tail += data
            else:
                tensor["data"] = array.ravel().tolist() if array.dtype == object else array.ravel()
            answered.append(tensor)
        identity = {"model_name": model.identity["name"], "model_version": model.identity["version"]}
        named = identity if self.id is None else {**identity, "id": self.id}
        head = orjson.dumps({**named, "outputs": answered}, option=orjson.OPT_SERIALIZE_NUMPY)
        has_tail = any(is_binary for _, is_binary in self.outputs)
        return head + tail, len(head) if has_tail else None


def resolve(path: str) -> Address | None:
    """What a path under /v2/models is; None for any other."""
    found = _PATH.fullmatch(path)
    return Address(MODEL + (found[3] or ""), found[1], found[2]) if found else None


def server() -> dict[str, Any]:
    """The server's metadata."""
    return {"name": "gatewise", "version": __version__, "extensions": [EXTENSION]}


def metadata(card: Mapping[str, Any]) -> dict[str, Any]:
    """The live model's metadata.

    Args:
        card: as `GET /model` gives it.
    """
    return {
        "name": card["name"],
        "versions": [card["version"]],
        "platform": f"gatewise_{card['engine']}",
        "inputs": [_described(spec) for spec in inputs_of(card)],
        "outputs": [_described(spec) for spec in outputs_of(card)],
    }


def inputs_of(card: Mapping[str, Any]) -> list[TensorSpec]:
    """The tensors that the model takes; all but the first may be left out."""
    if card["kind"] == "series":
        sequences = TensorSpec("sequences", "FP32", (-1, -1, len(card["input"]["channels"])))
    elif card["task"] == "step":
        sequences = TensorSpec("sequences", "BYTES", (-1, -1))
    else:
        return [TensorSpec("sequences", "BYTES", (-1,))]
    return [sequences, TensorSpec("lengths", "INT64", (-1,))]


def outputs_of(card: Mapping[str, Any]) -> list[TensorSpec]:
    """The tensors that the model answers; all of them where a request names none."""
    labels, abstains = len(card["labels"]), card["abstaining"] is not None
    if card["task"] == "sequence":
        specs = [TensorSpec("label", "BYTES", (-1,)), TensorSpec("confidence", "FP32", (-1,))]
        specs.append(TensorSpec("probabilities", "FP32", (-1, labels)))
        return [*specs, TensorSpec("abstained", "BOOL", (-1,))] if abstains else specs
    specs = [TensorSpec("labels", "BYTES", (-1, -1)), TensorSpec("confidences", "FP32", (-1, -1))]
    specs.append(TensorSpec("probabilities", "FP32", (-1, -1, labels)))
    specs += [TensorSpec("abstained", "BOOL", (-1, -1))] if abstains else []
    specs += [TensorSpec("tokens", "BYTES", (-1, -1))] if card["kind"] == "text" else []
    return [*specs, TensorSpec("lengths", "INT64", (-1,))]


def head_size(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """How much of the body is JSON, by its header; None where all is.

    Raises:
        MalformedBody: the header holds no length.
    """
    value = next((value for name, value in headers if name == HEAD_SIZE), None)
    if value is not None and not (value.isdigit() and len(value) < 19):
        raise MalformedBody(f"Inference-Header-Content-Length: expected a number of bytes, got {value[:100]!r}")
    return None if value is None else int(value)


def read(
    body: bytes | bytearray, model: LiveModel, max_sequences: int, *, address: Address, head_size: int | None
) -> InferRequest:
    """Read the body of a request to infer.

    Raises:
        ModelNotFound: it is for another model than the live one.
        MalformedBody: it is not JSON, or shorter than its header says.
        InvalidRequest: it is, and is not a request that this model takes, with the place.
    """
    address.check(model)
    if head_size is not None and head_size > len(body):
        raise MalformedBody(f"Inference-Header-Content-Length is {head_size}, and the body has {len(body)} bytes")
    raw = payload.load_json(body if head_size is None else body[:head_size], _EXAMPLE)
    fields = _object(raw, (), ("id", "parameters", "inputs", "outputs"))
    if not isinstance(fields.get("id"), str | None):
        raise refuse("expected a string", "id")
    parameters = _parameters(fields, (), ("binary_data_output", "content_type"))
    tail = None if head_size is None else memoryview(body)[head_size:]
    specs = inputs_of(model.card)
    given = _inputs(fields.get("inputs"), tail, specs, max_sequences)
    are_binary = _flag(parameters, "binary_data_output", ()) or False
    outputs = _outputs(fields.get("outputs"), outputs_of(model.card), are_binary)
    wants = any(spec.name == "probabilities" for spec, _ in outputs)
    return InferRequest(_sequences(given, specs[0]), probabilities=wants, id=fields.get("id"), outputs=outputs)


class _Given(NamedTuple):
    shape: list[int]
    values: Values
    loc: Loc


def _inputs(raw: object, tail: memoryview | None, specs: Sequence[TensorSpec], max_sequences: int) -> dict[str, _Given]:
    """The values of the inputs by their names."""
    by_name = {spec.name: spec for spec in specs}
    listed = _by_name(raw, "inputs", by_name, ("datatype", "shape", "data"))
    if "sequences" not in listed:
        raise refuse("expected an input called sequences", "inputs")
    sizes = [_binary_size(tensor, loc, tail) for tensor, loc in listed.values()]
    starts = list(accumulate(sizes, lambda start, size: start + (size or 0), initial=0))
    if starts[-1] != len(tail or b""):
        raise refuse(f"binary_data_size sums to {starts[-1]} bytes, and {len(tail or b'')} follow the JSON", "inputs")
    given = {}
    for (name, (tensor, loc)), start, size in zip(listed.items(), starts, sizes, strict=False):
        spec = by_name[name]
        if tensor.get("datatype") != spec.datatype:
            raise refuse(f"expected {spec.datatype} for {name}", *loc, "datatype")
        shape = _shape(tensor.get("shape"), spec, max_sequences, (*loc, "shape"))
        if size is None:
            values = tensors.from_json(tensor.get("data"), spec.datatype, shape, (*loc, "data"))
        else:
            assert tail is not None
            values = tensors.from_bytes(tail[start : start + size], spec.datatype, shape, loc)
        given[name] = _Given(shape, values, loc)
    return given


def _binary_size(tensor: Mapping[str, Any], loc: Loc, tail: memoryview | None) -> int | None:
    size = _parameters(tensor, loc, ("binary_data_size", "content_type")).get("binary_data_size")
    if size is None:
        return None
    place = (*loc, "parameters", "binary_data_size")
    if type(size) is not int or size < 0:
        raise refuse("expected a number of bytes", *place)
    if tail is None:
        raise refuse("needs the header Inference-Header-Content-Length, the length of the JSON", *place)
    if tensor.get("data") is not None:
        raise refuse("has data as well; send one of the two", *place)
    return size


def _shape(raw: object, spec: TensorSpec, max_sequences: int, loc: Loc) -> list[int]:
    if not isinstance(raw, list) or not all(type(size) is int and size >= 0 for size in raw):
        raise refuse("expected a list of sizes", *loc)
    expected = [spec.shape]
    if spec.datatype == "BYTES":
        # A column of texts is what many clients of Triton and MLServer make of a list.
        expected = [(-1,), (-1, 1) if spec.shape == (-1,) else spec.shape]
    if not any(_fits(raw, shape) for shape in expected):
        words = " or ".join(str(list(shape)) for shape in expected)
        raise refuse(f"expected {words} for {spec.name}, got {raw[:8]}", *loc)
    if not 0 < raw[0] <= max_sequences:
        raise refuse(f"has {raw[0]} sequences, and this service takes 1 to {max_sequences} in a request", *loc)
    return raw


def _fits(shape: Sequence[int], expected: Sequence[int]) -> bool:
    return len(shape) == len(expected) and all(e in (-1, size) for e, size in zip(expected, shape, strict=True))


def _sequences(given: Mapping[str, _Given], spec: TensorSpec) -> list[Any]:
    """The raw items, as `POST /predict` has them."""
    shape, values, _ = given["sequences"]
    if len(spec.shape) == 1:
        return list(values)
    lengths = given.get("lengths")
    if len(shape) == 1:
        if lengths is not None:
            raise refuse("goes with tokens, [N, T]; a text is as long as it is", *lengths.loc)
        return _split(values)
    count, steps = shape[:2]
    ends = [steps] * count if lengths is None else _lengths(lengths, count, steps)
    if isinstance(values, list):
        return [values[i * steps : i * steps + end] for i, end in enumerate(ends)]
    return [series[:end] for series, end in zip(values.reshape(shape), ends, strict=True)]


def _split(texts: Iterable[str]) -> list[list[str]]:
    """Texts as tokens, whose answers, each as long as the longest, must not outgrow the memory for them."""
    tokens = [text.split() for text in texts]
    steps = len(tokens) * max(map(len, tokens))
    if steps > _MOST_STEPS:
        message = f"sequences: as long as the longest all together have {steps} tokens, and this service takes"
        raise BodyTooLarge(f"{message} {_MOST_STEPS} so; send the longest by themselves")
    return tokens


def _lengths(given: _Given, count: int, steps: int) -> list[int]:
    lengths: list[int] = list(given.values)
    if len(lengths) != count:
        raise refuse(f"expected {count} lengths, one for each sequence, got {len(lengths)}", *given.loc)
    for i, length in enumerate(lengths):
        if not 1 <= length <= steps:
            raise refuse(f"length {i} is {length}, and the sequences have 1 to {steps} timesteps", *given.loc)
    return lengths


def _outputs(raw: object, specs: Sequence[TensorSpec], are_binary: bool) -> list[Requested]:
    if raw is None or raw == []:
        return [Requested(spec, are_binary) for spec in specs]
    by_name = {spec.name: spec for spec in specs}
    requested = []
    for name, (output, loc) in _by_name(raw, "outputs", by_name, ()).items():
        wish = _flag(_parameters(output, loc, ("binary_data",)), "binary_data", loc)
        requested.append(Requested(by_name[name], are_binary if wish is None else wish))
    return requested


def _of(prediction: Any, name: str) -> Any:
    """What a prediction says, as a row of the output of this name."""
    if name == "lengths":
        return len(prediction.labels)
    value = getattr(prediction, name)
    if name != "probabilities":
        return value
    return [list(step.values()) for step in value] if isinstance(value, list) else list(value.values())


def _described(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}


def _by_name(
    raw: object, place: str, names: Collection[str], fields: Collection[str]
) -> dict[str, tuple[dict[str, Any], Loc]]:
    """The tensors of a list by their names, each with its place."""
    if not isinstance(raw, list) or not raw:
        raise refuse("expected a list of tensors", place)
    found: dict[str, tuple[dict[str, Any], Loc]] = {}
    for i, item in enumerate(raw):
        tensor = _object(item, (place, i), ("name", "parameters", *fields))
        name = tensor.get("name")
        if not isinstance(name, str) or name not in names:
            raise refuse(f"no such tensor; known are {', '.join(names)}", place, i, "name")
        if name in found:
            raise refuse(f"{name} is there twice", place, i, "name")
        found[name] = (tensor, (place, i))
    return found


def _object(raw: object, loc: Loc, fields: Collection[str]) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise refuse("expected an object", *loc)
    for name in raw:
        if name not in fields:
            raise refuse(f"not known here; known are {', '.join(fields)}", *loc, name[:100])
    return raw


def _parameters(owner: Mapping[str, Any], loc: Loc, names: Collection[str]) -> dict[str, Any]:
    raw = owner.get("parameters")
    parameters = {} if raw is None else _object(raw, (*loc, "parameters"), names)
    if parameters.get("content_type") not in _CONTENT_TYPES:
        raise refuse("expected np or str", *loc, "parameters", "content_type")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, loc: Loc) -> bool | None:
    value = parameters.get(name)
    if not isinstance(value, bool | None):
        raise refuse("expected true or false", *loc, "parameters", name)
    return value
