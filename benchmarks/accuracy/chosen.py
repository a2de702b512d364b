"""The cell that `fit` with both would choose, from the records of each, by training's own rule."""

from __future__ import annotations

import numpy as np

from benchmarks.accuracy.records import Record, unpacked
from gatewise.architecture import Cell
from training.compare import Decision, Entry, choose, ranked, rule_in_words
from training.resampling import PairedTest, paired_test
from training.tallies import Tally, mean_of


def chosen(records: dict[Cell, Record]) -> Cell:
    """The cell chosen between the records of one set and seed; it looks at validation alone."""
    return decided(records)[0].cell


def decided(records: dict[Cell, Record]) -> tuple[Decision, list[PairedTest]]:
    """The decision between the records of one set and seed, and the test of the better cell against the other.

    A record keeps of each validation row whether it was answered rightly, so the test is of accuracy, whatever the
    cells are ranked by.
    """
    monitor = next(iter(records.values()))["configuration"]["monitor"]
    entries = [_entry(cell, record, monitor) for cell, record in records.items()]
    tallies = {cell: _tally(record) for cell, record in records.items()}
    best, *others = [entry.cell for entry in ranked(entries)]
    tests = [paired_test((best, other), "accuracy", [tallies[best]], [tallies[other]]) for other in others]
    rows = next(iter(tallies.values())).rows
    return choose(entries, tests, monitor, rule_in_words(monitor), rows), tests


def _entry(cell: Cell, record: Record, monitor: str) -> Entry:
    metrics = record["metrics"]["valid"]
    return Entry(cell, cell.upper(), cell, metrics[monitor], metrics["log_loss"], record["latency_ms"])


def _tally(record: Record) -> Tally:
    correct = unpacked(record["valid_correct"])
    return mean_of(correct, np.ones(len(correct)))
