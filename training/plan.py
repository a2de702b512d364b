"""What a job is asked to do, what it works on, and what it made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from training.compare import Decision
from training.config import TrainingConfig
from training.data import EncodedDataset
from training.embedding import Forms
from training.fitting import Devices
from training.origin import Origin
from training.preparing import Encoder
from training.readers import ReadOptions
from training.recipe import Choice
from training.splits import Splits
from training.unlabelled import Unlabelled
from training.word_vectors import WordVectors


@dataclass(frozen=True)
class JobOptions:
    """What a job is asked to do.

    Attributes:
        embeddings: a file of word vectors, for texts.
        unlabelled: a file of sequences to pretrain on.
        settings: the user's own settings, checked by `config.check_settings`.
        run_dir: where jobs keep their folders.
        max_seconds: of training, shared by the cells.
        mlflow: the address of an MLflow server that is told of the job.
        recipe: a finished model's configuration, to train by in place of one made from the data; `settings` still win.
        origin: what is noted of the version's files; found from the paths here where None.
    """

    data: str
    valid: str | None = None
    test: str | None = None
    embeddings: str | None = None
    unlabelled: str | None = None
    name: str | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)
    settings: dict[str, Any] = field(default_factory=dict)
    devices: Devices = field(default_factory=Devices)
    run_dir: Path = Path("runs")
    resume: bool = False
    max_seconds: float | None = None
    tensorboard: bool = False
    mlflow: str | None = None
    recipe: TrainingConfig | None = None
    origin: Origin | None = None


@dataclass(frozen=True)
class JobResult:
    """What a job made.

    Attributes:
        artifact: the folder of the registered version.
        metrics: by split, measured on the reloaded artifact.
        choice: the cell, and why.
        candidates: the figures of each candidate: `lstm`, or with several sizes `lstm-64`.
    """

    name: str
    version: str
    artifact: Path
    metrics: dict[str, dict[str, float]]
    choice: Decision
    candidates: dict[str, dict[str, float]]


@dataclass(frozen=True)
class Prepared:
    """The data of a job, ready for a network."""

    name: str
    splits: Splits
    config: TrainingConfig
    choices: list[Choice]
    labels: tuple[str, ...]
    encoder: Encoder
    forms: Forms | None
    train: EncodedDataset
    valid: EncodedDataset
    vectors: WordVectors | None
    unlabelled: Unlabelled | None
    fingerprint: str


def shown(value: Any) -> str:
    """A setting's value as it is printed."""
    return "+".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)
