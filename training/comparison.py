"""Measured candidates -> which one, and the account of it that the artifact keeps and the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from training.compare import CLEARLY_FASTER, Budgets, Decision, choose, ranked, rule_in_words
from training.config import TrainingConfig
from training.dependency import Dependency
from training.measuring import Measured
from training.resampling import RULE_OF_THREE, PairedTest, intervals, paired_test


@dataclass(frozen=True)
class Comparison:
    """Candidates, the tests between them, and the choice."""

    measured: list[Measured]
    monitor: str
    budgets: Budgets
    tests: list[PairedTest]
    decision: Decision

    @property
    def chosen(self) -> Measured:
        """The candidate that was chosen."""
        return next(one for one in self.measured if one.name == self.decision.name)

    def hint(self, dependency: Dependency | None) -> str:
        """What would change the choice: longer dependencies, more rows, less compute."""
        told = []
        if dependency:
            again = "; where answers come to hang on more, compare again" if dependency.range else ""
            told.append(f"{dependency.sentence}{again}")
        test = next((test for test in self.tests if test.metric == self.monitor), None)
        if test and not test.is_clear:
            told.append(self._hidden(test))
        ours = self.chosen.cost.latency
        faster = min(self.measured, key=lambda one: one.cost.latency.single_ms)
        if ours.single_ms >= CLEARLY_FASTER * faster.cost.latency.single_ms:
            theirs = faster.cost.latency
            told.append(
                f"Where compute counts most, {faster.title} takes {theirs.single_ms:.2f} ms for a sequence where "
                f"{self.chosen.title} takes {ours.single_ms:.2f}"
            )
        return "".join(f"{sentence}. " for sentence in told).strip()

    def _hidden(self, test: PairedTest) -> str:
        rows = self.chosen.score.rows
        if test.low is None or test.high is None:
            return f"{rows} held-out sequences tell nothing apart: give a larger validation file"
        hidden = max(-test.low, test.high, RULE_OF_THREE / rows)
        return f"More held-out rows would tell more: these can hide a difference of {hidden:.2g}"

    def account(self, dependency: Dependency | None, search: dict[str, Any] | None = None) -> dict[str, Any]:
        """The manifest's `comparison`: JSON only."""
        return {
            "rule": self.decision.rule,
            "chosen": self.decision.name,
            "reason": self.decision.reason,
            "sentences": list(self.decision.sentences),
            "hint": self.hint(dependency),
            "budgets": asdict(self.budgets),
            "rows": self.chosen.score.rows,
            "metric": self.monitor,
            "candidates": [self._candidate(one) for one in self.measured],
            "tests": [{**asdict(test), "of": list(test.of)} for test in self.tests],
            "dependency": _jsonable(asdict(dependency)) if dependency else None,
            "search": search,
        }

    def _candidate(self, one: Measured) -> dict[str, Any]:
        why_not = one.entry(self.monitor, self.budgets).why_not
        return {
            "name": one.name,
            "cell": one.cell,
            "seed": one.seeds[one.kept],
            "seeds": list(one.seeds),
            "metrics": _metrics(one),
            "training_seconds": one.training_seconds,
            "parameters": one.cost.parameters,
            "size_mb": one.cost.size_mb,
            "latency": asdict(one.cost.latency),
            "in_budget": why_not is None,
            "why_not": why_not,
            "curve": [_point(epoch) for epoch in one.curve],
        }


def budgets_of(config: TrainingConfig) -> Budgets:
    """The budgets of a job."""
    return Budgets(config.max_latency_ms, config.max_size_mb, config.needs_streaming)


def compare(measured: list[Measured], monitor: str, budgets: Budgets) -> Comparison:
    """Test the best candidate against each other one, and choose.

    Raises:
        InvalidConfig: no candidate is within the budgets.
    """
    entries = [one.entry(monitor, budgets) for one in measured]
    by_name = {one.name: one for one in measured}
    best, *others = [by_name[entry.name] for entry in ranked(entries)]
    metrics = [monitor, *(name for name in best.score.tallies if name != monitor)]
    tests = [
        paired_test((best.name, other.name), metric, best.tallies(metric), other.tallies(metric))
        for other in others
        for metric in metrics
    ]
    rule = rule_in_words(monitor, budgets, seeds=len(best.seeds))
    decisive = [test for test in tests if test.metric == monitor]
    decision = choose(entries, decisive, monitor, rule, best.score.rows)
    return Comparison(measured, monitor, budgets, tests, decision)


def _metrics(one: Measured) -> dict[str, dict[str, float | None]]:
    names = list(one.score.tallies)
    bounds = intervals([one.tallies(name) for name in names])
    return {
        name: {
            "value": one.score.metrics[name],
            "low": bound[0] if bound else None,
            "high": bound[1] if bound else None,
            **_over_seeds([scores.metrics[name] for scores in one.scores]),
        }
        for name, bound in zip(names, bounds, strict=True)
    }


def _over_seeds(values: Sequence[float]) -> dict[str, float | None]:
    if len(values) == 1:
        return {"seeds_mean": None, "seeds_std": None}
    return {"seeds_mean": float(np.mean(values)), "seeds_std": float(np.std(values, ddof=1))}


def _point(epoch: dict[str, float]) -> dict[str, float]:
    """An epoch's figures for the learning curve: of validation, but for the train loss."""
    names = {"valid_log_loss": "valid_loss"}
    return {names.get(name, name.removeprefix("valid_")): epoch[name] for name in epoch if name != "seconds"}


def _jsonable(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}
