"""Raw items to features: a text's by definition, a series' as its encoder gives them, and errors with their place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gatewise.batch import Encoded
from gatewise.errors import InvalidSequence
from gatewise.features import features_of
from gatewise.text import TextEncoder, TextEncoderConfig
from gatewise.timeseries import TimeSeriesEncoder
from tests.artifacts import SERIES_ENCODER, Made, config_of, embedded, weights_of

BOTH_TABLES = {"ngram_buckets": 19, "pair_buckets": 17}


def features(made: Made, item: Any) -> Encoded:
    return features_of(made.encoder, made.config, made.weights)(item, ())


def test_features_of_every_kind_are_float32_of_the_networks_width(made: Made) -> None:
    for item in made.items:
        encoded = features(made, item)
        assert encoded.inputs.dtype == np.float32
        assert encoded.inputs.shape == (len(made.features(item)), made.config.feature_size)
        np.testing.assert_allclose(encoded.inputs, made.features(item), rtol=0, atol=1e-6)


@pytest.mark.parametrize("fields", [{}, BOTH_TABLES])
@pytest.mark.parametrize("level", ["words", "characters", "subwords"])
@pytest.mark.parametrize("text", ["the cat", "", " ", "zyx unheard, the zyx", "😀 naïve 日本 the", "the " * 40])
def test_a_text_is_its_embedded_tokens(level: Any, fields: dict[str, int], text: str) -> None:
    encoder = TextEncoder.fit(["the cat sat on the mat"], TextEncoderConfig(level=level, max_length=20), min_count=1)
    config = config_of("text", vocab_size=encoder.vocab_size, **fields)
    weights = weights_of(config)
    encoded = features_of(encoder, config, weights)(text, ())
    ids = encoder.encode(text)
    np.testing.assert_allclose(encoded.inputs, embedded(config, weights, ids), rtol=0, atol=1e-6)
    assert encoded.tokens is None
    assert encoded.truncated == ids.truncated == (len(text) > 100)


def test_unknown_words_of_one_spelling_are_one_word_whatever_their_case(hashed_artifact: Made) -> None:
    one, other, third = (features(hashed_artifact, text).inputs for text in ("the zyx", "The  ZYX", "the zyxy"))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[0], third[0])
    assert np.abs(one[1] - third[1]).min() > 0


def test_tokens_keep_their_names(step_artifact: Made) -> None:
    tokens = ["The", "", "zyx", "moon"]
    encoded = features(step_artifact, tokens)
    assert (encoded.tokens, encoded.truncated, encoded.inputs.shape) == (tokens, False, (4, 3))


def test_a_series_is_what_its_encoder_gives() -> None:
    encoder = TimeSeriesEncoder(SERIES_ENCODER)
    config = config_of("series", input_size=SERIES_ENCODER.input_size)
    # Nothing of the weights is asked for.
    read = features_of(encoder, config, {})
    item = [[1.0, -2.0], [3.0, None]] * 13
    expected = [[0, 0, 0, 0], [1, 0, 0, 1]] * 12  # (3 - 1) / 2; the last reading seen stands for a missing one
    encoded = read(item, ())
    np.testing.assert_array_equal(encoded.inputs, expected)
    assert encoded.inputs.dtype == np.float32
    assert (encoded.tokens, encoded.truncated) == (None, True)


@pytest.mark.parametrize("loc", [(), (3,), ("sequences", 7)])
@pytest.mark.parametrize(
    ("name", "item", "place"),
    [
        ("text", 5, ()),
        ("text", None, ()),
        ("text", "a\ud800", ()),
        ("hashed", ["the"], ()),
        ("hashed", "\udfff", ()),
        ("step", ["the", 5], (1,)),
        ("step", [], ()),
        ("step", ["the", "moon", "a\ud800"], (2,)),
        ("series", [[1.0, 2.0], [1.0, "x"]], (1, 1)),
        ("series", [[1.0, 2.0], [1.0]], (1,)),
        ("series", "text", ()),
        ("series", [], ()),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    name: str, item: Any, place: tuple[int, ...], loc: tuple[Any, ...], request: pytest.FixtureRequest
) -> None:
    made: Made = request.getfixturevalue(f"{name}_artifact")
    with pytest.raises(InvalidSequence) as caught:
        features_of(made.encoder, made.config, made.weights)(item, loc)
    assert caught.value.loc == (*loc, *place)
