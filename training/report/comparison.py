"""The account of the choice among the candidates, as the report shows it, whichever version of Gatewise wrote it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def comparison_of(training: Mapping[str, Any]) -> dict[str, Any]:
    """The manifest's `comparison`; made of the plain decision and figures where an artifact has none."""
    if "comparison" in training:
        comparison: dict[str, Any] = dict(training["comparison"])
        return comparison
    decision, metric = training["decision"], training["config"]["monitor"]
    curve = [_point(epoch) for epoch in training["epochs"]]
    return {
        "rule": decision["rule"],
        "chosen": decision["cell"],
        "reason": decision["reason"],
        "sentences": [decision["reason"]],
        "hint": "",
        "budgets": {},
        "rows": None,
        "metric": metric,
        "candidates": [
            _candidate(cell, figures, curve if cell == decision["cell"] else [])
            for cell, figures in training["candidates"].items()
        ],
        "tests": [],
        "dependency": None,
        "search": None,
    }


def _candidate(cell: str, figures: Mapping[str, float], curve: list[dict[str, float]]) -> dict[str, Any]:
    prefix = "valid_"
    return {
        "name": cell,
        "cell": cell,
        "metrics": {
            name.removeprefix(prefix): {"value": value, "low": None, "high": None}
            for name, value in figures.items()
            if name.startswith(prefix)
        },
        "training_seconds": figures["training_seconds"],
        "parameters": int(figures["parameters"]),
        "size_mb": None,
        "latency": {"single_ms": figures["latency_ms"]},
        "in_budget": True,
        "why_not": None,
        "curve": curve,
    }


def _point(epoch: Mapping[str, float]) -> dict[str, float]:
    names = {"valid_log_loss": "valid_loss"}
    return {names.get(name, name.removeprefix("valid_")): value for name, value in epoch.items() if name != "seconds"}
