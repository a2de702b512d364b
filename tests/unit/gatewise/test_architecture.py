"""What a network may be, and the sizes that follow."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from gatewise.architecture import ModelConfig
from tests.artifacts import config_of


def test_the_default_is_the_documented_architecture() -> None:
    config = ModelConfig(kind="series", task="step", input_size=8, num_classes=6)
    assert (config.cell, config.hidden_size, config.num_layers, config.bidirectional) == ("lstm", 128, 1, False)
    assert (config.dense_sizes, config.reset_after) == ((64,), True)
    assert (config.embedding_dropout, config.recurrent_dropout, config.dense_dropout) == (0, 0, 0)


@pytest.mark.parametrize(
    ("fields", "recurrent", "pooled"),
    [
        ({"head": "last"}, 4, 4),
        ({"head": "last", "bidirectional": True}, 8, 8),
        ({"head": "all", "bidirectional": True}, 8, 32),
        ({"head": "step", "bidirectional": True, "pooling": ("mean", "max")}, 8, 8),
    ],
)
def test_sizes_follow_from_directions_and_poolings(fields: dict[str, Any], recurrent: int, pooled: int) -> None:
    config = config_of(**fields)
    assert (config.recurrent_size, config.pooled_size) == (recurrent, pooled)


def test_the_first_layer_reads_the_embedding_of_a_text_and_the_channels_of_a_series() -> None:
    assert config_of("text").feature_size == 3
    assert config_of("series", input_size=7).feature_size == 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "text", "embedding_dim": 3}, "a text model needs vocab_size and embedding_dim"),
        ({"kind": "text", "vocab_size": 9}, "a text model needs vocab_size and embedding_dim"),
        ({"kind": "series"}, "a series model needs input_size"),
        ({"pooling": ("max", "max")}, "pooling names a method twice"),
        ({"pooling": ()}, "pooling"),
        ({"pooling": ("median",)}, "pooling"),
        ({"num_classes": 1}, "num_classes"),
        ({"num_layers": 9}, "num_layers"),
        ({"recurrent_dropout": 1.0}, "recurrent_dropout"),
        ({"hidden_sizes": 5}, "hidden_sizes"),
    ],
)
def test_a_shape_that_cannot_be_is_refused_by_its_field(fields: dict[str, Any], message: str) -> None:
    complete = {"kind": "series", "input_size": 2, "num_classes": 2}
    if "kind" in fields:
        complete = {"num_classes": 2}
    with pytest.raises(ValidationError, match=message):
        ModelConfig.model_validate({**complete, **fields})


def test_a_shape_is_the_same_after_json() -> None:
    config = config_of("text", "gru_reset_before", "all", bidirectional=True, recurrent_dropout=0.25)
    assert ModelConfig.model_validate_json(config.model_dump_json()) == config
