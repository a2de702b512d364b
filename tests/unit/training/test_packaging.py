"""A trained candidate to an artifact that answers as the candidate did."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from gatewise.architecture import ModelConfig
from gatewise.artifact import Artifact
from gatewise.engines import EngineName
from gatewise.errors import GoldenMismatch, InvalidSequence
from gatewise.predictor import Predictor
from gatewise.text import TextEncoder, TextEncoderConfig
from gatewise.timeseries import TimeSeriesEncoder
from tests.artifacts import Weights, config_of, embedded, expected_logits, reseal, weights_of
from training.data import IGNORED, EncodedDataset
from training.dataset import Dataset
from training.embedding import Forms
from training.module import Network
from training.onnx_graph import build
from training.packaging import Packer

LABELS = ("x", "y", "z")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def packer_of(data: Dataset, encoder: Any, labels: list[Any]) -> Packer:
    encoded = encoder.encode_many(data.items)
    inputs = [text.ids for text in encoded] if isinstance(encoder, TextEncoder) else encoded
    rows = EncodedDataset(inputs, labels)
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
    """Tokens of which the vocabulary lacks one, embedded with both hashed tables."""
    random = np.random.default_rng(1)
    vocabulary = ["how", "far", "is", "the", "moon", "from", "here", "?"]
    items = [random.choice(vocabulary, size=length).tolist() for length in random.integers(1, 20, size=70)]
    data = Dataset("text", "step", items, None, None, None, "tags.jsonl", np.arange(70))
    encoder = TextEncoder.fit([["how", *vocabulary[2:]]], TextEncoderConfig(level="tokens"), min_count=1)
    labels = [np.array([labels_of(k) for k in range(len(item))]) for item in items]
    return packer_of(data, encoder, labels), config_of(
        "text", "lstm", "step", vocab_size=encoder.vocab_size, ngram_buckets=40, pair_buckets=30
    )


def packed(packer: Packer, folder: Path, config: ModelConfig, weights: Weights, *others: Any) -> Path:
    packer.pack(folder, config, weights, *others)
    return folder


def references(packer: Packer, config: ModelConfig, weights: Weights) -> list[np.ndarray]:
    encoder, items = packer.encoder, packer.valid.items
    if isinstance(encoder, TextEncoder):
        features = [embedded(config, weights, encoder.encode(item)) for item in items]
    else:
        features = [encoder.encode(item).inputs for item in items]
    return [expected_logits(config, weights, sequence) for sequence in features]


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
    predictor = Predictor.load(packed(packer, tmp_path / "artifact", config, weights), engine=engine)
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
    golden = Artifact(packed(packer, tmp_path / "artifact", config, weights)).golden()
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
    golden = Artifact(packed(packer, tmp_path / "artifact", config, weights_of(config))).golden()
    assert len(golden) == rows


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_packed_tagger_answers_every_step_and_leaves_unknown_labels_out(engine: EngineName, tmp_path: Path) -> None:
    packer, config = step_packer(lambda step: IGNORED if step % 3 == 0 else step % 2)
    weights = weights_of(config)
    predictor = Predictor.load(packed(packer, tmp_path / "artifact", config, weights), engine=engine)
    expected = references(packer, config, weights)
    for result, logits in zip(predictor.run_each(packer.valid.items), expected, strict=True):
        assert not isinstance(result, InvalidSequence)
        np.testing.assert_allclose(result[1], logits, rtol=0, atol=1e-5)
    temperature = best_temperature(expected, list(packer.encoded_valid.labels))
    assert predictor.manifest.temperature == pytest.approx(temperature, rel=1e-3)


def trained_network(config: ModelConfig, forms: Forms, rows: list[np.ndarray]) -> Network:
    """A few steps on random labels, which move every part of the network, with all that only training does."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    network = Network(config, forms, word_dropout=0.2).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.05)
    for _ in range(8):
        labels = [np.array(random.integers(0, 3, size=len(row) if config.task == "step" else None)) for row in rows]
        inputs, lengths, truth = EncodedDataset(rows, labels if config.task == "step" else [int(k) for k in labels])[
            range(len(rows))
        ]
        optimizer.zero_grad()
        logits = network(inputs, lengths)
        torch.nn.functional.cross_entropy(logits.flatten(0, -2), truth.flatten(), ignore_index=IGNORED).backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize(
    "tables", [{}, {"ngram_buckets": 40}, {"pair_buckets": 30}, {"ngram_buckets": 40, "pair_buckets": 30}]
)
@pytest.mark.parametrize("level", ["words", "subwords", "tokens"])
def test_a_packed_text_model_answers_as_the_trained_network(level: Any, tables: dict[str, int], tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    known = ["how", "far", "is", "the", "moon", "from", "here", "?"]
    # Beside the words of the vocabulary, unknown ones of training, and in the last rows ones that no training saw.
    spelled = [*known, "moonlight", "farther", "Ⅻ", "naïveté"]
    unseen = [*spelled, "unheard", "faraway", "月", "x" * 60, "ΟΔΟΣ"]
    texts = [random.choice(spelled, size=n).tolist() for n in random.integers(1, 14, size=20)]
    texts += [random.choice(unseen, size=n).tolist() for n in random.integers(1, 14, size=20)]
    items: list[Any] = texts if level == "tokens" else ["", *map(" ".join, texts[1:])]
    encoder = TextEncoder.fit(
        [known] if level == "tokens" else [" ".join(known)],
        TextEncoderConfig(level=level, max_length=None if level == "tokens" else 12),
        min_count=1,
    )
    task = "step" if level == "tokens" else "sequence"
    config = config_of(
        "text", "gru", "step" if task == "step" else "all", vocab_size=encoder.vocab_size, bidirectional=True,
        embedding_dropout=0.3, recurrent_dropout=0.3, dense_dropout=0.3, **tables,
    )  # fmt: skip
    forms = Forms(encoder.words(), config.ngram_buckets)
    rows = [forms.number(text) for text in encoder.encode_many(items)]
    if config.ngram_buckets:
        assert max(row.max() for row in rows[20:]) > max(row.max() for row in rows[:20])
    network = trained_network(config, forms, rows[:20])
    weights = network.weights()
    data = Dataset("text", task, items, None, None, None, "texts.csv", np.arange(len(items)))
    truth = [np.zeros(len(row), dtype=np.int64) if task == "step" else 0 for row in rows]
    packer = packer_of(data.take(range(20)), encoder, truth[:20])
    folder = packed(packer, tmp_path / "artifact", config, weights)
    engines: list[EngineName] = ["onnx", "torch"]
    for engine in engines:
        answers = Predictor.load(folder, engine=engine).run_each(items)
        for row, result in zip(rows, answers, strict=True):
            assert not isinstance(result, InvalidSequence)
            with torch.inference_mode():
                logits = network(torch.from_numpy(row)[None], torch.tensor([len(row)]))[0].numpy()
            np.testing.assert_allclose(result[1], logits, rtol=0, atol=1e-5)


def test_without_a_single_known_label_the_temperature_is_one(tmp_path: Path) -> None:
    packer, config = step_packer(lambda step: IGNORED)
    assert Artifact(packed(packer, tmp_path / "artifact", config, weights_of(config))).manifest.temperature == 1


def test_packing_again_takes_the_place_of_what_a_killed_job_left(tmp_path: Path) -> None:
    packer, config = series_packer(20)
    folder = tmp_path / "artifact"
    folder.mkdir()
    (folder / "half").write_text("written")
    first = Artifact(packed(packer, folder, config, weights_of(config))).manifest
    assert not (folder / "half").exists()
    assert Artifact(packed(packer, folder, config, weights_of(config))).manifest == first
    assert Artifact(packed(packer, folder, config, weights_of(config, seed=1))).manifest.digest != first.digest


def test_packing_leaves_the_weights_as_they_were(tmp_path: Path) -> None:
    packer, config = series_packer(20)
    weights = weights_of(config)
    before = {name: array.copy() for name, array in weights.items()}
    loaded = Artifact(packed(packer, tmp_path / "artifact", config, weights)).weights()
    for name, array in before.items():
        np.testing.assert_array_equal(weights[name], array)
        assert loaded[name].tobytes() == array.tobytes()


@pytest.mark.parametrize("size", [1.0, 300.0, 30_000.0])
@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_logits_of_any_size_pass_their_own_golden_items_and_a_change_of_them_does_not(
    size: float, engine: EngineName, tmp_path: Path
) -> None:
    packer, config = series_packer(60)
    weights = weights_of(config)
    weights |= {name: weights[name] * np.float32(size) for name in ("output.weight", "output.bias")}
    folder = packed(packer, tmp_path / "artifact", config, weights)
    golden = Artifact(folder).golden()
    largest = max(np.abs(pair.logits).max() for pair in golden)
    assert largest > 0.5 * size
    assert Artifact(folder).manifest.golden_tolerance == pytest.approx(max(1e-4, 1e-6 * largest), rel=1e-5)
    Predictor.load(folder, engine=engine)
    changed = weights | {"output.bias": weights["output.bias"] * np.float32(1.001)}
    (folder / "model.onnx").write_bytes(build(config, changed))
    (folder / "weights.safetensors").write_bytes(save(changed))
    reseal(folder)
    with pytest.raises(GoldenMismatch, match="a logit differs"):
        Predictor.load(folder, engine=engine)
