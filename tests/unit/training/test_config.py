"""Settings: typed, each by its name, and refused with the name where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from gatewise.errors import InvalidConfig
from training.config import TrainingConfig, check_settings, read_toml


def test_settings_come_back_typed_and_nothing_else_with_them() -> None:
    settings = check_settings({"cells": ["gru"], "epochs": "3", "dense_sizes": [8, 4]}, "here")
    assert settings == {"cells": ("gru",), "epochs": 3, "dense_sizes": (8, 4)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"hiden_size": 8},
            r"^here: hiden_size: no such setting; there are: affix_buckets, averaging, batch_size, .*hidden_size",
        ),
        ({"epochs": 0}, r"^here: epochs: .*greater than or equal to 1, got 0"),
        ({"epochs": "many"}, r"^here: epochs: .*valid integer.*got 'many'"),
        ({"cells": ["rnn"]}, r"^here: cells\.0: .*'lstm' or 'gru', got 'rnn'"),
        ({"cells": []}, r"^here: cells: .*at least 1 item"),
        ({"cells": ["lstm", "gru", "lstm"]}, r"^here: cells: a name stands twice"),
        ({"pooling": ["last", "last"]}, r"^here: pooling: a name stands twice"),
        ({"dense_sizes": [8, 0]}, r"^here: dense_sizes\.1: .*greater than or equal to 1"),
        ({"dense_dropout": 1.0}, r"^here: dense_dropout: .*less than 1"),
        ({"learning_rate": 0}, r"^here: learning_rate: .*greater than 0"),
        ({"learning_rate": float("inf")}, r"^here: learning_rate: .*finite"),
        ({"update_gate_bias": float("nan")}, r"^here: update_gate_bias: .*finite"),
        ({"seed": -1}, r"^here: seed: "),
        ({"stem_stride": 0}, r"^here: stem_stride: .*greater than or equal to 1"),
        ({"branch_channels": [8, 0]}, r"^here: branch_channels\.1: .*greater than or equal to 1"),
        ({"branch_kernels": [0]}, r"^here: branch_kernels\.0: .*greater than or equal to 1"),
        ({"wide": "maybe"}, r"^here: wide: .*'auto', 'on' or 'off', got 'maybe'"),
        ({"time_warp": 0.6}, r"^here: time_warp: .*less than or equal to 0.5"),
        ({"scaling": -0.1}, r"^here: scaling: .*greater than or equal to 0"),
        ({"channel_mixing": 1.1}, r"^here: channel_mixing: .*less than or equal to 1"),
        ({"averaging": 1.0}, r"^here: averaging: .*less than 1"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_by_its_name(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message) as error:
        check_settings(settings, "here")
    assert "\n" not in error.value.message


def test_one_convolution_is_a_list_of_one() -> None:
    settings = check_settings({"branch_channels": 32, "branch_kernels": 5}, "here")
    assert settings == {"branch_channels": (32,), "branch_kernels": (5,)}


def test_a_toml_file_holds_the_same_names(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text('cells = ["gru"]\nlearning_rate = 1e-2\nlowercase = false\nmax_length = 20\n', encoding="utf-8")
    assert read_toml(path) == {"cells": ("gru",), "learning_rate": 0.01, "lowercase": False, "max_length": 20}


def test_a_resolved_table_survives_toml_and_json() -> None:
    config = TrainingConfig(cells=("gru",), pooling=("max", "last"), dense_sizes=(), patience=3)
    assert TrainingConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"epochs = ", "cannot be read as TOML"),
        (b"name = '\xff'", "cannot be read as TOML"),
        (b"[optimizer]\nlr = 1", "optimizer: "),
        (b"epoch = 3", "epoch: no such setting"),
    ],
)
def test_a_toml_file_that_is_wrong_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_bytes(content)
    with pytest.raises(InvalidConfig, match=message) as error:
        read_toml(path)
    assert error.value.message.startswith(str(path))


def test_a_toml_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"none\.toml: cannot be read as TOML: .*No such file"):
        read_toml(tmp_path / "none.toml")
