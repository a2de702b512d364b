"""A candidate, measured as it will serve: through the Predictor that loaded its artifact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gatewise.architecture import Cell
from gatewise.artifact import Artifact
from gatewise.predictor import Predictor
from training.compare import Budgets, Entry
from training.dataset import Dataset
from training.evaluation import Scores
from training.latency import Latency, measure_latency
from training.tallies import Tally, pooled


@dataclass(frozen=True)
class Cost:
    """What an artifact costs to keep and to serve.

    Attributes:
        parameters: number of weights.
        size_mb: of all its files, in 10^6 bytes.
    """

    latency: Latency
    parameters: int
    size_mb: float
    can_stream: bool


@dataclass(frozen=True)
class Measured:
    """A candidate with its figures.

    Attributes:
        seeds: that it was trained with.
        scores: on validation, for each seed.
        kept: the place of the seed that is kept.
        training_seconds: of the kept seed; None where it is not known.
        curve: the figures of each epoch of the kept seed.
    """

    name: str
    title: str
    cell: Cell
    seeds: tuple[int, ...]
    scores: tuple[Scores, ...]
    kept: int
    cost: Cost
    training_seconds: float | None
    curve: list[dict[str, float]] = field(default_factory=list)

    @property
    def score(self) -> Scores:
        """Of the kept seed."""
        return self.scores[self.kept]

    def tallies(self, metric: str) -> list[Tally]:
        """A metric of each seed."""
        return [scores.tallies[metric] for scores in self.scores]

    def together(self, metric: str) -> float:
        """A metric of all seeds' answers."""
        return pooled(self.tallies(metric)).value

    def entry(self, monitor: str, budgets: Budgets) -> Entry:
        """What the rule looks at."""
        long_ms, size_mb, streams = self.cost.latency.single_p95_length_ms, self.cost.size_mb, self.cost.can_stream
        return Entry(
            self.name,
            self.title,
            self.cell,
            self.together(monitor),
            self.together("log_loss"),
            self.cost.latency.single_ms,
            budgets.why_not(long_ms, size_mb, can_stream=streams),
            budgets.over(long_ms, size_mb, can_stream=streams),
        )

    def figures(self) -> dict[str, float]:
        """The kept seed's figures by name."""
        return {
            **{f"valid_{name}": value for name, value in self.score.metrics.items()},
            "latency_ms": self.cost.latency.single_ms,
            "per_second": self.cost.latency.per_second,
            "size_mb": self.cost.size_mb,
            "parameters": self.cost.parameters,
            **({} if self.training_seconds is None else {"training_seconds": self.training_seconds}),
        }


def best_seed(scores: Sequence[Scores], monitor: str) -> int:
    """The place of the seed that is kept: the best by the figure that the job goes by, then by log-loss."""
    return max(range(len(scores)), key=lambda i: (scores[i].metrics[monitor], -scores[i].metrics["log_loss"], -i))


def measure_cost(folder: Path, predictor: Predictor, valid: Dataset, kept: dict[str, Any] | None = None) -> Cost:
    """Measure an artifact.

    Args:
        kept: the latency as an earlier, killed job measured it; measured now where None.
    """
    artifact = Artifact(folder)
    weights = artifact.weights()
    return Cost(
        latency=Latency(**kept) if kept else measure_latency(predictor, weights, valid.items),
        parameters=sum(array.size for array in weights.values()),
        size_mb=sum(record.size_bytes for record in artifact.manifest.files.values()) / 1e6,
        can_stream=artifact.manifest.model.can_stream,
    )
