"""The adding problem (Hochreiter & Schmidhuber 1997) as a question of two classes.

A series has random readings and a marker that is 1 at two steps, one in each half. Is the sum of the two marked
readings above 1? Nothing but those two steps tells, and the first lies up to T steps back.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTHS = (100, 200, 400)
POOLINGS: dict[str, tuple[str, ...]] = {"last, mean, max": ("last", "mean", "max"), "last": ("last",)}
# The recurrence alone: no convolution that shortens the way, no second direction, nothing that moves a reading.
_BARE: dict[str, Any] = {
    "bidirectional": False,
    "stem_stride": 1,
    "branch_channels": (),
    "branch_kernels": (),
    "differences": False,
    "input_noise": 0.0,
    "time_warp": 0.0,
    "scaling": 0.0,
    "channel_mixing": 0.0,
    "recurrent_dropout": 0.0,
    "dense_dropout": 0.0,
    "label_smoothing": 0.0,
    "hidden_size": 64,
    "batch_size": 64,
    "refit": False,
}


@dataclass(frozen=True)
class Task:
    """One problem of the kind, and what is trained on it."""

    length: int
    pooling: str
    seed: int
    rows: int
    epochs: int


def run(task: Task, work: Path) -> dict[str, Any]:
    """Train both cells, and measure both on test, the one that was not chosen too."""
    os.environ |= {"BENTOML_HOME": str(work / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    import training
    from gatewise.artifact import read_manifest
    from gatewise.predictor import Predictor
    from training.evaluation import score
    from training.readers import read

    parts = {part: _write(work, task, part) for part in ("train", "valid", "test")}
    runs = work / "runs" / f"{task.length}-{task.pooling.replace(', ', '-')}-{task.seed}-{task.rows}-{task.epochs}"
    settings = {**_BARE, "pooling": POOLINGS[task.pooling], "seed": task.seed, "epochs": task.epochs}
    result = training.fit(
        parts["train"], valid=parts["valid"], test=parts["test"], name="adding", run_dir=runs, resume=True, **settings
    )
    account = read_manifest(result.artifact).training["comparison"]
    test = read(parts["test"])
    [folder] = (path for path in (runs / "adding").iterdir() if path.is_dir())
    cells = {}
    for candidate in account["candidates"]:
        metrics = score(Predictor.load(folder / candidate["cell"] / "artifact"), [test]).metrics
        cells[candidate["cell"]] = {
            "valid": candidate["metrics"]["accuracy"]["value"],
            "test": metrics["accuracy"],
            "latency_ms": candidate["latency"]["single_ms"],
            "training_seconds": candidate["training_seconds"],
        }
    return {
        "chosen": account["chosen"],
        "test": account["tests"][0],
        "dependency": account["dependency"],
        "cells": cells,
    }


def series(length: int, rows: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Readings and markers, (rows, T, 2), and whether the sum is above 1, (rows,)."""
    rng = np.random.default_rng(seed)
    values = rng.random((rows, length), dtype=np.float32)
    first, second = rng.integers(0, length // 2, size=rows), rng.integers(length // 2, length, size=rows)
    marks = np.zeros((rows, length), dtype=np.float32)
    marks[np.arange(rows), first] = marks[np.arange(rows), second] = 1
    total = values[np.arange(rows), first] + values[np.arange(rows), second]
    return np.stack([values, marks], axis=2), (total > 1).astype(np.uint8)


def _write(work: Path, task: Task, part: str) -> Path:
    """The file of a part; validation and test have a fifth of the rows of train each."""
    place = ("train", "valid", "test").index(part)
    items, labels = series(task.length, task.rows if part == "train" else task.rows // 5, 3 * task.seed + place)
    path = work / "data" / f"{part}-{task.length}-{task.rows}-{task.seed}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, series=items, label=labels)
    return path
