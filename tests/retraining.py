"""A champion in production with feedback, small enough to be trained again in a second."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.content import pack
from gatewise.feedback import FeedbackStore, Submission
from gatewise.store import ModelVersion, Store
from training import gate, job, measuring
from training.fitting import Devices
from training.latency import Latency
from training.plan import JobOptions

WORDS = {
    "fruit": ["red", "apple", "sweet", "juice", "ripe"],
    "road": ["fast", "car", "wheel", "engine", "red"],
    "sea": ["wave", "salt", "ship", "blue"],
}
SETTINGS: dict[str, Any] = {
    "hidden_size": 4,
    "embedding_dim": 4,
    "ngram_buckets": 0,
    "pair_buckets": 0,
    "dense_sizes": (4,),
    "epochs": 3,
    "batch_size": 16,
    "learning_rate": 0.05,
    "wide": "off",
}
STEPS = 6  # of an epoch of the champion: 96 rows to train on
LATENCIES = {"lstm": 1.0, "gru": 2.0}
Labelled = Iterable[tuple[Any, Any]]


@dataclass(frozen=True)
class Place:
    """A folder with base data, a store and a database."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "words.csv"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def database(self) -> str:
        return f"sqlite:///{self.folder / 'feedback.db'}"

    @property
    def store(self) -> Store:
        return Store(self.home)

    def production(self) -> ModelVersion:
        return self.store.get("words:production")

    def feed(self, items: Labelled, key: str | None = None) -> None:
        """Store feedback as the service would."""
        store = FeedbackStore(self.database)
        packed = [(pack(text), label) for text, label in items]
        store.add(Submission("words", self.production().version, packed, {}, b"r" * 32, key=key))
        store.close()

    def environment(self) -> dict[str, str]:
        return {"BENTOML_HOME": str(self.home), "GATEWISE_DATABASE": self.database}

    def copy(self, folder: Path) -> Place:
        """The same once more; the base data stays where it is, since the champion's note names it."""
        shutil.copytree(self.folder, folder)
        return Place(folder)


def texts(count: int, seed: int, *labels: str) -> list[tuple[str, str]]:
    """So many texts of each label, each once."""
    rng = np.random.default_rng(seed)
    made: dict[str, str] = {}
    for label in labels:
        before = len(made)
        while len(made) < before + count:
            made.setdefault(" ".join(rng.choice(WORDS[label], size=rng.integers(6, 11))), label)
    return list(made.items())


def make_place(folder: Path) -> Place:
    """Train the champion and promote it; there is no feedback yet, and nothing stays patched."""
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder)
    rows = texts(60, 0, "fruit", "road")
    place.data.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    options = JobOptions(
        data=str(place.data),
        name="words",
        settings=SETTINGS,
        devices=Devices(accelerator="cpu", devices="1"),
        run_dir=folder / "runs",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(place.home))
        fix_latencies(patch)
        result = job.run(options, say=lambda line: None)
    place.store.promote(f"words:{result.version}")
    return place


def fix_latencies(patch: pytest.MonkeyPatch) -> None:
    """Let every measured time be the same: the choice and the gate may hang on it, and no two runs share one."""

    def takes(predictor: Any, weights: Any, items: Any) -> Latency:
        ms = LATENCIES[predictor.manifest.model.cell]
        return Latency("onnx", "cpu", ms, ms, ms, 1, 1.0, None)

    patch.setattr(measuring, "measure_latency", takes)
    patch.setattr(gate, "measure_long", lambda predictor, items: 1.0)
