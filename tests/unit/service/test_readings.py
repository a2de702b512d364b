"""The quick reading of series is held to the ordinary one: the same numbers, and nothing that it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.errors import GatewiseError
from gatewise.schema import parse_series
from service.payload import parse, read_json
from service.readings import read_series
from service.registry import LiveModel
from tests.unit.service.fakes import FakePredictor

READINGS = st.one_of(st.integers(-(2**70), 2**70), st.floats(), st.floats(-1000, 1000).map(lambda v: round(v, 4)))
ODD: Any = st.one_of(READINGS, st.none(), st.booleans(), st.text(max_size=3), st.just([]), st.just([1]), st.just({}))


def ordinary(body: bytes, channels: int) -> list[Any] | None:
    """What the ordinary reading takes from a body as float32, or None where it refuses."""
    try:
        items = parse(body, 10).sequences
        return [parse_series(item, channels, allow_missing=False) for item in items]
    except GatewiseError:
        return None


def held(body: bytes, channels: int) -> bool:
    """Hold the quick reading of a body to the ordinary one; return whether it was read quickly."""
    quick = read_series(body, channels)
    if quick is None:
        return False
    assert all(one.ndim == 2 and one.shape[1] == channels and len(one) for one in quick)
    expected = ordinary(body, channels)
    with np.errstate(over="ignore"):
        found = [one.astype(np.float32) for one in quick]
    if expected is None:  # a number that float32 cannot hold is found after the reading
        assert not all(np.isfinite(one).all() for one in found)
        return True
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    return True


@st.composite
def bodies(draw: st.DrawFn, reading: Any) -> tuple[bytes, int]:
    channels = draw(st.integers(1, 3))
    step = st.lists(reading, min_size=channels, max_size=channels)
    if draw(st.integers(0, 9)) == 0:
        step = st.lists(reading, max_size=4)
    if channels == 1 and draw(st.booleans()):
        step = reading
    sequences = draw(st.lists(st.lists(step, min_size=draw(st.integers(0, 1)), max_size=4), max_size=3))
    indent = draw(st.sampled_from([None, 1]))
    return json.dumps({"sequences": sequences}, indent=indent).encode(), channels


@settings(max_examples=400)
@given(bodies(READINGS))
def test_series_are_read_to_the_same_numbers(case: tuple[bytes, int]) -> None:
    held(*case)


@settings(max_examples=400)
@given(bodies(ODD))
def test_what_is_no_series_is_never_read_as_one(case: tuple[bytes, int]) -> None:
    held(*case)


@settings(max_examples=400)
@given(bodies(st.integers(0, 99)), st.integers(0, 10_000), st.sampled_from(b'[],{}":.-e 10tn\x00\xff'))
def test_a_body_with_a_byte_changed_is_read_as_the_ordinary_reading_does(
    case: tuple[bytes, int], place: int, byte: int
) -> None:
    body = bytearray(case[0])
    body[place % len(body)] = byte
    held(bytes(body), case[1])


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ('{"sequences":[[[1,2],[3,4.5]]]}', 2),
        ('{"sequences": [[[1, 2]], [[3, 4], [-5e-3, 6]]]}', 2),
        ('{"sequences":[[1,2.5,3],[4]]}', 1),
        ('{"sequences":[[[1],[2]]]}', 1),
    ],
)
def test_plain_series_are_read_quickly(text: str, channels: int) -> None:
    assert held(text.encode(), channels)


@pytest.mark.parametrize(
    ("text", "channels"),
    [
        ('{"sequences":[[[1,2],[3]]]}', 2),
        ('{"sequences":[[[1,2],[3,4,5],[6]]]}', 2),
        ('{"sequences":[[[1,2],3]]}', 2),
        ('{"sequences":[[[1,[2]]]]}', 2),
        ('{"sequences":[[[1,true]]]}', 2),
        ('{"sequences":[[[1,null]]]}', 2),
        ('{"sequences":[[]]}', 1),
        ('{"sequences":[[],7]}', 1),
        ('{"sequences":[[1,2],[]]}', 1),
        ('{"sequences":[[[],[1]]]}', 1),
        ('{"sequences":[[[1],2]]}', 1),
        ('{"sequences":[]}', 2),
        ('{"s1equences":[[[1,2]]]}', 2),
        ('{"sequences":[[[1,2]]],"sequences":[[[3,4]]]}', 2),
        ('{"sequences":[[[1,2]]],"probabilities":true}', 2),
        ('{"sequences":[[[01,2]]]}', 2),
        ('{"sequences":[[[1 1,2]]]}', 2),
        ('[[[1,2]]]', 2),
    ],
)  # fmt: skip
def test_everything_else_is_left_to_the_ordinary_reading(text: str, channels: int) -> None:
    assert read_series(text.encode(), channels) is None


def test_a_request_has_the_same_answer_by_either_reading() -> None:
    items = np.random.default_rng(0).normal(size=(3, 5, 2)).round(5).tolist()
    body = orjson.dumps({"sequences": items})
    quick = read_json(body, LiveModel(FakePredictor(), 100), 3)  # type: ignore[arg-type]
    for one, other in zip(quick.sequences, parse(body, 3).sequences, strict=True):
        assert one.tolist() == other
