"""Serve one model with every system, in turn and in one run: CPU time a request, throughput, latency.

    python -m benchmarks.serving [closed|rates|text|workers|breakdown|all] [--systems gatewise,Triton] [--rounds 3]

The server has one core and the load generator the other. Systems are interleaved: every round starts each of them once
and asks at every number of connections, so that a slow minute of the machine hits all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import describe
from benchmarks.serving.load import Plan
from benchmarks.serving.models import LONG_TIMESTEPS, Case, series_case, text_case
from benchmarks.serving.systems import (
    ARRIVAL_ORDER,
    BARE,
    GATEWISE,
    GATEWISE_2,
    HERE,
    PEER_SYSTEMS,
    ROOT,
    TIMED,
    Server,
    System,
)

RESULTS = HERE / "results"
_CONNECTIONS = (1, 8, 32, 128)
_SERIES_EACH = 32
_RATES = (0.3, 0.5, 0.7, 0.85, 1.0, 1.5, 2.0)
ROUNDS = {"closed": 2, "rates": 1, "text": 5, "workers": 5, "breakdown": 5}
Row = dict[str, Any]


class Bench:
    """Starts servers on the first core, and load on the second."""

    def __init__(self, work: Path, seconds: float) -> None:
        self.work, self.seconds = work, seconds
        self.cores = sorted(os.sched_getaffinity(0))[:2]
        if len(self.cores) < 2:
            raise SystemExit("the benchmark needs two cores: one for the server, one for the load")
        self._port = 21_000

    def start(self, system: System, case: Case, *, all_cores: bool = False) -> Server:
        self._port += 10
        cores = set(self.cores) if all_cores else {self.cores[0]}
        return Server(system, case, self._port, cores, self.work)

    def measure(self, server: Server, *, series_each: int = 0, **how: Any) -> Row:
        """Ask a server by a plan; CPU time counts from the first request to the last answer.

        Args:
            series_each: how many series a request has as one array; 0 for one item as JSON.
        """
        requests = self.work / "requests.pickle"
        requests.write_bytes(pickle.dumps(server.array_requests(series_each) if series_each else server.requests()))
        reader = "gatewise each" if series_each else server.system.reader
        plan = Plan(port=server.port, requests=str(requests), reader=reader, seconds=self.seconds, **how)
        (self.work / "plan.json").write_text(json.dumps(asdict(plan)))
        before = server.cpu_seconds()
        ran = subprocess.run(
            [sys.executable, "-m", "benchmarks.serving.load", str(self.work / "plan.json")],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            check=True,
            preexec_fn=lambda: os.sched_setaffinity(0, {self.cores[1]}),
        )
        cpu = server.cpu_seconds() - before
        report = json.loads(ran.stdout)
        # The warm-up's requests cost CPU too, at the same rate.
        share = plan.seconds / (plan.seconds + plan.warm_up)
        return _row(report, cpu * share)


def _row(report: Row, cpu: float) -> Row:
    latencies, answered = report["latencies_ms"], len(report["latencies_ms"])
    p50, p99 = np.percentile(latencies, [50, 99]) if latencies else (float("nan"),) * 2
    return {
        "rps": answered / report["seconds"],
        "cpu_ms": 1000 * cpu / max(1, sum(report["statuses"].values())),
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "refused": report["statuses"].get("429", 0),
        "refused_p99_ms": float(np.percentile(report["refused_ms"], 99)) if report["refused_ms"] else None,
        "other_statuses": {s: n for s, n in report["statuses"].items() if s not in ("200", "429")},
        **{
            key: report[key]
            for key in ("without_retry_after", "checked", "wrong", "broken", "unanswered", "load_share")
        },
    }


def closed(bench: Bench, systems: list[System], rounds: int) -> Row:
    """CPU time a request at several numbers of connections, for every system."""
    case = series_case(bench.work / "series")
    rows: dict[str, dict[str, list[Row]]] = {s.name: {str(n): [] for n in _CONNECTIONS} for s in systems}
    for round_ in range(rounds):
        for system in systems:
            server = bench.start(system, case)
            try:
                bench.measure(server, connections=8)
                for n in _CONNECTIONS:
                    row = bench.measure(server, connections=n)
                    row |= {"ready_seconds": server.ready_seconds, "resident_mb": server.resident_mb()}
                    rows[system.name][str(n)].append(row)
                    _say(f"{round_ + 1} {system.name:<26} {n:>4} connections", row)
            finally:
                server.stop()
    return rows


def rates(bench: Bench, systems: list[System], rounds: int) -> Row:
    """Latency at constant arrivals, at shares of each system's own maximum rate.

    The series are long, so that the load generator can send twice what the fastest server takes.
    """
    case = series_case(bench.work / "series", timesteps=LONG_TIMESTEPS)
    rows: Row = {}
    for system in systems:
        rows[system.name] = []
    for round_ in range(rounds):
        for system in systems:
            server = bench.start(system, case)
            try:
                bench.measure(server, connections=128)
                most = bench.measure(server, connections=128)["rps"]
                for share in _RATES:
                    row = {"share": share, "rate": share * most, **bench.measure(server, rate=share * most)}
                    rows[system.name].append(row)
                    _say(f"{round_ + 1} {system.name:<26} {share:>4.0%} of {most:.0f}/s", row)
                row = {
                    "share": 0.5,
                    "rate": 0.5 * most,
                    "after_overload": True,
                    **bench.measure(server, rate=0.5 * most, warm_up=1.0),
                }
                rows[system.name].append(row)
                _say(f"{round_ + 1} {system.name:<26}  50% a second later", row)
            finally:
                server.stop()
    return rows


def text(bench: Bench, rounds: int) -> Row:
    """Texts of mixed lengths: batches by length against batches in the order of arrival."""
    case = text_case(bench.work / "text")
    rows: dict[str, list[Row]] = {GATEWISE.name: [], ARRIVAL_ORDER.name: []}
    for round_ in range(rounds):
        for system in (GATEWISE, ARRIVAL_ORDER):
            server = bench.start(system, case)
            try:
                bench.measure(server, connections=32)
                row = bench.measure(server, connections=32)
                rows[system.name].append(row)
                _say(f"{round_ + 1} {system.name:<26} mixed texts", row)
            finally:
                server.stop()
    return rows


def workers(bench: Bench, rounds: int) -> Row:
    """One worker and two, on both cores, which they share with a load generator that has little to do."""
    case = series_case(bench.work / "series")
    rows: dict[str, list[Row]] = {GATEWISE.name: [], GATEWISE_2.name: []}
    for round_ in range(rounds):
        for system in (GATEWISE, GATEWISE_2):
            server = bench.start(system, case, all_cores=True)
            try:
                bench.measure(server, series_each=_SERIES_EACH, connections=16)
                row = bench.measure(server, series_each=_SERIES_EACH, connections=16)
                row |= {"ready_seconds": server.ready_seconds, "resident_mb": server.resident_mb()}
                rows[system.name].append(row)
                _say(f"{round_ + 1} {system.name:<26} both cores", row)
            finally:
                server.stop()
    return rows


def breakdown(bench: Bench, rounds: int) -> Row:
    """Where a request's CPU time goes: the clocks of a service that has them, beside the same service without."""
    case = series_case(bench.work / "series")
    rows: dict[str, list[Row]] = {str(n): [] for n in (1, 32)}
    for round_ in range(rounds):
        for n, found in rows.items():
            costs = {}
            for system in (GATEWISE, BARE, TIMED):
                server = bench.start(system, case)
                try:
                    costs[system.name] = bench.measure(server, connections=int(n))["cpu_ms"]
                finally:
                    server.stop()
            parts = json.loads((server.work / "parts.json").read_text())
            found.append({"all": costs[GATEWISE.name], "bare": costs[BARE.name], "parts": parts})
            print(f"{round_ + 1} {n:>4} connections: {costs} {parts}", flush=True)
    return rows


def _say(what: str, row: Row) -> None:
    wrong = {key: row[key] for key in ("wrong", "broken", "unanswered", "other_statuses") if row[key]}
    print(
        f"{what}: {row['rps']:7.0f}/s  {row['cpu_ms']:.3f} CPU-ms  p50 {row['p50_ms']:.1f}  p99 {row['p99_ms']:.1f} ms"
        f"{'  429: ' + str(row['refused']) if row['refused'] else ''}  {wrong or ''}",
        flush=True,
    )


def main() -> None:
    """Run the parts asked for; each writes its results beside this file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", default="all", choices=[*ROUNDS, "all"])
    parser.add_argument("--systems", default="", help="parts of names, by commas; all where not given")
    parser.add_argument("--rounds", type=int, help="of every system; as many as take some six minutes if not given")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--more", action="store_true", help="add the rounds to those of the results")
    parser.add_argument("--no-save", action="store_true", help="print only")
    args = parser.parse_args()
    wanted = [name.strip().lower() for name in args.systems.split(",") if name.strip()]
    systems = [s for s in (GATEWISE, *PEER_SYSTEMS) if not wanted or any(name in s.name.lower() for name in wanted)]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), args.seconds)
        parts: dict[str, Callable[[int], Row]] = {
            "closed": lambda rounds: closed(bench, systems, rounds),
            "rates": lambda rounds: rates(bench, systems if wanted else systems[:4], rounds),
            "text": lambda rounds: text(bench, rounds),
            "workers": lambda rounds: workers(bench, rounds),
            "breakdown": lambda rounds: breakdown(bench, rounds),
        }
        for name, default in ROUNDS.items():
            if args.part in (name, "all"):
                rows = parts[name](args.rounds or default)
                if not args.no_save:
                    _save(RESULTS / f"{name}.json", rows, is_more=args.more)


def _save(file: Path, rows: Row, *, is_more: bool) -> None:
    if is_more and file.exists():
        rows = _joined(json.loads(file.read_text())["rows"], rows)
    result = {"machine": describe("bentoml", "onnxruntime", "torch", "numpy"), "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1))


def _joined(old: Any, new: Any) -> Any:
    """Results of two runs as one: lists of rounds put together, whatever they are under."""
    if isinstance(old, list):
        return old + new
    return old | {key: _joined(old[key], value) if key in old else value for key, value in new.items()}


if __name__ == "__main__":
    main()
