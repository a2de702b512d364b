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
        ({"head": "stem", "bidirectional": True}, 8, 32),
        ({"head": "branch", "bidirectional": True}, 8, 8 + 4),
        ({"head": "skip", "bidirectional": True, "input_size": 7}, 8, 8 + 7),
        ({"kind": "text", "head": "chain"}, 4, 4 + 3),
    ],
)
def test_sizes_follow_from_directions_and_poolings(fields: dict[str, Any], recurrent: int, pooled: int) -> None:
    config = config_of(**fields)
    assert (config.recurrent_size, config.pooled_size) == (recurrent, pooled)


def test_the_first_layer_reads_the_embedding_of_a_text_and_the_channels_of_a_series() -> None:
    assert config_of("text").feature_size == 3
    assert config_of("series", input_size=7).feature_size == 7
    assert config_of("text").recurrent_input_size == 3
    assert config_of("series", input_size=7).recurrent_input_size == 7


def test_the_first_layer_reads_the_channels_of_a_stem_where_there_is_one() -> None:
    config = config_of("series", head="stem", input_size=7)
    assert (config.feature_size, config.recurrent_input_size) == (7, 6)
    assert config_of("series", input_size=7, stem_stride=1, stem_channels=9).recurrent_input_size == 7


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
        ({"wide_buckets": 8, "wide_order": 2}, "wide_buckets are for text"),
        ({"kind": "text", "vocab_size": 9, "embedding_dim": 3, "wide_buckets": 8}, "go together"),
        ({"kind": "text", "vocab_size": 9, "embedding_dim": 3, "wide_order": 2}, "go together"),
        ({"wide_dilations": (1,), "wide_channels": 2}, "wide_dilations, wide_channels and wide_thresholds go together"),
        ({"wide_channels": 2, "wide_thresholds": 3}, "wide_dilations, wide_channels and wide_thresholds go together"),
        ({"wide_dilations": (0,), "wide_channels": 2, "wide_thresholds": 3}, "wide_dilations must be 1 or more"),
        ({"wide_dilations": (1,), "wide_channels": 3, "wide_thresholds": 3}, "wide_channels no more than input_size"),
        (
            {"task": "step", "wide_dilations": (1,), "wide_channels": 2, "wide_thresholds": 3},
            "are for one label a sequence",
        ),
        ({"kind": "text", "vocab_size": 9, "embedding_dim": 3, "wide_dilations": (1,)}, "wide_dilations is for series"),
        ({"task": "step", "stem_stride": 2}, "are for one label a sequence"),
        ({"task": "step", "branch_channels": (4,), "branch_kernels": (3,)}, "are for one label a sequence"),
        (
            {"kind": "text", "vocab_size": 9, "embedding_dim": 3, "task": "step", "wide_buckets": 8, "wide_order": 2},
            "are for one label a sequence",
        ),
        ({"skip": True}, "skip and crf are for a label for each step"),
        ({"crf": True}, "skip and crf are for a label for each step"),
        ({"branch_channels": (4, 4), "branch_kernels": (3,)}, "a number for each convolution"),
        ({"branch_kernels": (3,)}, "a number for each convolution"),
        ({"branch_channels": (4,), "branch_kernels": (2,)}, "must be odd"),
        ({"branch_channels": (4,), "branch_kernels": (-1,)}, "must be odd"),
        ({"stem_stride": 0}, "stem_stride"),
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


@pytest.mark.parametrize(
    ("fields", "streams"),
    [
        ({"num_layers": 2, "pooling": ("last", "mean", "max")}, True),
        ({"task": "step", "skip": True}, True),
        ({"bidirectional": True}, False),
        ({"task": "step", "crf": True}, False),
        ({"stem_stride": 2}, False),
        ({"wide_dilations": (1,), "wide_channels": 2, "wide_thresholds": 3}, False),
        ({"branch_channels": (4,), "branch_kernels": (3,)}, False),
    ],
)
def test_a_network_streams_where_no_part_waits_for_later_steps(fields: dict[str, Any], streams: bool) -> None:
    assert ModelConfig(kind="series", input_size=2, num_classes=2, **fields).can_stream is streams
