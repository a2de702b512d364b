"""A predictor whose answers a reader can work out in the head.

Its labels are `low` and `high`, its logits 0 and a sum: of all readings of a series, of the characters of a text (one
each). So the confidence of `high` is the logistic function of that sum.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from gatewise.batch import Encoded
from gatewise.schema import Prediction, StepPrediction, parse_series, parse_text, parse_tokens

POISON = -666.0  # the model raises when a batch holds it
OVERFLOW = 3e38  # two of them are infinite together


class FakePredictor:
    """Answers like `gatewise.predictor.Predictor`."""

    engine_name = "fake"
    engine = SimpleNamespace(max_rows=None, device="cpu")

    def __init__(self, kind: str = "series", task: str = "sequence", channels: int = 2, version: str = "v1") -> None:
        names = tuple("abcdefgh"[:channels]) if kind == "series" else None
        self.version = version
        self.manifest = SimpleNamespace(
            name="fake",
            kind=kind,
            task=task,
            labels=("low", "high"),
            channels=names,
            allow_missing=False,
            max_length=None,
            abstaining=None,
            label_sets=None,
            metrics={"test": {"accuracy": 1.0}},
            data={"fingerprint": "f1"},
            created_at="2026-01-02T03:04:05Z",
            digest="d1",
            gatewise_version="0.1.0",
        )
        self.threshold = 1.0
        self.page: bytes | None = None
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()
        self.started = threading.Event()
        self.short = False

    def encode(self, item: object, loc: tuple[str | int, ...] = ()) -> Encoded:
        m = self.manifest
        if m.kind == "series":
            return Encoded(parse_series(item, len(m.channels), allow_missing=m.allow_missing, loc=loc))
        if m.task == "step":
            tokens = parse_tokens(item, loc)
            return Encoded(np.array([len(token) for token in tokens]), tokens)
        return Encoded(np.ones(max(1, len(parse_text(item, loc))), dtype=np.int64))

    def logits(self, encoded: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        self.started.set()
        assert self.free.wait(30)
        self.batches.append([len(inputs) for inputs in encoded])
        if any((inputs == POISON).any() for inputs in encoded):
            raise RuntimeError("poisoned")
        with np.errstate(over="ignore"):
            logits = [self._of_one(inputs) for inputs in encoded]
        return logits[:-1] if self.short and len(logits) > 1 else logits

    def _of_one(self, inputs: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        if self.manifest.task == "step":
            sums = inputs.reshape(len(inputs), -1).sum(axis=1, dtype=np.float32)
            return np.stack([np.zeros_like(sums), sums], axis=1)
        return np.array([0, inputs.sum(dtype=np.float32)], dtype=np.float32)

    def answer(
        self,
        encoded: Encoded,
        logits: np.ndarray[Any, Any],
        *,
        probabilities: bool | None = None,
        label_set: bool | None = None,
    ) -> Any:
        abstaining = self.manifest.abstaining
        if self.manifest.task == "sequence":
            label, p = _word(logits)
            return Prediction(
                label=label,
                confidence=p[label],
                probabilities=p,
                abstained=abstaining and abstaining.refuses(p[label]),
                label_set=self._label_set(p) if label_set else None,
            )
        words = [_word(row) for row in logits]
        return StepPrediction(
            labels=[label for label, _ in words],
            confidences=[p[label] for label, p in words],
            tokens=encoded.tokens,
            probabilities=[p for _, p in words] if probabilities else None,
            abstained=abstaining and [abstaining.refuses(p[label]) for label, p in words],
            label_set=[self._label_set(p) for _, p in words] if label_set else None,
        )

    def _label_set(self, p: dict[str, float]) -> list[str]:
        return [label for label in sorted(p, key=lambda label: -p[label]) if p[label] >= self.threshold]

    def report(self) -> bytes | None:
        return self.page

    def drift_reference(self) -> None:
        return None


def _word(logits: np.ndarray[Any, Any]) -> tuple[str, dict[str, float]]:
    high = 1 / (1 + math.exp(-max(-700.0, float(logits[1]))))
    return ("high" if high > 0.5 else "low"), {"low": 1 - high, "high": high}
