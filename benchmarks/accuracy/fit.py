"""One fit in a process of its own: `python -m benchmarks.accuracy.fit JOB.json` writes its record beside the job."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.answers import scores
from benchmarks.accuracy.comparators import COMPARATORS
from benchmarks.accuracy.comparators.interface import TooMuch
from benchmarks.accuracy.records import GATEWISE, Key, Record, packed
from benchmarks.accuracy.sets import SETS, BenchmarkSet
from benchmarks.environments import NotInstalled
from benchmarks.machine import commit, describe

_PACKAGES = ("torch", "numpy", "onnxruntime", "scikit-learn", "aeon")


@dataclass(frozen=True)
class Job:
    """What a process is to fit.

    Attributes:
        settings: of `TrainingConfig`, over the recipe's; for Gatewise alone.
    """

    key: Key
    data: str
    settings: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The job as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Job:
        """The job that `to_json` wrote."""
        fields = json.loads(text)
        return cls(Key(**fields["key"]), fields["data"], fields["settings"])


def run(job: Job) -> Record:
    """Fit and measure.

    Returns:
        the record; with `skipped` alone where the set is too much for the method, and with `not_installed` where its
        packages cannot be had.
    """
    each, data = SETS[job.key.set], Path(job.data)
    started, started_cpu = time.perf_counter(), _cpu_seconds()
    try:
        found = (_gatewise if job.key.system == GATEWISE else _comparator)(job, each, data)
    except TooMuch as reason:
        found = {"skipped": str(reason)}
    except NotInstalled as reason:
        return {"not_installed": str(reason)}
    used = {"job_seconds": time.perf_counter() - started, "job_cpu_seconds": _cpu_seconds() - started_cpu}
    return found | used | {"commit": commit(), "machine": describe(*_PACKAGES)}


def _cpu_seconds() -> float:
    """Of this process and those that it has waited for: fastText trains in one of its own."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _gatewise(job: Job, each: BenchmarkSet, data: Path) -> Record:
    """The default recipe through `training.fit`, as a user runs it, with one cell."""
    import training
    from gatewise import artifact
    from gatewise.predictor import Predictor
    from training.evaluation import score

    with tempfile.TemporaryDirectory() as home:
        # Before the first import of bentoml, which reads them then.
        os.environ |= {"BENTOML_HOME": home, "BENTOML_DO_NOT_TRACK": "True"}
        paths = {part: each.path(data, part) for part in ("valid", "test")}
        # A target changes no answer; the report then says how often it was kept.
        settings: dict[str, Any] = {"cells": (job.key.cell,), "seed": job.key.seed, "target_precision": 0.95}
        settings |= each.reading | job.settings
        result = training.fit(
            data / each.train, **paths, name=each.name.lower().replace("_", "-"), run_dir=Path(home, "runs"), **settings
        )
        predictor = Predictor.load(result.artifact)
        manifest = artifact.read_manifest(result.artifact)
        figures = next(iter(result.candidates.values()))
        metrics = dict(result.metrics)
        certainty = json.loads((Path(result.artifact) / artifact.REPORT_JSON).read_text(encoding="utf-8"))["certainty"]
        valid = score(predictor, [each.splits(data, job.key.seed).valid])
        second = each.second(data)
        if second is not None:
            metrics["test_2"] = score(predictor, [second]).metrics
    return {
        "metrics": {"valid": metrics["valid"]} if job.key.without else metrics,
        "certainty": _on_test(certainty),
        "valid_correct": packed(valid.correct),
        "rows": manifest.data["rows"],
        "configuration": manifest.training["config"],
        "epochs": len(manifest.training["epochs"]),
        **{name: figures[name] for name in ("parameters", "latency_ms", "training_seconds")},
    }


def _on_test(certainty: dict[str, Any]) -> Record:
    """What the report says of confidences, label sets and abstaining on test rows; counts as [count, rows]."""
    calibration, sets, abstaining = (certainty[name] for name in ("calibration", "label_sets", "abstaining"))
    if "test" not in calibration:
        return {}
    counts = {
        "covered": sets["covered"]["test"],
        "answered": abstaining["answered"]["test"],
        "right": abstaining["precision"]["test"],
    }
    return {
        "calibration_error": {name: calibration["test"][name] for name in ("before", "after", "by_chance")},
        "coverage": sets["coverage"],
        "labels_a_set": sets["mean_size"]["test"],
        "target_precision": abstaining["target_precision"],
        **{name: [share["count"], share["rows"]] for name, share in counts.items()},
    }


def _comparator(job: Job, each: BenchmarkSet, data: Path) -> Record:
    splits, second = each.splits(data, job.key.seed), each.second(data)
    parts = {"valid": splits.valid, "test": splits.test, "test_2": second}
    given = {name: part for name, part in parts.items() if part is not None}
    started = time.perf_counter()
    answered = COMPARATORS[job.key.system].answer(splits.train, splits.valid, list(given.values()), job.key.seed)
    answers = dict(zip(given, answered.answers, strict=True))
    metrics = {name: scores(part, answers[name]) for name, part in given.items()}
    if splits.test is not None and splits.test_in_train is not None:
        fresh = np.flatnonzero(~splits.test_in_train)
        if 0 < len(fresh) < len(splits.test):
            kept = [answers["test"][i] for i in fresh]
            metrics["test_without_duplicates"] = scores(splits.test.take(fresh), kept)
    return {
        "metrics": metrics,
        "rows": {"train": len(splits.train), **{name: len(part) for name, part in given.items()}},
        "configuration": {"choice": answered.choice},
        "parameters": answered.parameters,
        "training_seconds": time.perf_counter() - started,
    }


def main() -> None:
    """Run the job of the file that is named."""
    path = Path(sys.argv[1])
    record = run(Job.from_json(path.read_text(encoding="utf-8")))
    path.with_name("record.json").write_text(json.dumps(record), encoding="utf-8")


if __name__ == "__main__":
    main()
