"""One cell trained on a few noisy series, as the tests of training ask for it again and again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gatewise.architecture import ModelConfig
from gatewise.timeseries import TimeSeriesEncoderConfig
from training.augmentation import SeriesAugmentation
from training.config import TrainingConfig
from training.data import EncodedDataset
from training.fitting import Candidate, Devices, fit

LABELS = ("down", "up")
CPU = Devices(accelerator="cpu", devices="1")


def rows(count: int, seed: int) -> EncodedDataset:
    """Series that rise or fall, in noise that hides it now and then."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, size=count)
    items = [
        (np.outer(np.arange(n), [0.2 * (2 * label - 1), 0]) + rng.normal(size=(n, 2))).astype(np.float32)
        for n, label in zip(rng.integers(3, 9, size=count), labels, strict=True)
    ]
    return EncodedDataset(items, labels.tolist())


TRAIN, VALID = rows(40, 0), rows(30, 1)
READINGS = TimeSeriesEncoderConfig(channels=("level", "noise"), mean=(0.0, 0.0), scale=(1.0, 1.0))


def trained(
    folder: Path,
    *,
    resume: bool = False,
    cell: Any = "gru",
    say: Any = None,
    max_seconds: Any = None,
    valid: EncodedDataset | None = VALID,
    network: dict[str, Any] | None = None,
    **settings: Any,
) -> Candidate:
    settings = {
        "epochs": 4,
        "batch_size": 8,
        "learning_rate": 0.01,
        "dense_dropout": 0.2,
        "input_noise": 0.1,
    } | settings
    config = TrainingConfig(hidden_size=4, dense_sizes=(4,), **settings)
    model = ModelConfig(
        kind="series",
        cell=cell,
        input_size=2,
        hidden_size=4,
        dense_sizes=(4,),
        num_classes=2,
        dense_dropout=0.2,
        **(network or {}),
    )
    quiet: Callable[[str], None] = say or (lambda line: None)
    return fit(
        model,
        config,
        TRAIN,
        valid,
        LABELS,
        None,
        folder,
        augmentation=SeriesAugmentation(config, READINGS),
        say=quiet,
        resume=resume,
        devices=CPU,
        max_seconds=max_seconds,
    )


def same_weights(one: Candidate, other: Candidate) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        np.array_equal(one.weights[name], other.weights[name]) for name in one.weights
    )


def figures(candidate: Candidate) -> list[dict[str, float]]:
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in candidate.epochs]
