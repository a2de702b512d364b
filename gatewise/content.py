"""A sequence as compact bytes, and a hash by which two equal sequences are known.

Equal means equal to a model: a series is compared as the 32-bit floats that every encoder reads, whichever way its JSON
was written. C channels, T timesteps.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

Form = Literal["text", "tokens", "series"]
Sequence = str | list[str] | NDArray[np.float32]


@dataclass(frozen=True)
class Content:
    """A packed sequence.

    Attributes:
        channels: C of a series; 0 of a text or of tokens.
        data: zlib's bytes of UTF-8, of a JSON list, or of little-endian floats, timestep by timestep.
        sha256: of what is packed, its form and its channels.
    """

    form: Form
    channels: int
    data: bytes
    sha256: bytes


def pack(sequence: Sequence) -> Content:
    """Pack a sequence that `gatewise.schema` has parsed: a text, a list of tokens, or readings (T, C)."""
    form, channels, data = _plain(sequence)
    return Content(form, channels, zlib.compress(data), _sha256(form, channels, data))


def sha256_of(sequence: Sequence) -> bytes:
    """The hash alone of what `pack` would give."""
    return _sha256(*_plain(sequence))


def unpack(form: str, channels: int, data: bytes) -> Sequence:
    """The sequence that `pack` was given; missing readings are NaN."""
    plain = zlib.decompress(data)
    if form == "text":
        return plain.decode()
    if form == "tokens":
        tokens: list[str] = orjson.loads(plain)
        return tokens
    return np.frombuffer(plain, dtype="<f4").astype(np.float32).reshape(-1, channels)


def _sha256(form: Form, channels: int, data: bytes) -> bytes:
    return hashlib.sha256(f"{form} {channels}\n".encode() + data).digest()


def _plain(sequence: Any) -> tuple[Form, int, bytes]:
    if isinstance(sequence, str):
        return "text", 0, sequence.encode()
    if isinstance(sequence, list):
        return "tokens", 0, orjson.dumps(sequence)
    # One zero and one NaN: bytes tell apart what numbers do not.
    readings = np.where(np.isnan(sequence), np.nan, sequence + 0.0)
    return "series", sequence.shape[1], readings.astype("<f4").tobytes()
