"""Tensors as the Open Inference Protocol sends them: values in JSON, flat or nested, or as bytes after it.

The bytes are those of Triton's binary tensor extension: little-endian, in C order; an element of BYTES is its length in
four bytes, and then itself. Of FP32 a missing reading is null or NaN.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import Loc
from service.errors import InvalidRequest

Datatype = Literal["FP32", "INT64", "BOOL", "BYTES"]
Values = NDArray[Any] | list[Any]

_DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8"), "BOOL": np.dtype("?")}
_JSON_TYPES: dict[str, set[type]] = {"FP32": {int, float, type(None)}, "INT64": {int}, "BYTES": {str}}
_EXPECTED = {"FP32": "a number", "INT64": "an integer", "BYTES": "a string"}
_LENGTH = struct.Struct("<I")


class TensorSpec(NamedTuple):
    """What a tensor of the live model is called and holds; -1 is a dimension that varies."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]


def refuse(message: str, *loc: str | int) -> InvalidRequest:
    """The error for what is wrong at a place of the request."""
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    return InvalidRequest(f"{path}: {message}" if path else message, details=[{"loc": list(loc), "message": message}])


def from_json(data: object, datatype: Datatype, shape: Sequence[int], loc: Loc) -> Values:
    """Return the values of a tensor in one row: float64 (size,), or a list of integers or strings.

    Args:
        data: one list, or lists nested as the shape is.
    Raises:
        InvalidRequest: their number, nesting or type is not what shape and datatype say.
    """
    values = _flat(data, shape, loc)
    types = _JSON_TYPES[datatype]
    if not set(map(type, values)) <= types:
        i = next(i for i, value in enumerate(values) if type(value) not in types)
        raise refuse(f"value {i} is not {_EXPECTED[datatype]}", *loc)
    return np.array(values, dtype=np.float64) if datatype == "FP32" else values


def from_bytes(data: memoryview, datatype: Datatype, shape: Sequence[int], loc: Loc) -> Values:
    """Return the values of a tensor in one row: float32 (size,), or a list of integers or strings; as `from_json`."""
    size = math.prod(shape)
    if datatype == "BYTES":
        return _strings(data, size, loc)
    dtype = _DTYPES[datatype]
    if len(data) != size * dtype.itemsize:
        raise refuse(f"has {len(data)} bytes, and its shape needs {size * dtype.itemsize}", *loc)
    values = np.frombuffer(data, dtype)
    return values if datatype == "FP32" else list(values.tolist())


def to_array(rows: Sequence[Any], spec: TensorSpec) -> NDArray[Any]:
    """Rows as one array of the tensor's datatype; shorter rows are filled up with 0 or, of BYTES, empty strings."""
    dtype: Any = object if spec.datatype == "BYTES" else _DTYPES[spec.datatype]
    if len(spec.shape) == 1 or spec.shape[1] != -1:
        return np.array(rows, dtype=dtype)
    longest = max(map(len, rows))
    filled = np.full((len(rows), longest, *spec.shape[2:]), "" if dtype is object else 0, dtype=dtype)
    for target, row in zip(filled, rows, strict=True):
        target[: len(row)] = row
    return filled


def to_bytes(array: NDArray[Any]) -> bytes:
    """The values as bytes after the JSON."""
    if array.dtype != object:
        return array.tobytes()
    strings = (value.encode() for value in array.ravel())
    return b"".join(chain.from_iterable((_LENGTH.pack(len(string)), string) for string in strings))


def _flat(data: object, shape: Sequence[int], loc: Loc) -> list[Any]:
    if not isinstance(data, list):
        raise refuse("expected a list of values", *loc)
    if not data or not isinstance(data[0], list):
        if len(data) != math.prod(shape):
            raise refuse(f"has {len(data)} values, and its shape needs {math.prod(shape)}", *loc)
        return data
    rows: list[Any] = [data]
    for size in shape:
        if not all(type(row) is list and len(row) == size for row in rows):
            raise refuse(f"is not nested as shape {list(shape)} is", *loc)
        rows = list(chain.from_iterable(rows))
    return rows


def _strings(data: memoryview, count: int, loc: Loc) -> list[str]:
    strings = []
    start = 0
    for i in range(count):
        end = start + _LENGTH.size
        if end <= len(data):
            end += _LENGTH.unpack_from(data, start)[0]
        if end > len(data):
            raise refuse(f"ends within value {i}, and its shape needs {count}", *loc)
        try:
            strings.append(str(data[start + _LENGTH.size : end], "utf-8"))
        except UnicodeDecodeError:
            raise refuse(f"value {i} is not UTF-8", *loc) from None
        start = end
    if start != len(data):
        raise refuse(f"has {len(data) - start} bytes more than its {count} values", *loc)
    return strings
