"""What is measured of an artifact; how long it takes is not the tests' to judge."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.artifact import Artifact
from gatewise.predictor import Predictor
from tests.artifacts import Made, make_series
from training.config import TrainingConfig
from training.contenders import Found, contenders
from training.dataset import Dataset
from training.evaluation import Scores
from training.measuring import best_seed, measure_cost


def rows_of(made: Made) -> Dataset:
    items = [made.items[i % len(made.items)] for i in range(40)]
    return Dataset("series", "sequence", items, ["up"] * 40, ("0", "1"), None, "made.npz", np.arange(40))


@pytest.mark.parametrize("part", [{}, {"bidirectional": True}, {"stem_stride": 2}])
def test_a_step_is_timed_where_the_model_can_stream_and_nowhere_else(tmp_path: Path, part: dict[str, Any]) -> None:
    made = make_series(tmp_path / "artifact", **part)
    cost = measure_cost(made.folder, Predictor.load(made.folder), rows_of(made))
    latency = asdict(cost.latency)
    assert (latency.pop("engine"), latency.pop("device")) == ("onnx", "cpu")
    step = latency.pop("step_ms")
    assert cost.can_stream == (not part) == (step is not None)
    assert all(value > 0 for value in latency.values())
    assert cost.parameters == sum(array.size for array in Artifact(made.folder).weights().values())
    sizes = [path.stat().st_size for path in made.folder.iterdir() if path.name != "manifest.json"]
    assert cost.size_mb == sum(sizes) / 1e6


def test_times_that_were_kept_are_not_measured_again(tmp_path: Path) -> None:
    made = make_series(tmp_path / "artifact")
    predictor = Predictor.load(made.folder)
    first = measure_cost(made.folder, predictor, rows_of(made))
    assert measure_cost(made.folder, predictor, rows_of(made), asdict(first.latency)) == first


def test_the_seed_that_is_kept_is_the_best_by_the_figure_then_by_log_loss_then_the_first() -> None:
    def scores(accuracy: float, log_loss: float) -> Scores:
        return Scores({"accuracy": accuracy, "log_loss": log_loss}, 1, np.ones(1))

    assert best_seed([scores(0.8, 0.1), scores(0.9, 0.9), scores(0.7, 0.1)], "accuracy") == 1
    assert best_seed([scores(0.9, 0.5), scores(0.9, 0.4), scores(0.9, 0.4)], "accuracy") == 1


def test_contenders_are_every_cell_in_every_size_with_every_seed() -> None:
    plain = contenders(TrainingConfig(seed=7, hidden_size=9))
    assert [(one.name, one.folder, one.seed, one.config.hidden_size) for one in plain] == [
        ("lstm", "lstm", 7, 9),
        ("gru", "gru", 7, 9),
    ]
    many = contenders(TrainingConfig(cells=("gru",), sizes=(4, 8), seeds=2))
    assert [(one.name, one.folder, one.title, one.seed, one.config.hidden_size) for one in many] == [
        ("gru-4", "gru-4", "GRU-4", 0, 4),
        ("gru-4", "gru-4-seed1", "GRU-4 with seed 1", 1, 4),
        ("gru-8", "gru-8", "GRU-8", 0, 8),
        ("gru-8", "gru-8-seed1", "GRU-8 with seed 1", 1, 8),
    ]


def test_each_cell_is_trained_with_what_a_search_found_for_it() -> None:
    found = Found({"gru": {"learning_rate": 0.5}}, {})
    rates = {one.cell: one.config.learning_rate for one in contenders(TrainingConfig(), found)}
    assert rates == {"lstm": 1e-3, "gru": 0.5}
