"""The two models and the requests of the benchmark, made from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gatewise
from gatewise import artifact
from gatewise.architecture import ModelConfig
from gatewise.artifact import Golden, Manifest
from gatewise.batch import collate
from gatewise.features import features_of
from gatewise.model import SequenceClassifier
from gatewise.predictor import Predictor
from gatewise.text import TextEncoder, TextEncoderConfig
from gatewise.timeseries import TimeSeriesEncoder, TimeSeriesEncoderConfig
from training.onnx_graph import build

TIMESTEPS, LONG_TIMESTEPS, CHANNELS, CLASSES, HIDDEN, DENSE = 128, 256, 8, 6, 128, 64
LABELS = tuple(f"class{k}" for k in range(CLASSES))
_WORDS, _EMBEDDING = 5000, 128


@dataclass(frozen=True)
class Case:
    """An artifact, items, and the probabilities that the offline Predictor gives each."""

    folder: Path
    items: list[Any]
    expected: list[list[float]]


def series_case(folder: Path, count: int = 64, timesteps: int = TIMESTEPS, seed: int = 0) -> Case:
    """The documented LSTM-128 over series of 8 channels; with 128 steps 8.9 KB of JSON a sequence.

    Args:
        seed: of the weights.
    """
    rng = np.random.default_rng(0)
    items = rng.normal(size=(count, timesteps, CHANNELS)).round(5).tolist()
    # Mean 0 and scale 1 change nothing, so that the peers need no standardization of their own.
    channels = tuple(f"c{i}" for i in range(CHANNELS))
    config = TimeSeriesEncoderConfig(channels=channels, mean=(0.0,) * CHANNELS, scale=(1.0,) * CHANNELS)
    return _case(folder, TimeSeriesEncoder(config), items, seed, kind="series", input_size=CHANNELS)


def text_case(folder: Path, count: int = 512) -> Case:
    """An LSTM-128 over texts of 5 to 200 words, their lengths lognormal."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(mean=3.2, sigma=0.8, size=count), 5, 200).astype(int)
    items = [" ".join(f"w{i}" for i in rng.integers(0, _WORDS, size=length)) for length in lengths]
    vocabulary = [" ".join(f"w{i}" for i in range(_WORDS))]
    encoder = TextEncoder.fit(vocabulary, TextEncoderConfig(level="words"), min_count=1)
    return _case(folder, encoder, items, 0, kind="text", vocab_size=encoder.vocab_size, embedding_dim=_EMBEDDING)


def _case(folder: Path, encoder: TextEncoder | TimeSeriesEncoder, items: list[Any], seed: int, **fields: Any) -> Case:
    config = ModelConfig(
        task="sequence", cell="lstm", hidden_size=HIDDEN, dense_sizes=(DENSE,), num_classes=CLASSES, **fields
    )
    torch.manual_seed(seed)
    weights = {name: value.numpy() for name, value in SequenceClassifier(config).state_dict().items()}
    if isinstance(encoder, TextEncoder):
        rows = np.random.default_rng(0).normal(size=(encoder.vocab_size, _EMBEDDING))
        weights["embedding.weight"] = rows.astype(np.float32)
    if not folder.exists():
        _save(folder, encoder, config, weights, items[:4])
    predictor = Predictor.load(folder)
    expected = [list((answer.probabilities or {}).values()) for answer in predictor.predict(items, probabilities=True)]
    return Case(folder, items, expected)


def _save(
    folder: Path, encoder: TextEncoder | TimeSeriesEncoder, config: ModelConfig, weights: Any, items: list[Any]
) -> None:
    model = SequenceClassifier(config).eval()
    model.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items() if "embedding" not in name})
    features = features_of(encoder, config, weights)
    golden = []
    for item in items:
        batch = collate([features(item, ()).inputs])
        with torch.inference_mode():
            logits = model(torch.from_numpy(batch.inputs), torch.from_numpy(batch.lengths))[0]
        golden.append(Golden(item=item, logits=logits.tolist()))
    manifest = Manifest(
        gatewise_version=gatewise.__version__,
        name="benchmark",
        created_at="2026-01-01T00:00:00Z",
        labels=LABELS,
        model=config,
        encoder=encoder.config,
    )
    artifact.save(
        folder,
        manifest,
        weights=weights,
        onnx=build(config, weights),
        golden=golden,
        tokenizer=encoder.to_json() if isinstance(encoder, TextEncoder) else None,
    )
