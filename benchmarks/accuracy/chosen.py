"""The cell that `fit` with both would choose, from the records of each, by training's own rule."""

from __future__ import annotations

from benchmarks.accuracy.records import Record, unpacked
from gatewise.architecture import Cell
from training.compare import Measured, choose
from training.evaluation import Scores


def chosen(records: dict[Cell, Record]) -> Cell:
    """The cell chosen between the records of one set and seed; it looks at validation alone."""
    measured = [_measured(cell, record) for cell, record in records.items()]
    monitor = next(iter(records.values()))["configuration"]["monitor"]
    return choose(measured, monitor).cell


def _measured(cell: Cell, record: Record) -> Measured:
    correct = unpacked(record["valid_correct"])
    return Measured(
        cell=cell,
        scores=Scores(record["metrics"]["valid"], len(correct), correct),
        latency_ms=record["latency_ms"],
        parameters=record["parameters"],
        training_seconds=record["training_seconds"],
    )
