"""Finished artifacts compared on one labelled file, as `gatewise train` compares its candidates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gatewise.artifact import Manifest
from gatewise.errors import InvalidConfig
from gatewise.predictor import Predictor
from training.compare import Budgets, rule_in_words
from training.comparison import Comparison, compare
from training.dataset import Dataset
from training.evaluation import score
from training.measuring import Measured, measure_cost
from training.metrics import is_bio


@dataclass(frozen=True)
class Finished:
    """A model in the store or in a folder.

    Attributes:
        reference: how it was named, by which it is told from the others.
    """

    reference: str
    folder: Path
    predictor: Predictor


def compare_finished(
    models: Sequence[Finished],
    data: Dataset,
    budgets: Budgets,
    *,
    say: Callable[[str], None] = print,
) -> Comparison:
    """Say the rule, measure models on the same rows, test the best against each other one, and choose.

    Raises:
        InvalidConfig: there are not several, one is named twice, they answer with different labels, or none is within
            the budgets.
        InvalidData: a row is not what one of them takes.
    """
    _check(models)
    monitor = _monitor(models[0].predictor.manifest)
    say(f"Rule: {rule_in_words(monitor, budgets)}.")
    measured = []
    for model in models:
        say(f"Measuring {model.reference}")
        measured.append(_measure(model, data))
    return compare(measured, monitor, budgets)


def _monitor(manifest: Manifest) -> str:
    """What the model was judged by in training, or where it was trained elsewhere would have been."""
    would = "span_f1" if manifest.task == "step" and is_bio(manifest.labels) else "accuracy"
    monitor: str = manifest.training.get("config", {}).get("monitor", would)
    return monitor


def _check(models: Sequence[Finished]) -> None:
    first, *others = models
    if not others:
        raise InvalidConfig("MODEL: give two or more to compare, and then DATA")
    references = [model.reference for model in models]
    if len(set(references)) < len(references):
        raise InvalidConfig("MODEL: one is named twice")
    for other in others:
        if set(other.predictor.manifest.labels) != set(first.predictor.manifest.labels):
            raise InvalidConfig(
                f"MODEL: {other.reference} and {first.reference} answer with different labels; "
                "compare models of one question"
            )


def _measure(model: Finished, data: Dataset) -> Measured:
    manifest = model.predictor.manifest
    trained = _trained(manifest.training, manifest.model.cell)
    return Measured(
        name=model.reference,
        title=model.reference,
        cell=manifest.model.cell,
        seeds=(trained.get("seed", 0),),
        scores=(score(model.predictor, [data]),),
        kept=0,
        cost=measure_cost(model.folder, model.predictor, data),
        training_seconds=trained.get("training_seconds"),
        curve=manifest.training.get("epochs", []),
    )


def _trained(training: dict[str, Any], cell: str) -> dict[str, Any]:
    """What the manifest says of the candidate that the model was; empty for one that was imported."""
    name = training.get("decision", {}).get("name", cell)
    candidates = training.get("comparison", {}).get("candidates", [])
    return next((one for one in candidates if one["name"] == name), training.get("candidates", {}).get(cell, {}))
