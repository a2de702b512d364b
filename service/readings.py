"""Series read from JSON straight into arrays, without a Python object for each number.

Only the plainest body is read here, which is what nearly every request is; any other is left to the ordinary reading,
which finds its words for what is wrong. What is read here, that one reads to the same numbers: a property test says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import simdjson
from numpy.typing import NDArray

# What numbers and white space are made of; the letter is in the field's name too.
_NUMBERS = b"0123456789+-.eE \t\r\n"
_HEAD, _TAIL = b'{"sequences":['.translate(None, _NUMBERS), b"]}"


def read_series(body: bytes | bytearray, channels: int) -> list[NDArray[np.float64]] | None:
    """Return the sequences, each (T, C), of a body that has no other field and only whole timesteps of numbers.

    Returns:
        None where the body is anything else, valid or not.
    """
    lengths = _lengths(body.translate(None, _NUMBERS), channels)
    if lengths is None:
        return None
    try:
        document: Any = simdjson.Parser().parse(body)
        values = np.frombuffer(document["sequences"].as_buffer(of_type="d"), dtype=np.float64)
    except (ValueError, TypeError, KeyError, RuntimeError):
        return None
    # A list without a reading looks as one with a single reading does.
    if len(values) != sum(lengths) * channels:
        return None
    sequences, start = [], 0
    for length in lengths:
        sequences.append(values[start : start + length * channels].reshape(length, channels))
        start += length * channels
    return sequences


def _lengths(skeleton: bytes | bytearray, channels: int) -> list[int] | None:
    """Timesteps of each sequence by the brackets and commas of a body, or None where they are not those of series."""
    if not (skeleton.startswith(_HEAD + b"[") and skeleton.endswith(b"]" + _TAIL)):
        return None
    inner = bytes(skeleton[len(_HEAD) + 1 : -len(_TAIL) - 1])
    if channels == 1 and not inner.startswith(b"["):
        sequences = [b"." + one.replace(b",", b",.") for one in inner.split(b"],[")]
    else:
        # One sign stands for a timestep; numbers, which have it too, are gone.
        step = b"[" + b"," * (channels - 1) + b"]"
        sequences = inner.replace(step, b".").split(b"],[")
    lengths = [(len(one) + 1) // 2 for one in sequences]
    return lengths if all(one and one == (b".," * n)[:-1] for one, n in zip(sequences, lengths, strict=True)) else None
