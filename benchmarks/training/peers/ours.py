"""The `documented` preset of Gatewise on encoded rows: what its job and its bare loop share.

Where this runs, `training` is the product's package: these files run as scripts from their own folder.
"""

from __future__ import annotations

import numpy as np
from case import Case

from gatewise.architecture import ModelConfig
from training.config import TrainingConfig
from training.data import EncodedDataset
from training.embedding import Forms


def configuration(case: Case) -> TrainingConfig:
    """The preset: its values are the plain defaults."""
    return TrainingConfig(
        preset="documented", cells=(case.cell,), epochs=case.epochs, seed=case.seed, precision=case.precision
    )


def model(case: Case) -> ModelConfig:
    """One layer of 128 units, dense 64, over texts or readings."""
    if case.kind == "text":
        return ModelConfig(
            kind="text", cell=case.cell, vocab_size=case.vocabulary, embedding_dim=128, num_classes=case.classes
        )
    channels = case.train[0][0].shape[-1]
    return ModelConfig(kind="series", task="step", cell=case.cell, input_size=channels, num_classes=case.classes)


def rows(part: tuple[list[np.ndarray], np.ndarray]) -> EncodedDataset:
    """Encoded rows of a split."""
    sequences, labels = part
    return EncodedDataset(sequences, list(labels) if labels.ndim == 2 else labels.tolist())


def forms(case: Case) -> Forms | None:
    """The vocabulary by number, as a text job has it."""
    return Forms([str(i) for i in range(case.vocabulary)], 0) if case.kind == "text" else None


def labels(case: Case) -> tuple[str, ...]:
    """Names of the classes."""
    return tuple(str(k) for k in range(case.classes))
