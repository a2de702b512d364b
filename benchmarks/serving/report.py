"""From results/*.json to results/README.md and the plot of p99 against rate.

python -m benchmarks.serving.report
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import in_words
from benchmarks.serving.goals import goals
from benchmarks.serving.systems import GATEWISE, HERE
from benchmarks.tables import median_range, table

RESULTS = HERE / "results"
Row = dict[str, Any]
_BOTH_CORES = (
    "Both cores for the server; 16 connections, a request of 32 series as one array, so that the load takes little."
)


def spread(rows: Iterable[Row], key: str, form: str) -> str:
    """Median of a figure and, where there are several, smallest and largest."""
    return median_range([row[key] for row in rows], form)


def closed(rows: dict[str, dict[str, list[Row]]]) -> str:
    """CPU time a request, ratios, throughput and latency for each number of connections."""
    parts = []
    ours = rows[GATEWISE.name]
    for connections in ours:
        base = float(np.median([row["cpu_ms"] for row in ours[connections]]))
        lines = []
        for name, by_connections in rows.items():
            found = by_connections[connections]
            ratio = float(np.median([row["cpu_ms"] for row in found])) / base
            wrong = sum(row["wrong"] + row["broken"] + row["unanswered"] + row["refused"] for row in found)
            lines.append(
                [
                    *(name, spread(found, "cpu_ms", ".3f"), f"{ratio:.2f}", spread(found, "rps", ".0f")),
                    *(spread(found, "p50_ms", ".1f"), spread(found, "p99_ms", ".1f"), str(wrong)),
                ]
            )
        head = [
            "system",
            "CPU-ms a request",
            "ratio to Gatewise",
            "requests/s",
            "p50 ms",
            "p99 ms",
            "wrong, lost or refused",
        ]
        parts.append(f"### {connections} connection{'' if connections == '1' else 's'}\n\n{table(head, lines)}")
    sizes = [
        [
            name,
            spread([r for rs in by.values() for r in rs], "ready_seconds", ".1f"),
            str(list(by.values())[-1][-1]["resident_mb"]),
        ]
        for name, by in rows.items()
    ]
    parts.append("### Start and memory\n\n" + table(["system", "ready after s", "resident MB of each process"], sizes))
    return "\n".join(parts)


def rates(rows: dict[str, list[Row]]) -> str:
    """Latency at constant arrivals."""
    head = [
        "system",
        "share of own maximum",
        "requests/s due",
        "p50 ms",
        "p99 ms",
        "answered",
        "429",
        "p99 of 429, ms",
        "lost",
        "load generator's core, busy",
    ]
    lines = []
    for name, found in rows.items():
        for share in dict.fromkeys((row["share"], row.get("after_overload", False)) for row in found):
            same = [row for row in found if (row["share"], row.get("after_overload", False)) == share]
            refused = [row for row in same if row["refused_p99_ms"] is not None]
            lines.append(
                [
                    *(name, f"{share[0]:.0%}{', after 200%' if share[1] else ''}", spread(same, "rate", ".0f")),
                    *(spread(same, "p50_ms", ".1f"), spread(same, "p99_ms", ".1f"), spread(same, "rps", ".0f")),
                    str(sum(row["refused"] for row in same)),
                    spread(refused, "refused_p99_ms", ".1f") if refused else "-",
                    str(sum(row["broken"] + row["unanswered"] for row in same)),
                    spread(same, "load_share", ".0%"),
                ]
            )
    plot(rows, RESULTS / "p99.svg")
    return table(head, lines) + "\n![p99 against rate](p99.svg)\n"


def plot(rows: dict[str, list[Row]], path: Path) -> None:
    """p99 of accepted requests against the rate at which requests were due."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    for name, found in rows.items():
        shares = dict.fromkeys(row["share"] for row in found if not row.get("after_overload"))
        same = [[row for row in found if row["share"] == s and not row.get("after_overload")] for s in shares]
        rate = [float(np.median([row["rate"] for row in group])) for group in same]
        p99 = [float(np.median([row["p99_ms"] for row in group])) for group in same]
        axes.plot(rate, p99, marker="o", label=name, linewidth=2.5 if name == GATEWISE.name else 1.2)
    axes.set(yscale="log", xlabel="requests due a second", ylabel="p99 of accepted requests, ms")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


def text(rows: dict[str, list[Row]]) -> str:
    """Texts of mixed lengths."""
    return _simple(rows, "Texts of 5 to 200 words (lognormal), 32 connections.")


def workers(rows: dict[str, list[Row]]) -> str:
    """One worker and two."""
    return _simple(
        rows,
        _BOTH_CORES,
    )


def _simple(rows: dict[str, list[Row]], caption: str) -> str:
    head = ["system", "requests/s", "CPU-ms a request", "p50 ms", "p99 ms"]
    lines = [
        [
            name,
            *(
                spread(found, key, form)
                for key, form in (("rps", ".0f"), ("cpu_ms", ".3f"), ("p50_ms", ".1f"), ("p99_ms", ".1f"))
            ),
        ]
        for name, found in rows.items()
    ]
    return f"{caption}\n\n{table(head, lines)}"


def breakdown(rows: dict[str, list[Row]]) -> str:
    """Where a request's CPU time goes."""
    parts = list(next(iter(rows.values()))[0]["parts"])
    lines = [[part, *(_ms([row["parts"][part] for row in found]) for found in rows.values())] for part in parts]
    rest = [[row["all"] - row["bare"] - sum(row["parts"].values()) for row in found] for found in rows.values()]
    lines.append(["HTTP: uvicorn alone, the same request", *(_ms([row["bare"] for row in f]) for f in rows.values())])
    lines.append(["the rest", *map(_ms, rest)])
    lines.append(["**all, without the clocks**", *(_ms([row["all"] for row in found]) for found in rows.values())])
    head = ["CPU-ms a request", *(f"{n} connection{'' if n == '1' else 's'}" for n in rows)]
    words = (
        "Clocks in the running service (`peers/timed.py`) measure each part, less the parts inside it; they cost some "
        "CPU time of their own. The whole and uvicorn are measured from outside, without them.\n\n"
    )
    return words + table(head, lines)


def _ms(values: list[float]) -> str:
    return median_range(values, ".3f")


PARTS: dict[str, tuple[str, Callable[[Any], str]]] = {
    "closed": ("Series, 8 channels x 128 steps, LSTM-128, 8.9 KB of JSON a request", closed),
    "rates": ("Constant arrivals, at shares of each system's own maximum", rates),
    "text": ("Mixed lengths", text),
    "workers": ("Two workers", workers),
    "breakdown": ("Where a request's CPU time goes", breakdown),
}


def main() -> None:
    """Write the report of the results that there are."""
    parts = [
        "# Results\n\nMedians, with the smallest and largest of the rounds. Made by `python -m benchmarks.serving`.\n"
    ]
    results = {name: json.loads(file.read_text()) for name in PARTS if (file := RESULTS / f"{name}.json").exists()}
    parts.append(goals({name: result["rows"] for name, result in results.items()}))
    for name, (title, words) in PARTS.items():
        if name in results:
            result = results[name]
            machine = in_words(result["machine"])
            parts.append(f"## {title}\n\n`python -m benchmarks.serving {name}`; {machine}.\n\n{words(result['rows'])}")
    (RESULTS / "README.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
