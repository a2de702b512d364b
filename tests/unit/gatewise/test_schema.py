"""What an item may be; what it may not be is named with its place."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from gatewise.errors import InvalidSequence
from gatewise.schema import Explanation, LayerGates, parse_series, parse_text, parse_tokens

NAN, INFINITY = math.nan, math.inf


@pytest.mark.parametrize("text", ["", "  ", "a\x00b", "日本語", "ไทย", "שלום", "👩‍👩‍👧", "e\u0301", "\ufeff"])
def test_any_text_is_taken_as_it_is(text: str) -> None:
    assert parse_text(text) == text
    assert parse_tokens([text, "x"]) == [text, "x"]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, "expected a string, got null"),
        (3, "expected a string, got a number"),
        (True, "expected a string, got a boolean"),
        (["a"], "expected a string, got a list"),
        ({"text": "a"}, "expected a string, got an object"),
        (b"a", "expected a string, got bytes"),
        ("ab\ud800", "character 2 is a lone surrogate"),
    ],
)
def test_what_is_not_text_is_named_with_its_place(item: object, message: str) -> None:
    with pytest.raises(InvalidSequence, match=message) as caught:
        parse_text(item, ("sequences", 3))
    assert caught.value.loc == ("sequences", 3)
    assert caught.value.details == [{"loc": ["sequences", 3], "message": caught.value.message}]
    with pytest.raises(InvalidSequence, match=message) as caught:
        parse_tokens(["fine", item], (3,))
    assert caught.value.loc == (3, 1)


def test_a_string_of_tokens_is_split_at_white_space() -> None:
    assert parse_tokens(" EU  rejects\tGerman\ncall ") == ["EU", "rejects", "German", "call"]
    assert parse_tokens(("a b", "", " ")) == ["a b", "", " "]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], "has no tokens"),
        ("", "has no tokens"),
        (" \n", "has no tokens"),
        (None, "expected a list of tokens or a string, got null"),
        ({"a": 1}, "expected a list of tokens or a string, got an object"),
    ],
)
def test_tokens_must_be_there(item: object, message: str) -> None:
    with pytest.raises(InvalidSequence, match=message) as caught:
        parse_tokens(item, (2,))
    assert caught.value.loc == (2,)


@pytest.mark.parametrize(
    ("item", "channels", "expected"),
    [
        ([[1, 2.5], [3, -4]], 2, [[1, 2.5], [3, -4]]),
        ([1, 2, 3], 1, [[1], [2], [3]]),
        ([[1], [2]], 1, [[1], [2]]),
        (((1, 2),), 2, [[1, 2]]),
        (np.array([1, 2], dtype=np.int8), 1, [[1], [2]]),
        (np.array([[1, 2]], dtype=np.uint16), 2, [[1, 2]]),
        (np.array([[0.5, 2]], dtype=np.float16), 2, [[0.5, 2]]),
    ],
)
def test_readings_become_timesteps_by_channels(item: object, channels: int, expected: list[list[float]]) -> None:
    values = parse_series(item, channels, allow_missing=False)
    assert values.tolist() == expected
    assert values.dtype == np.float32


@pytest.mark.parametrize("item", [[[1, None], [None, 2]], np.array([[1, NAN], [NAN, 2]]), [[1, NAN], [NAN, 2]]])
def test_a_missing_reading_is_nan_where_the_model_takes_it_and_an_error_where_not(item: object) -> None:
    np.testing.assert_array_equal(parse_series(item, 2, allow_missing=True), np.float32([[1, NAN], [NAN, 2]]))
    with pytest.raises(InvalidSequence, match="a reading is missing") as caught:
        parse_series(item, 2, allow_missing=False, loc=(7,))
    assert caught.value.loc == (7, 0, 1)


@pytest.mark.parametrize("allow_missing", [False, True])
@pytest.mark.parametrize(
    ("item", "channels", "message", "loc"),
    [
        ([], 2, "has no timesteps", ()),
        (np.zeros((0, 2)), 2, "has no timesteps", ()),
        ([[1, 2], [3]], 2, "expected 2 channels, got 1", (1,)),
        ([[1, 2], [1, 2, 3]], 2, "expected 2 channels, got 3", (1,)),
        ([[1, 2], 3], 2, "expected a list of 2 readings, got a number", (1,)),
        ([1, 2], 2, "expected a list of 2 readings, got a number", (0,)),
        ([[1], 2], 1, "expected a list of 1 readings, got a number", (1,)),
        ([1, [2]], 1, "expected a number, got a list", (1,)),
        ([1, "2"], 1, "expected a number, got a string", (1,)),
        ([[1, 2], [3, "x"]], 2, "expected a number, got a string", (1, 1)),
        ([[1, True]], 2, "expected a number, got a boolean", (0, 1)),
        ([[1, {}]], 2, "expected a number, got an object", (0, 1)),
        ([[1, INFINITY]], 2, "infinite", (0, 1)),
        ([1.0, -INFINITY], 1, "infinite", (1,)),
        ([[INFINITY, -INFINITY]], 2, "infinite", (0, 0)),
        ([[1, 1e39]], 2, "beyond the range of a 32-bit float", (0, 1)),
        ([10**400], 1, "an integer too large", ()),
        ("text", 1, "expected a list of timesteps, got a string", ()),
        (None, 1, "expected a list of timesteps, got null", ()),
        (5, 1, "expected a list of timesteps, got a number", ()),
        ({"a": [1]}, 1, "expected a list of timesteps, got an object", ()),
        (np.zeros((3, 3)), 2, r"expected shape \(timesteps, 2\), got \(3, 3\)", ()),
        (np.zeros((2, 3)), 3 * 2, "expected shape", ()),
        (np.zeros((1, 3, 2)), 2, "expected shape", ()),
        (np.zeros(4), 2, "expected shape", ()),
        (np.float32(1)[None][0:0], 1, "has no timesteps", ()),
        (np.array([True]), 1, "expected numbers, got an array of bool", ()),
        (np.array([1j]), 1, "expected numbers, got an array of complex128", ()),
        (np.array(["1"]), 1, "expected numbers", ()),
        (np.array([None]), 1, "expected numbers, got an array of object", ()),
    ],
)
def test_what_is_not_readings_is_named_with_its_place(
    item: object, channels: int, message: str, loc: tuple[int, ...], allow_missing: bool
) -> None:
    with pytest.raises(InvalidSequence, match=message) as caught:
        parse_series(item, channels, allow_missing=allow_missing, loc=("sequences", 4))
    assert caught.value.loc == ("sequences", 4, *loc)
    assert caught.value.code == "invalid_sequence"


def test_readings_whose_sum_overflows_are_still_finite() -> None:
    item = [[3e38, 3e38], [-3e38, 3e38]]
    np.testing.assert_array_equal(parse_series(item, 2, allow_missing=False), np.float32(item))


FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=12,
)


@given(item=JSON, channels=st.integers(1, 3), allow_missing=st.booleans())
def test_any_json_is_readings_or_an_error_with_a_place_in_it(item: Any, channels: int, allow_missing: bool) -> None:
    for parse in (
        lambda: parse_series(item, channels, allow_missing=allow_missing),
        lambda: parse_tokens(item),
        lambda: parse_text(item),
    ):
        try:
            parsed = parse()
        except InvalidSequence as error:
            place = item
            for step in error.loc:
                place = place[step]
        else:
            assert len(parsed) or parsed == ""


@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.integers(1, 3)), elements=FLOATS))
def test_an_array_and_its_lists_are_the_same_readings(values: np.ndarray) -> None:
    answers = []
    for item in (values, values.tolist()):
        try:
            answers.append(parse_series(item, values.shape[1], allow_missing=True))
        except InvalidSequence as error:
            answers.append(np.array(error.loc))
    np.testing.assert_array_equal(*answers)
    assert (answers[0].ndim == 1) == bool(np.isinf(values).any())


def test_an_explanation_gives_the_gates_of_its_first_layer_by_name() -> None:
    gate, outputs = np.zeros((2, 3), dtype=np.float32), np.ones((2, 3), dtype=np.float32)
    layer = LayerGates(layer=0, direction="left_to_right", gates={"reset_gate": gate}, outputs=outputs)
    assert Explanation(layers=[layer])["reset_gate"] is gate
