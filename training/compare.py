"""Candidates -> one choice, by a rule that is written before looking.

N rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from gatewise.architecture import Cell
from gatewise.predictor import Predictor
from training.dataset import Dataset
from training.evaluation import Scores, score
from training.fitting import Candidate

RULE = (
    "the cell with the better {monitor} on validation; where the rows cannot tell the two apart "
    "(paired difference within 1.96 standard errors), the one that answers faster by half or more, and where neither "
    "does, the better one, by {monitor} and then by log-loss"
)
# Medians of so short a time differ by a third from one minute to the next; a choice must not hang on that.
_CLEARLY_FASTER = 1.5
_REPEATS = 30


@dataclass(frozen=True)
class Measured:
    """A candidate, measured as it will serve.

    Attributes:
        scores: on validation, through the reloaded artifact.
        latency_ms: median time of one sequence of median length alone in its batch, encoding to answer.
        parameters: number of weights.
    """

    cell: Cell
    scores: Scores
    latency_ms: float
    parameters: int
    training_seconds: float

    def figures(self) -> dict[str, float]:
        """The figures by name."""
        return {
            **{f"valid_{name}": value for name, value in self.scores.metrics.items()},
            "latency_ms": self.latency_ms,
            "parameters": self.parameters,
            "training_seconds": self.training_seconds,
        }


@dataclass(frozen=True)
class Decision:
    """Which cell, by which rule, and why in one sentence."""

    cell: Cell
    rule: str
    reason: str


def choose(candidates: list[Measured], monitor: str) -> Decision:
    """Apply the rule to one or two measured candidates."""
    rule = RULE.format(monitor=monitor)
    if len(candidates) == 1:
        return Decision(candidates[0].cell, rule, f"{_named(candidates[0])} was the only candidate")
    best, other = sorted(candidates, key=lambda c: (-c.scores.metrics[monitor], c.scores.metrics["log_loss"]))
    margin = best.scores.metrics[monitor] - other.scores.metrics[monitor]
    against = (
        f"{_named(best)} reaches {monitor} {best.scores.metrics[monitor]:.4f} on {best.scores.rows} validation rows, "
        f"{_named(other)} {other.scores.metrics[monitor]:.4f}"
    )
    difference = best.scores.correct - other.scores.correct
    error = float(difference.std(ddof=1) / np.sqrt(len(difference))) if len(difference) > 1 else float("inf")
    if margin > 0 and abs(float(difference.mean())) > 1.96 * error:
        return Decision(best.cell, rule, f"{against}: more than chance explains ({margin:+.4f})")
    faster, slower = sorted(candidates, key=lambda c: c.latency_ms)
    times = (
        f"{_named(faster)} answers in {faster.latency_ms:.2f} ms where {_named(slower)} takes {slower.latency_ms:.2f}"
    )
    if slower.latency_ms >= _CLEARLY_FASTER * faster.latency_ms:
        return Decision(faster.cell, rule, f"{against}: too close to tell apart, and {times} ms")
    return Decision(best.cell, rule, f"{against}: too close to tell apart, and in time as well ({times} ms)")


def _named(candidate: Measured) -> str:
    return candidate.cell.upper()


def measure_candidate(
    candidate: Candidate, predictor: Predictor, valid: Dataset, *, latency_ms: float | None = None
) -> Measured:
    """Measure a candidate through the Predictor that loaded its artifact.

    Args:
        latency_ms: as an earlier, killed job measured it; measured now where None.
    """
    return Measured(
        cell=candidate.cell,
        scores=score(predictor, [valid]),
        latency_ms=_latency_ms(predictor, valid) if latency_ms is None else latency_ms,
        parameters=sum(array.size for array in candidate.weights.values()),
        training_seconds=candidate.seconds,
    )


def _latency_ms(predictor: Predictor, data: Dataset) -> float:
    """Median milliseconds that an item of median length takes, alone, from raw item to answer."""
    lengths = [len(item) for item in data.items]
    item = data.items[int(np.argsort(lengths)[len(lengths) // 2])]
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        predictor.predict([item])
        times.append(time.perf_counter() - start)
    return float(np.median(times)) * 1000
