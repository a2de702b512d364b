"""The table of what a run measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import mean, stdev
from typing import Any

_NAMES = {
    "labels": "labels alone",
    "unlabelled": "pretrained on unlabelled",
    "vectors": "word vectors",
    "both": "word vectors, pretrained",
}


def write_report(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write README.md: for each set and number of labels the mean test accuracy over the seeds, and its deviation."""
    lines = [
        "# What is known before the labels",
        "",
        "Test accuracy in %, mean ± standard deviation over the seeds, number of seeds in brackets.",
        "Command: `python -m benchmarks.pretraining --data FOLDER --embeddings glove.6B.50d.txt`.",
        "An LSTM with the default recipe, on the CPU: "
        f"Python {platform.python_version()}, torch {version('torch')}, {os.cpu_count()} cores.",
        "",
    ]
    for data in dict.fromkeys(row["data"] for row in rows):
        lines += _table(data, [row for row in rows if row["data"] == data])
    (folder / "README.md").write_text("\n".join(lines))


def _table(data: str, rows: list[dict[str, Any]]) -> list[str]:
    labels = list(dict.fromkeys(row["labels"] for row in rows))
    lines = [
        f"## {data}",
        "",
        f"| given | {' | '.join(f'{n} labels' for n in labels)} |",
        "|---" * (len(labels) + 1) + "|",
    ]
    for given in [name for name in _NAMES if any(row["given"] == name for row in rows)]:
        cells = [_cell([row for row in rows if row["given"] == given and row["labels"] == n]) for n in labels]
        lines.append(f"| {_NAMES[given]} | {' | '.join(cells)} |")
    return [*lines, ""]


def _cell(rows: list[dict[str, Any]]) -> str:
    accuracies = [100 * row["accuracy"] for row in rows]
    if not accuracies:
        return "-"
    spread = f" ± {stdev(accuracies):.1f}" if len(accuracies) > 1 else ""
    return f"{mean(accuracies):.1f}{spread} ({len(accuracies)})"
