"""A whole report of made-up answers, with every part that a report can have and with labels that try to be HTML."""

from __future__ import annotations

from typing import Any

import numpy as np

from gatewise.artifact import LabelSets
from training.abstaining import fit_threshold
from training.analysis import by_length, class_figures, confident_mistakes, confusion, label_suspects, share
from training.answers import Answered
from training.dataset import Dataset
from training.report.certainty import measure_certainty
from training.report.contents import DataFacts, Errors, ModelFacts, Report, Setting, SplitFacts, Suspects
from training.report.findings import Finder

HOSTILE = "<script>fetch('http://example.invalid')</script>\"'&"


def answered(rows: int, labels: tuple[str, ...], *, seed: int = 0, steps: bool = False) -> Answered:
    """Answers whose confidence means what it says; with `steps` each sequence has from one to nine."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 10, size=rows) if steps else np.ones(rows, dtype=np.int64)
    truth, classes, probabilities = [], [], []
    for length in lengths:
        shares = rng.dirichlet(np.full(len(labels), 0.3), size=length)
        probabilities.append(shares)
        classes.append(shares.argmax(axis=1))
        truth.append([labels[rng.choice(len(labels), p=row)] for row in shares])
    read = lengths if steps else rng.integers(3, 40, size=rows)
    return Answered(labels, "step" if steps else "sequence", truth, classes, probabilities, read)


def data_of(answers: Answered, kind: str, source: str) -> Dataset:
    """Sequences for the answers: hostile texts or tokens, or waves of two channels with a missing reading."""
    items: list[Any] = []
    for i, length in enumerate(answers.lengths):
        if kind == "series":
            wave = np.sin(np.arange(length)[:, None] / 3 + [i, 2 * i]).astype(np.float32)
            wave[0, 0] = np.nan
            items.append(wave)
        elif answers.task == "step":
            items.append([f"token{t}" if t else HOSTILE for t in range(length)])
        else:
            items.append(f"{HOSTILE} text {i} " * 9)
    labels = [row if answers.task == "step" else row[0] for row in answers.truth]
    return Dataset(
        kind=kind,  # type: ignore[arg-type]
        task=answers.task,
        items=items,
        labels=labels,
        channels=("a", "b") if kind == "series" else None,
        groups=None,
        source=source,
        rows=np.arange(2, len(items) + 2),
    )


def metrics(value: float) -> dict[str, dict[str, float | None]]:
    bounds = {"low": value - 0.02, "high": min(1.0, value + 0.02), "seeds_mean": value, "seeds_std": 0.01}
    return {name: {"value": value, **bounds} for name in ("accuracy", "macro_f1", "log_loss")}


def candidate(name: str, value: float, milliseconds: float, **fields: Any) -> dict[str, Any]:
    curve = [{"epoch": i, "train_loss": 2 / i, "valid_loss": 1.5 / i, "accuracy": value - 0.3 / i} for i in range(1, 9)]
    latency = {
        "engine": "onnx",
        "device": "cpu",
        "single_ms": milliseconds,
        "single_p95_length_ms": 2 * milliseconds,
        "batched_ms": 9 * milliseconds,
        "batch_size": 32,
        "per_second": 1234.5,
        "step_ms": None,
    }
    return {
        "name": name,
        "cell": name.partition("-")[0],
        "seed": 0,
        "seeds": [0, 1],
        "metrics": metrics(value),
        "training_seconds": 12.5,
        "parameters": 123_456,
        "size_mb": 1.25,
        "latency": latency,
        "in_budget": True,
        "why_not": None,
        "curve": curve,
        **fields,
    }


def comparison() -> dict[str, Any]:
    """Four candidates and everything that may be known of them."""
    test = {"of": ["lstm-64", "gru-64"], "metric": "accuracy", "difference": 0.01, "low": -0.01, "high": 0.03}
    return {
        "rule": "inside the budgets the best; among those not told apart from it, the cheapest to serve",
        "chosen": "gru-64",
        "reason": "too close to tell apart, and faster",
        "sentences": ["GRU-64 was chosen.", f"It is faster, and no worse than the rows can tell. {HOSTILE}"],
        "hint": "Longer sequences may need more.",
        "budgets": {"max_latency_ms": 2.0, "max_size_mb": 5.0, "needs_streaming": True},
        "rows": 300,
        "metric": "accuracy",
        "candidates": [
            candidate("lstm-64", 0.91, 0.4),
            candidate("gru-64", 0.9, 0.25),
            candidate("lstm-256", 0.93, 2.5, in_budget=False, why_not="2.5 ms is more than 2 ms"),
            candidate("gru-256", 0.925, 1.9, training_seconds=None, curve=[]),
        ],
        "tests": [
            {**test, "p_value": 0.3, "method": "paired bootstrap"},
            {**test, "metric": "macro_f1", "low": None, "high": None, "p_value": None, "method": "paired bootstrap"},
        ],
        "dependency": {
            "metric": "accuracy",
            "steps": [1, 2, 4, 8, 16],
            "values": [0.5, 0.7, None, 0.89, 0.9],
            "full": 0.9,
            "range": 8,
            "sentence": "The answers hang on the last 8 steps",
        },
        "search": {
            "trials": 6,
            "pruned": 2,
            "best_value": 0.9,
            "best": {"hidden_size": 64, "learning_rate": 0.003},
            "importance": {"learning_rate": 0.7, "hidden_size": 0.3},
            "history": [0.7, None, 0.85, 0.8, 0.9, 0.88],
        },
    }


def report(
    kind: str = "text", *, steps: bool = False, classes: int = 5, examples: bool = True, **fields: Any
) -> Report:
    """A report; `fields` take the place of its parts."""
    labels = (HOSTILE, *(f"class {k}" for k in range(1, classes)))
    answers = {name: answered(rows, labels, seed=rows, steps=steps) for name, rows in (("valid", 300), ("test", 400))}
    datasets = {name: data_of(part, kind, f"/private/folder/{name}.csv") for name, part in answers.items()}
    abstaining = fit_threshold(answers["valid"].confidence, answers["valid"].correct, 0.9)
    label_sets = LabelSets(coverage=0.9, threshold=0.08)
    finder = Finder([(datasets["test"], answers["test"])], examples=examples)
    suspects = label_suspects(finder.answered)
    split = SplitFacts(
        file="train.csv",
        rows=900,
        lengths=(1, 9, 40, 99),
        classes=dict.fromkeys(labels, 100),
        repeats=3,
        in_train=2,
    )
    every = Finder([*((datasets[name], answers[name]) for name in answers)], examples=examples)
    parts: dict[str, Any] = {
        "model": ModelFacts(
            name="questions",
            created_at="2026-01-02T03:04:05+00:00",
            gatewise_version="0.1.0",
            kind=kind,  # type: ignore[arg-type]
            task="step" if steps else "sequence",
            labels=list(labels),
            cell="gru",
            parameters=123_456,
            architecture={"cell": "gru", "hidden_size": 64},
        ),
        "metrics": {name: {"accuracy": 0.9, "macro_f1": 0.88, "log_loss": 0.3} for name in ("valid", "test")},
        "refitted": True,
        "comparison": comparison(),
        "certainty": measure_certainty(answers, 1.3, abstaining, label_sets, refitted=True),
        "errors": Errors(
            split="test",
            correct=share(int(finder.answered.correct.sum()), len(finder.answered.correct)),
            unseen=1,
            classes=class_figures(finder.answered),
            confusion=confusion(finder.answered),
            lengths=by_length(finder.answered),
            mistakes=finder.describe(confident_mistakes(finder.answered, 20)),
            suspects=Suspects(
                source="folds",
                folds=5,
                rows=len(every.answered.correct),
                found=len(suspects),
                shown=finder.describe(suspects[:30]),
            ),
        ),
        "data": DataFacts(
            fingerprint="f" * 64, splits={"train": split, "valid": split, "test": split}, conflicts=1, notes=[HOSTILE]
        ),
        "recipe": [Setting(name="epochs", value="10", reason=f"as you said {HOSTILE}")],
        "environment": {"python": "3.11", "processor": "a processor"},
        "command": f"gatewise train data.csv --label '{HOSTILE}'",
    }
    return Report(**parts | fields)
