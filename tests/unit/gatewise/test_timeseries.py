"""Readings to features, each number against numpy or arithmetic done by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.errors import InvalidSequence
from gatewise.timeseries import TimeSeriesEncoder, TimeSeriesEncoderConfig

NAN = np.nan


def series(*rows: Any) -> np.ndarray:
    return np.array(rows, dtype=np.float32)


def features(encoder: TimeSeriesEncoder, item: Any) -> np.ndarray:
    inputs: np.ndarray = encoder.encode(item).inputs
    assert inputs.dtype == np.float32
    assert inputs.shape[1] == encoder.config.input_size
    return inputs


def test_readings_are_standardized_by_all_readings_of_the_train_split() -> None:
    random = np.random.default_rng(0)
    items = [(random.normal(size=(length, 3)) * [1, 50, 1e-3] + [0, 900, 4]).astype(np.float32) for length in (5, 1, 9)]
    encoder = TimeSeriesEncoder.fit(items, ["a", "b", "c"])
    stacked = np.concatenate(items).astype(np.float64)
    np.testing.assert_allclose(encoder.config.mean, stacked.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(encoder.config.scale, stacked.std(axis=0), rtol=1e-9)
    for item in items:
        expected = (item.astype(np.float64) - stacked.mean(axis=0)) / stacked.std(axis=0)
        np.testing.assert_allclose(features(encoder, item), expected, rtol=0, atol=1e-6)
    standardized = np.concatenate([features(encoder, item) for item in items])
    np.testing.assert_allclose(standardized.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(standardized.std(axis=0), 1, atol=1e-6)
    assert not encoder.config.allow_missing
    assert encoder.config.input_size == 3


def test_missing_readings_are_carried_forward_begin_at_the_mean_and_are_marked() -> None:
    # Channel a: readings 2, 6, 4 have mean 4 and deviation sqrt(8/3). Channel b: 1, 3 have mean 2 and deviation 1.
    item = series([NAN, 1], [2, NAN], [NAN, NAN], [6, 3], [4, NAN])
    encoder = TimeSeriesEncoder.fit([item], ["a", "b"])
    assert encoder.config.mean == (4.0, 2.0)
    np.testing.assert_allclose(encoder.config.scale, [np.sqrt(8 / 3), 1.0], rtol=1e-15)
    assert encoder.config.allow_missing
    d = np.sqrt(8 / 3)
    expected = [
        # a: mean, 2, 2, 6, 4; b: 1, 1, 1, 3, 3; then where each was missing
        [0 / d, -1, 1, 0],
        [-2 / d, -1, 0, 1],
        [-2 / d, -1, 1, 1],
        [2 / d, 1, 0, 0],
        [0 / d, 1, 0, 1],
    ]
    np.testing.assert_allclose(features(encoder, item), expected, rtol=0, atol=1e-7)
    as_json = json.loads(json.dumps(item.tolist()).replace("NaN", "null"))
    np.testing.assert_array_equal(features(encoder, as_json), features(encoder, item))


def test_differences_are_those_of_the_filled_readings_over_their_own_deviation() -> None:
    # Means: a 4, b 2. First item filled: a 1, 5, 5; differences 4, 0. Second: b 2 (mean), 3, 1; a 4, 6, 4.
    first, second = series([1, 2], [5, 2], [NAN, 2]), series([4, NAN], [6, 3], [4, 1])
    encoder = TimeSeriesEncoder.fit([first, second], ["a", "b"], differences=True)
    assert encoder.config.mean == (4.0, 2.0)
    assert encoder.config.difference_scale is not None
    # Differences of a: 4, 0, 2, -2 (mean 1); of b: 0, 0, 1, -2 (mean -1/4).
    expected = [np.std([4, 0, 2, -2]), np.std([0, 0, 1, -2])]
    np.testing.assert_allclose(encoder.config.difference_scale, expected, rtol=1e-12)
    differences = features(encoder, second)[:, 2:4]
    np.testing.assert_allclose(differences, np.array([[0, 0], [2, 1], [-2, -2]]) / expected, rtol=0, atol=1e-6)
    masks = features(encoder, second)[:, 4:]
    assert masks.tolist() == [[0, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize("constant", [0.0, 7.0, -3e-5, 0.1, 1e30])
def test_a_constant_channel_becomes_zero_and_never_noise(constant: float) -> None:
    item = np.full((9, 1), constant, dtype=np.float32)
    encoder = TimeSeriesEncoder.fit([item, item[:2]], ["a"], differences=True)
    assert encoder.config.scale == (1.0,)
    assert encoder.config.difference_scale == (1.0,)
    np.testing.assert_allclose(features(encoder, item), np.zeros((9, 2)), rtol=0, atol=max(1e-6, constant * 1e-7))


def test_a_channel_without_a_single_reading_is_zero_and_marked() -> None:
    item = series([1, NAN], [3, NAN])
    encoder = TimeSeriesEncoder.fit([item, item], ["a", "b"], differences=True)
    assert (encoder.config.mean, encoder.config.scale) == ((2.0, 0.0), (1.0, 1.0))
    assert features(encoder, item)[:, [1, 3, 5]].tolist() == [[0, 0, 1], [0, 0, 1]]
    assert np.isfinite(features(encoder, series([NAN, NAN]))).all()


def test_series_of_one_step_have_no_differences_to_measure() -> None:
    encoder = TimeSeriesEncoder.fit([series([1]), series([3])], ["a"], differences=True)
    assert encoder.config.difference_scale == (1.0,)
    assert features(encoder, series([1])).tolist() == [[-1, 0]]


@pytest.mark.parametrize(("keep", "kept"), [("head", slice(0, 3)), ("tail", slice(2, 5))])
def test_a_long_series_keeps_its_head_or_tail_as_if_it_were_the_whole(keep: Any, kept: slice) -> None:
    items = [series([1, 5], [NAN, 6], [3, NAN], [4, 2], [NAN, 9])]
    cut = TimeSeriesEncoder.fit(items, ["a", "b"], differences=True, max_length=3, keep=keep)
    whole = TimeSeriesEncoder.fit(items, ["a", "b"], differences=True)
    encoded = cut.encode(items[0])
    assert encoded.truncated
    np.testing.assert_array_equal(encoded.inputs, features(whole, items[0][kept]))
    assert not cut.encode(items[0][:3]).truncated
    np.testing.assert_array_equal(cut.encode(items[0][:3]).inputs, features(whole, items[0][:3]))


READING = st.none() | st.floats(-1e6, 1e6, width=32)


@given(item=st.lists(st.tuples(READING, READING), min_size=1, max_size=12), cut=st.integers(1, 12))
def test_the_features_of_a_prefix_are_the_prefix_of_the_features(item: list[Any], cut: int) -> None:
    encoder = TimeSeriesEncoder(
        TimeSeriesEncoderConfig(
            channels=("a", "b"), mean=(3.0, -1.0), scale=(2.0, 7.0), difference_scale=(0.5, 3.0), allow_missing=True
        )
    )
    rows = [list(row) for row in item]
    np.testing.assert_array_equal(features(encoder, rows[:cut]), features(encoder, rows)[:cut])


def test_many_items_are_encoded_as_each_alone() -> None:
    items = [[[1.0], [None]], [[2.0]], np.zeros((40, 1))]
    encoder = TimeSeriesEncoder.fit([series([1], [NAN]), series([4])], ["a"], max_length=10)
    for many, item in zip(encoder.encode_many(items), items, strict=True):
        np.testing.assert_array_equal(many, encoder.encode(item).inputs)
    with pytest.raises(InvalidSequence) as caught:
        encoder.encode_many([[[1.0]], [[1.0], [np.inf]]])
    assert caught.value.loc == (1, 1)


def test_a_missing_reading_is_refused_where_training_had_none() -> None:
    encoder = TimeSeriesEncoder.fit([series([1, 2], [2, 4])], ["a", "b"])
    with pytest.raises(InvalidSequence, match="trained without missing readings") as caught:
        encoder.encode([[1, 2], [None, 3]], ("sequences", 0))
    assert caught.value.loc == ("sequences", 0, 1, 0)


def test_the_encoder_is_the_same_after_json_and_leaves_its_items_alone() -> None:
    items = [series([0.1, NAN], [1 / 3, 5]), series([7e-9, 2])]
    before = [item.copy() for item in items]
    encoder = TimeSeriesEncoder.fit(items, ["a", "b"], differences=True)
    config = TimeSeriesEncoderConfig.model_validate_json(encoder.config.model_dump_json())
    assert config == encoder.config
    for item, same in zip(items, before, strict=True):
        np.testing.assert_array_equal(features(TimeSeriesEncoder(config), item), features(encoder, item))
        np.testing.assert_array_equal(item, same)


@pytest.mark.parametrize(
    ("item", "place"),
    [
        ([[0, 1], [3e38, 1]], [1, 0]),
        ([[0, 1], [1, -3e38]], [1, 1]),
        ([[0, 1], [0, 0], [0, 0], [0, 0], [1, 3e38]], [4, 1]),
    ],
)
def test_a_reading_too_large_for_the_network_is_refused_with_its_place(item: Any, place: list[int]) -> None:
    config = TimeSeriesEncoderConfig(
        channels=("a", "b"), mean=(0.0, 1.0), scale=(1.0, 1e-3), difference_scale=(1.0, 1.0), max_length=3
    )
    with pytest.raises(InvalidSequence, match="too far from every reading of the training data") as caught:
        TimeSeriesEncoder(config).encode(item, ("sequences", 2))
    assert caught.value.loc == ("sequences", 2, *place)
    one = TimeSeriesEncoder(TimeSeriesEncoderConfig(channels=("a",), mean=(0.0,), scale=(1e-3,)))
    with pytest.raises(InvalidSequence) as caught:
        one.encode([1.0, 3e38], (2,))
    assert caught.value.loc == (2, 1)


def test_a_reading_that_is_cut_away_may_be_as_large_as_it_likes() -> None:
    encoder = TimeSeriesEncoder(
        TimeSeriesEncoderConfig(channels=("a",), mean=(0.0,), scale=(1.0,), max_length=2, difference_scale=(1.0,))
    )
    assert features(encoder, [3e38, 1, 2]).tolist() == [[1, 0], [2, 1]]
