"""From results/*.json to results/README.md.

python -m benchmarks.training.report
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import in_words
from benchmarks.tables import median_range, table
from gatewise.durable import replace_text

Row = dict[str, Any]
_OURS, _ARTICLE, _BARE = "Gatewise", "Keras", "bare loop"
# How many times as many sequences a CPU-second as Keras, by part and cell.
SPEED_GOALS = {("cells", "lstm"): 3.0, ("cells", "gru"): 1.5, ("text", "lstm"): 6.0, ("text", "gru"): 6.0}
MOST_OVERHEAD = 0.05
LOADING_GOAL = 100_000


def steady_rate(row: Row) -> float:
    """Train sequences a CPU-second, over the epochs after the first, in which systems compile and set up."""
    epochs = row["epoch_cpu_seconds"]
    later = epochs[1:] or epochs
    return float(row["sequences"] * len(later) / sum(later))


def whole_rate(row: Row) -> float:
    """Train sequences a CPU-second, over the whole fit."""
    return float(row["sequences"] * len(row["epoch_cpu_seconds"]) / row["fit_cpu_seconds"])


def ratios(ours: Sequence[Row], theirs: Sequence[Row], rate: Callable[[Row], float]) -> list[float]:
    """How many times as fast, round by round: a slow minute hits both."""
    return [rate(a) / rate(b) for a, b in zip(ours, theirs, strict=True)]


def overheads(lightning: Sequence[Row], bare: Sequence[Row]) -> list[float]:
    """The share of a bare step that Lightning adds to it, round by round."""
    return [rate - 1 for rate in ratios(bare, lightning, steady_rate)]


def _compared(part: str) -> Callable[[Any], str]:
    def words(rows: dict[str, dict[str, list[Row]]]) -> str:
        return "\n".join(_cell_table(part, cell, systems) for cell, systems in rows.items())

    return words


def _cell_table(part: str, cell: str, systems: dict[str, list[Row]]) -> str:
    article = systems.get(_ARTICLE, [])
    lines = []
    for name, rows in systems.items():
        against = [median_range(ratios(rows, article, rate), ".2f") for rate in (steady_rate, whole_rate) if article]
        steady, whole = against or ["-", "-"]
        lines.append(
            [
                *(name, median_range([steady_rate(row) for row in rows], ".1f"), steady),
                *(median_range([whole_rate(row) for row in rows], ".1f"), whole),
                *(median_range([row["peak_mb"] for row in rows], ".0f"),),
                *_learnt(rows),
            ]
        )
    head = ["system", "sequences a CPU-second", "times Keras", "with the first epoch", "times Keras", "peak MB"]
    told = ""
    if article and systems.get(_OURS):
        reached = float(np.median(ratios(systems[_OURS], article, steady_rate)))
        goal = SPEED_GOALS[part, cell]
        told = f"Goal {goal:g} times Keras: {'met' if reached >= goal else 'not met'}, {reached:.2f}.\n\n"
    return f"### {cell.upper()}\n\n{told}{table([*head, 'accuracy held out', 'parameters'], lines)}"


def _learnt(rows: list[Row]) -> tuple[str, str]:
    """Accuracy and parameters, of what has any."""
    if not rows or rows[0]["parameters"] is None:
        return "-", "-"
    return median_range([row["accuracy"] for row in rows], ".3f"), f"{rows[0]['parameters']:,}"


def _overhead(rows: dict[str, dict[str, dict[str, list[Row]]]]) -> str:
    lines = []
    for kind, cells in rows.items():
        for cell, systems in cells.items():
            lightning, bare = systems[_OURS], systems[_BARE]
            found = overheads(lightning, bare)
            lines.append(
                [
                    *(f"{kind} {cell.upper()}", median_range([steady_rate(row) for row in lightning], ".1f")),
                    *(median_range([steady_rate(row) for row in bare], ".1f"), median_range(found, ".1%")),
                    "met" if float(np.median(found)) < MOST_OVERHEAD else "not met",
                ]
            )
    head = ["case", "sequences a CPU-second", "bare loop", "Lightning adds", f"goal: under {MOST_OVERHEAD:.0%}"]
    return table(head, lines)


def _loading(rows: list[dict[str, Row]]) -> str:
    lines = []
    for name in rows[0]:
        found = [row[name] for row in rows]
        rates = [figures["texts_per_cpu_second"] for figures in found]
        memory = {
            "encode one by one": ("growth_mb", "{} MB more after the first tenth"),
            "encode and hold": ("bytes_a_text", "{} bytes a text held"),
        }.get(name)
        told = memory[1].format(median_range([figures[memory[0]] for figures in found], ".0f")) if memory else "-"
        goal = "-" if name == "read" else "met" if float(np.median(rates)) >= LOADING_GOAL else "not met"
        seconds = median_range([figures["seconds"] for figures in found], ".1f")
        lines.append([name, median_range(rates, ",.0f"), seconds, told, goal])
    return table(["", "texts a CPU-second", "seconds", "memory", f"goal: {LOADING_GOAL:,}"], lines)


PARTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "cells": ("Series, 8 channels x 128 steps, a label for each step", _compared("cells")),
    "text": ("Texts of 5 to 200 words, 20,000 x 128 embedding, one label each", _compared("text")),
    "overhead": ("Lightning against a bare loop over the same steps", _overhead),
    "loading": ("Short texts, read from CSV and encoded", _loading),
}


def write_report(folder: Path) -> None:
    """Write the report of the results that there are."""
    parts = [
        "# Results\n\nMedians, with the smallest and largest of the rounds. Made by `python -m benchmarks.training`.\n"
    ]
    for name, (title, words) in PARTS.items():
        file = folder / f"{name}.json"
        if file.exists():
            result = json.loads(file.read_text())
            run = f"commit {result['commit']}; {in_words(result['shape'])}; {in_words(result['machine'])}"
            parts.append(f"## {title}\n\n`python -m benchmarks.training {name}`; {run}.\n\n{words(result['rows'])}")
    replace_text(folder / "README.md", "\n".join(parts))


if __name__ == "__main__":
    write_report(Path(__file__).resolve().parent / "results")
