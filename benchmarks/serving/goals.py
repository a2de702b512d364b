"""What was to be reached, and what was: each goal with its figure, met or by how much not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from benchmarks.serving.systems import ARRIVAL_ORDER, GATEWISE, GATEWISE_2
from benchmarks.tables import table

Row = dict[str, Any]
_CPU_MS = {"8": 0.35, "32": 0.30, "128": 0.27}
_RATIOS = {
    "Starlette + ONNX Runtime": 1.6,
    "Triton (pytriton)": 2.0,
    "MLServer": 3.0,
    "LitServe": 5.0,
    "FastAPI + torch": 5.0,
    "BentoML batching": 6.0,
}


class Goal(NamedTuple):
    """A figure and the limit that it was to keep."""

    what: str
    limit: float
    found: float
    is_most: bool  # whether the limit is the largest that will do
    unit: str = ""

    def line(self) -> list[str]:
        """A row of the table."""
        is_met = self.found <= self.limit if self.is_most else self.found >= self.limit
        sign = "at most" if self.is_most else "at least"
        missed = f"no, by {abs(self.found / self.limit - 1):.0%}" if self.limit else f"no, by {self.found:g}"
        return [
            self.what,
            f"{sign} {self.limit:g}{self.unit}",
            f"{self.found:.3g}{self.unit}",
            "yes" if is_met else missed,
        ]


def goals(parts: dict[str, Any]) -> str:
    """The table of all goals whose part has been measured."""
    of_part = {"closed": _closed, "text": _text, "rates": _rates, "workers": _workers}
    lines = [goal.line() for name, of in of_part.items() if name in parts for goal in of(parts[name])]
    return "## Goals\n\n" + table(["goal", "limit", "median", "met"], lines)


def _median(rows: list[Row], key: str) -> float:
    return float(np.median([row[key] for row in rows]))


def _closed(rows: dict[str, dict[str, list[Row]]]) -> Iterator[Goal]:
    ours = rows[GATEWISE.name]
    for n, limit in _CPU_MS.items():
        what = f"CPU a request at {n} connections (on the machine where Starlette needs 0.55)"
        yield Goal(what, limit, _median(ours[n], "cpu_ms"), True, " ms")
    for name in (name for name in _RATIOS if name in rows):
        for n in _CPU_MS:
            ratio = _median(rows[name][n], "cpu_ms") / _median(ours[n], "cpu_ms")
            yield Goal(f"{name} to Gatewise, CPU at {n} connections", _RATIOS[name], ratio, False, "x")
    starlette = rows.get("Starlette + ONNX Runtime")
    if starlette:
        ratio = _median(starlette["1"], "p50_ms") / _median(ours["1"], "p50_ms")
        yield Goal("Starlette + ONNX Runtime to Gatewise, p50 at 1 connection", 1.0, ratio, False, "x")
    every = [row for found in ours.values() for row in found]
    yield Goal("ready after", 3.0, _median(every, "ready_seconds"), True, " s")
    yield Goal("resident memory of the worker", 200.0, max(max(row["resident_mb"]) for row in every), True, " MB")


def _text(rows: dict[str, list[Row]]) -> Iterator[Goal]:
    ours, theirs = rows[GATEWISE.name], rows[ARRIVAL_ORDER.name]
    ratio = _median(ours, "rps") / _median(theirs, "rps")
    yield Goal("mixed texts, requests/s to those with padding in the order of arrival", 1.8, ratio, False, "x")
    yield Goal("the same, p99", 1.0, _median(ours, "p99_ms") / _median(theirs, "p99_ms"), True, "x")


def _rates(rows: dict[str, list[Row]]) -> Iterator[Goal]:
    ours = [row for row in rows[GATEWISE.name] if not row.get("after_overload")]
    after = [row for row in rows[GATEWISE.name] if row.get("after_overload")]
    usual = [row for row in ours if row["share"] == 0.7]
    full = [row for row in ours if row["share"] == 2.0]
    yield Goal("p99 at 70% of the own maximum", 10.0, _median(usual, "p99_ms"), True, " ms")
    yield Goal("p99 of accepted requests at 200%", 250.0, _median(full, "p99_ms"), True, " ms")
    refused = [row for row in full if row["refused"]]
    if refused:
        yield Goal("p99 until a refusal at 200%", 250.0, _median(refused, "refused_p99_ms"), True, " ms")
    yield Goal("refusals without Retry-After", 0.0, sum(row["without_retry_after"] for row in full), True)
    yield Goal("requests lost or without an answer", 0.0, sum(r["broken"] + r["unanswered"] for r in ours), True)
    yield Goal("p99 at 50%, a second after 200%", 10.0, _median(after, "p99_ms"), True, " ms")


def _workers(rows: dict[str, list[Row]]) -> Iterator[Goal]:
    one, two = rows[GATEWISE.name], rows[GATEWISE_2.name]
    yield Goal("two workers to one, requests/s", 1.8, _median(two, "rps") / _median(one, "rps"), False, "x")
