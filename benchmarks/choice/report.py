"""From records to results/README.md: what each way of choosing would have got."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.chosen import decided
from benchmarks.accuracy.records import GATEWISE, Record, Records
from benchmarks.accuracy.sets import SETS
from benchmarks.machine import in_words
from benchmarks.tables import mean_deviation, table
from gatewise.architecture import Cell
from gatewise.durable import replace_text

_WAYS = ("always LSTM", "always GRU", "chosen", "oracle")


@dataclass(frozen=True)
class Outcome:
    """One set with one seed.

    Attributes:
        test: the score of each cell, in percent.
        latency_ms: of one sequence of median length alone, on one thread, of each cell.
        difference: on validation, of the better cell to the other, in points; with its p value.
        certainty: what the chosen cell's record says of it; empty in a record that is older than the figures.
    """

    chosen: Cell
    test: dict[Cell, float]
    latency_ms: dict[Cell, float]
    difference: float
    p_value: float
    certainty: Record = field(default_factory=dict)

    def taken(self, way: str) -> Cell:
        """The cell that a way of choosing takes; of equal test scores the oracle takes the faster one."""
        if way == "chosen":
            return self.chosen
        if way == "oracle":
            return max(self.test, key=lambda cell: (self.test[cell], -self.latency_ms[cell]))
        return "lstm" if way == "always LSTM" else "gru"


def write_report(records: Records, adding: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write the report of what there is."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "README.md", report(outcomes(records), adding))


def outcomes(records: Records) -> dict[str, list[Outcome]]:
    """Of each set the outcome of every seed for which both cells have a record with a test score."""
    cells: defaultdict[tuple[str, int], dict[Cell, Record]] = defaultdict(dict)
    for key, record in records.all():
        if key.system == GATEWISE and not key.without and "test" in record["metrics"]:
            cells[key.set, key.seed]["lstm" if key.cell == "lstm" else "gru"] = record
    found: defaultdict[str, list[Outcome]] = defaultdict(list)
    for (name, _), of_cells in sorted(cells.items()):
        if len(of_cells) == 2 and name in SETS:
            found[name].append(_outcome(of_cells, SETS[name].metric))
    return {name: found[name] for name in SETS if name in found}


def _outcome(records: dict[Cell, Record], metric: str) -> Outcome:
    decision, [test] = decided(records)
    return Outcome(
        decision.cell,
        {cell: 100 * record["metrics"]["test"][metric] for cell, record in records.items()},
        {cell: record["latency_ms"] for cell, record in records.items()},
        100 * test.difference,
        test.p_value,
        records[decision.cell].get("certainty", {}),
    )


def report(of_sets: dict[str, list[Outcome]], adding: Sequence[dict[str, Any]]) -> str:
    """The report in Markdown."""
    head = (
        "# LSTM or GRU: what choosing by evidence gives\n\nMade by `python -m benchmarks.choice --data FOLDER`. The "
        "choice looks at validation and latency alone; the oracle takes what turned out better on test. Scores are "
        "percent on the test split (span F1 where tags are BIO), mean ± standard deviation over seeds. Milliseconds "
        "are of one sequence of median length alone, from raw item to answer, on one thread: its CPU time, or in older "
        "records the wall time. The difference on validation is of accuracy, the better cell's less the other's, in "
        "points, with the p value of the paired test.\n"
    )
    certain = {name: [one.certainty for one in found if one.certainty] for name, found in of_sets.items()}
    certain = {name: found for name, found in certain.items() if found}
    parts = [
        head,
        f"## The sets\n\n{_sets(of_sets)}" if of_sets else "",
        f"## How sure the answers are\n\n{_certainty(certain)}" if certain else "",
        _adding(adding) if adding else "",
    ]
    return "\n".join(part for part in parts if part)


def _sets(of_sets: dict[str, list[Outcome]]) -> str:
    lines = []
    for name, found in of_sets.items():
        picked = [one.chosen.upper() for one in found]
        counts = ", ".join(f"{cell} {picked.count(cell)}" for cell in ("LSTM", "GRU") if cell in picked)
        margins = ", ".join(f"{one.difference:+.2f} (p {one.p_value:.2f})" for one in found)
        lines.append(
            [name, counts, margins, *(_score(found, way) for way in _WAYS), *(_ms(found, way) for way in _WAYS)]
        )
    means = [f"{np.mean([np.mean(_scores(found, way)) for found in of_sets.values()]):.2f}" for way in _WAYS]
    ratios = [f"{_relative(of_sets, way):.2f}" for way in _WAYS]
    lines.append([f"mean of {len(of_sets)} sets", "", "", *means, *(f"x{ratio}" for ratio in ratios)])
    head = ["set", "chosen", "validation difference", *_WAYS, *(f"ms, {way}" for way in _WAYS)]
    note = "\nThe last row's times are the geometric mean over sets of the time relative to the faster cell's.\n"
    return table(head, lines) + note


def _certainty(of_sets: dict[str, list[Record]]) -> str:
    """Of each set the mean over seeds, the counts of all seeds taken together."""
    lines = []
    for name, found in of_sets.items():
        errors = [
            np.mean([one["calibration_error"][which] for one in found]) for which in ("before", "after", "by_chance")
        ]
        covered, answered, right = (_share([one[what] for one in found]) for what in ("covered", "answered", "right"))
        stated, target = found[0]["coverage"], found[0]["target_precision"]
        lines.append(
            [
                *(name, str(len(found))),
                *(f"{error:.3f}" for error in errors),
                *(f"{stated:.0%}", covered, f"{np.mean([one['labels_a_set'] for one in found]):.2f}"),
                *(f"{target:.0%}", right, answered),
            ]
        )
    head = ["set", "seeds", "error before", "after", "by chance", "stated coverage", "covered", "labels a set"]
    head += ["target precision", "precision of the answered", "answered"]
    told = (
        "Of the chosen cell, on test rows. *Error* is the expected calibration error before and after the temperature "
        "that was fitted on validation, and what so few rows would show of a perfectly calibrated model. A label set "
        "is to hold the true label at the stated coverage; a prediction below the threshold that validation gave for "
        "the target precision is marked as abstained. Where validation is too small to show the target, nothing is "
        "answered.\n\n"
    )
    return told + table(head, lines)


def _share(counts: Sequence[tuple[int, int]]) -> str:
    count, rows = np.sum(counts, axis=0)
    return f"{count / rows:.1%}" if rows else "-"


def _scores(found: Sequence[Outcome], way: str) -> list[float]:
    return [one.test[one.taken(way)] for one in found]


def _score(found: Sequence[Outcome], way: str) -> str:
    return mean_deviation(_scores(found, way), ".2f")


def _ms(found: Sequence[Outcome], way: str) -> str:
    return f"{np.mean([one.latency_ms[one.taken(way)] for one in found]):.2f}"


def _relative(of_sets: dict[str, list[Outcome]], way: str) -> float:
    logs = [
        np.mean([np.log(one.latency_ms[one.taken(way)] / min(one.latency_ms.values())) for one in found])
        for found in of_sets.values()
    ]
    return float(np.exp(np.mean(logs)))


def _adding(rows: Sequence[dict[str, Any]]) -> str:
    lines = []
    for row in sorted(rows, key=lambda row: (row["task"]["length"], row["task"]["pooling"], row["task"]["seed"])):
        task, cells, dependency = row["task"], row["cells"], row["dependency"]
        lines.append(
            [
                *(str(task["length"]), task["pooling"], str(task["seed"]), str(task["rows"]), str(task["epochs"])),
                *(f"{100 * cells[cell]['test']:.2f}" for cell in ("lstm", "gru")),
                row["chosen"].upper(),
                f"{100 * row['test']['difference']:+.2f} (p {row['test']['p_value']:.3f})",
                f"{dependency['range'] or 'all'}" if dependency else "-",
                " / ".join(f"{cells[cell]['latency_ms']:.2f}" for cell in ("lstm", "gru")),
                " / ".join(f"{cells[cell]['training_seconds']:.0f}" for cell in ("lstm", "gru")),
            ]
        )
    head = ["T", "pooling", "seed", "rows", "epochs", "LSTM test", "GRU test", "chosen", "validation difference"]
    head += ["steps needed", "ms, LSTM / GRU", "training s, LSTM / GRU"]
    told = (
        "## The adding problem\n\nTwo marked readings among T, one in each half: is their sum above 1? A coin gets "
        "50. One layer of 64 units that reads left to right, nothing beside it. *Steps needed* is what the chosen cell "
        "needs of the end of a series to be as good as with all of it, by masking the rest. Training "
        "seconds are of the wall clock.\n\n"
    )
    return f"{told}{table(head, lines)}\nMachine: {in_words(rows[-1]['machine'])}; commit {rows[-1]['commit']}.\n"
