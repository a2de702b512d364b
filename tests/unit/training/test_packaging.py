"""A trained candidate to an artifact that answers as the candidate did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.architecture import ModelConfig
from gatewise.artifact import Artifact
from gatewise.engines import EngineName
from gatewise.errors import InvalidSequence
from gatewise.predictor import Predictor
from gatewise.text import TextEncoder, TextEncoderConfig
from gatewise.timeseries import TimeSeriesEncoder
from tests.artifacts import Weights, config_of, expected_logits, weights_of
from training.data import IGNORED, EncodedDataset
from training.dataset import Dataset
from training.packaging import Packer

LABELS = ("x", "y", "z")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def packer_of(data: Dataset, encoder: Any, labels: list[Any]) -> Packer:
    rows = EncodedDataset(encoder.encode_many(data.items), labels)
    return Packer("trends", "2026-11-23T08:45:12+00:00", LABELS, encoder, data, rows, {"source": "trends.csv"})


def series_packer(rows: int = 150) -> tuple[Packer, ModelConfig]:
    """More rows than a batch holds, of unsorted lengths, some readings missing."""
    random = np.random.default_rng(0)
    items = [random.normal(size=(length, 2)).astype(np.float32) for length in random.permutation(rows) % 40 + 1]
    items[3][0, 0] = np.nan
    data = Dataset("series", "sequence", items, ["x"] * rows, ("a", "b"), None, "trends.csv", np.arange(rows))
    encoder = TimeSeriesEncoder.fit(items, ["a", "b"])
    labels = random.integers(0, 3, size=rows).tolist()
    config = config_of("series", "gru", "all", input_size=encoder.config.input_size, bidirectional=True)
    return packer_of(data, encoder, labels), config


def step_packer(labels_of: Callable[[int], Any]) -> tuple[Packer, ModelConfig]:
    random = np.random.default_rng(1)
    vocabulary = ["how", "far", "is", "the", "moon", "from", "here", "?"]
    items = [random.choice(vocabulary, size=length).tolist() for length in random.integers(1, 20, size=70)]
    data = Dataset("text", "step", items, None, None, None, "tags.jsonl", np.arange(70))
    encoder = TextEncoder.fit(items, TextEncoderConfig(level="tokens"), min_count=1)
    labels = [np.array([labels_of(k) for k in range(len(item))]) for item in items]
    return packer_of(data, encoder, labels), config_of("text", "lstm", "step", vocab_size=encoder.vocab_size)


def references(packer: Packer, config: ModelConfig, weights: Weights) -> list[np.ndarray]:
    return [expected_logits(config, weights, inputs) for inputs in packer.encoded_valid.inputs]


def best_temperature(logits: list[np.ndarray], labels: list[Any]) -> float:
    """The temperature of least loss on a fine grid, with the prior that the library states: 5 (log T)^2."""
    scores = np.concatenate([np.atleast_2d(row) for row in logits])
    truth = np.concatenate([np.atleast_1d(label) for label in labels])
    scores, truth = scores[truth != IGNORED], truth[truth != IGNORED]
    grid = np.exp(np.linspace(np.log(0.25), np.log(4), 4001))
    losses = [
        torch.nn.functional.cross_entropy(torch.from_numpy(scores / T), torch.from_numpy(truth), reduction="sum").item()
        + 5 * np.log(T) ** 2
        for T in grid
    ]
    return float(grid[int(np.argmin(losses))])


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_packed_series_model_answers_as_the_reference_computes(engine: EngineName, tmp_path: Path) -> None:
    packer, config = series_packer()
    weights = weights_of(config)
    predictor = Predictor.load(packer.pack(tmp_path / "artifact", config, weights), engine=engine)
    expected = references(packer, config, weights)
    for result, logits in zip(predictor.run_each(packer.valid.items), expected, strict=True):
        assert not isinstance(result, InvalidSequence)
        np.testing.assert_allclose(result[1], logits, rtol=0, atol=1e-5)
    manifest = predictor.manifest
    assert (manifest.name, manifest.labels, manifest.data) == ("trends", LABELS, {"source": "trends.csv"})
    assert manifest.created_at == "2026-11-23T08:45:12+00:00"
    assert manifest.encoder == packer.encoder.config
    assert manifest.temperature == pytest.approx(
        best_temperature(expected, list(packer.encoded_valid.labels)), rel=1e-3
    )


def test_golden_items_run_from_the_shortest_to_the_longest_with_the_networks_logits(tmp_path: Path) -> None:
    packer, config = series_packer()
    weights = weights_of(config)
    golden = Artifact(packer.pack(tmp_path / "artifact", config, weights)).golden()
    lengths = [len(pair.item) for pair in golden]
    assert lengths == sorted(lengths)
    assert (len(golden), lengths[0], lengths[-1]) == (8, 1, 40)
    for pair in golden:
        item = np.array(pair.item, dtype=np.float32)
        logits = expected_logits(config, weights, packer.encoder.encode(item).inputs)
        np.testing.assert_allclose(pair.logits, logits, rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_few_rows_are_all_golden_and_once(rows: int, tmp_path: Path) -> None:
    packer, config = series_packer(150)
    packer = packer_of(packer.valid.take(range(10, 10 + rows)), packer.encoder, [0] * rows)
    golden = Artifact(packer.pack(tmp_path / "artifact", config, weights_of(config))).golden()
    assert len(golden) == rows


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_packed_tagger_answers_every_step_and_leaves_unknown_labels_out(engine: EngineName, tmp_path: Path) -> None:
    packer, config = step_packer(lambda step: IGNORED if step % 3 == 0 else step % 2)
    weights = weights_of(config)
    predictor = Predictor.load(packer.pack(tmp_path / "artifact", config, weights), engine=engine)
    expected = references(packer, config, weights)
    for result, logits in zip(predictor.run_each(packer.valid.items), expected, strict=True):
        assert not isinstance(result, InvalidSequence)
        np.testing.assert_allclose(result[1], logits, rtol=0, atol=1e-5)
    temperature = best_temperature(expected, list(packer.encoded_valid.labels))
    assert predictor.manifest.temperature == pytest.approx(temperature, rel=1e-3)


def test_without_a_single_known_label_the_temperature_is_one(tmp_path: Path) -> None:
    packer, config = step_packer(lambda step: IGNORED)
    assert Artifact(packer.pack(tmp_path / "artifact", config, weights_of(config))).manifest.temperature == 1


def test_packing_again_takes_the_place_of_what_a_killed_job_left(tmp_path: Path) -> None:
    packer, config = series_packer(20)
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "half").write_text("written")
    first = Artifact(packer.pack(folder, config, weights_of(config))).manifest
    assert not (folder / "half").exists()
    assert Artifact(packer.pack(folder, config, weights_of(config))).manifest == first
    assert Artifact(packer.pack(folder, config, weights_of(config, seed=1))).manifest.digest != first.digest


def test_packing_leaves_the_weights_as_they_were(tmp_path: Path) -> None:
    packer, config = series_packer(20)
    weights = weights_of(config)
    before = {name: array.copy() for name, array in weights.items()}
    loaded = Artifact(packer.pack(tmp_path / "artifact", config, weights)).weights()
    for name, array in before.items():
        np.testing.assert_array_equal(weights[name], array)
        assert loaded[name].tobytes() == array.tobytes()
