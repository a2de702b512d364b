"""Promotions and rollbacks under load: is a request lost, is an answer another version's, does memory grow?

    python -m benchmarks.switching [--seconds 600]

A real service with two workers follows `name:production`. It is asked at half the rate that it can answer, and every
three seconds the pointer moves: a promotion of the other version, then a rollback, and so on. Every answer is held to
what the offline Predictor says for the version that the answer names.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.environments import ROOT
from benchmarks.machine import commit, describe
from benchmarks.serving.load import Plan
from benchmarks.serving.models import Case, series_case
from benchmarks.serving.systems import raw_request
from benchmarks.switching import report
from gatewise.store import Store
from tests.live import Server, serve

RESULTS = Path(__file__).parent / "results"
NAME, WORKERS, EACH_SECONDS, CONNECTIONS = "switching", 2, 3.0, 64
_CALM_SHARE = 0.1  # of the time, before the first move
_MOVE_SHARE = 0.5  # of the maximum rate


class Bench:
    """Two versions in a store, requests, and a service that follows the pointer."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.store = Store(work / "bentoml")
        cases = [series_case(work / f"version{seed}", seed=seed) for seed in (1, 2)]
        versions = [self.store.add(case.folder, NAME).version for case in cases]
        self.cases: dict[str, Case] = dict(zip(versions, cases, strict=True))
        self.store.promote(f"{NAME}:{versions[0]}")
        self.other = versions[1]
        requests = [
            (
                raw_request("/predict", json.dumps({"sequences": [item]}).encode()),
                {version: [case.expected[i]] for version, case in self.cases.items()},
            )
            for i, item in enumerate(cases[0].items)
        ]
        (work / "requests.pickle").write_bytes(pickle.dumps(requests))

    def load(self, server: Server, name: str, **how: Any) -> subprocess.Popen[bytes]:
        """Start to ask."""
        plan = self.work / f"{name}.json"
        plan.write_text(
            json.dumps(asdict(Plan(server.port, str(self.work / "requests.pickle"), "gatewise", warm_up=1.0, **how)))
        )
        command = [sys.executable, "-m", "benchmarks.switching.load", str(plan), str(self.work / f"{name}.npz")]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)

    def move(self, number: int) -> None:
        """Promote the other version, or roll that back."""
        if number % 2:
            self.store.rollback(NAME)
        else:
            self.store.promote(f"{NAME}:{self.other}")


def run(work: Path, seconds: float) -> dict[str, Any]:
    """The whole measurement."""
    bench = Bench(work)
    with serve(work, f"{NAME}:production", workers=WORKERS) as server:
        _wait_for_workers(server)
        most = _ended(bench.load(server, "most", connections=CONNECTIONS, seconds=max(5.0, seconds / 60)))
        rate = _MOVE_SHARE * sum(most["statuses"].values()) / most["seconds"]
        calm = _CALM_SHARE * seconds
        asking = bench.load(server, "half", rate=rate, seconds=calm + seconds)
        time.sleep(1.0 + calm)
        moves, memory = _move(bench, server, seconds)
        answers = _ended(asking)
        metrics = server.metrics()
        switches = {
            result: metrics[f'gatewise_model_switches_total{{result="{result}"}}'] for result in ("done", "failed")
        }
    found = np.load(work / "half.npz")
    return {
        "machine": {**describe("bentoml", "onnxruntime", "uvloop"), "affinity": sorted(os.sched_getaffinity(0))},
        "commit": commit(),
        "seconds": seconds,
        "workers": WORKERS,
        "most_rps": most["statuses"].get("200", 0) / most["seconds"],
        "rate": rate,
        "statuses": answers["statuses"],
        **{key: answers[key] for key in ("checked", "wrong", "broken", "unanswered", "load_share")},
        "moves": len(moves),
        "switches": switches,
        "latency": report.latency(found, moves),
        "follow_seconds": report.follow_seconds(found, moves),
        "memory": memory,
    }


def _move(bench: Bench, server: Server, seconds: float) -> tuple[list[float], list[dict[str, Any]]]:
    """Move the pointer every three seconds; when it had moved, and what the workers held."""
    moves: list[float] = []
    memory: list[dict[str, Any]] = []
    began = time.perf_counter()
    while len(moves) < int(seconds / EACH_SECONDS):
        time.sleep(max(0.0, began + EACH_SECONDS * len(moves) - time.perf_counter()))
        bench.move(len(moves))
        moves.append(time.perf_counter())
        if len(moves) % max(1, int(seconds / EACH_SECONDS / 20)) == 0:
            resident = [worker.memory_info().rss / 1e6 for worker in _workers(server)]
            memory.append({"seconds": round(moves[-1] - began), "moves": len(moves), "resident_mb": resident})
    time.sleep(max(0.0, began + seconds - time.perf_counter()))
    return moves, memory


def _workers(server: Server) -> list[psutil.Process]:
    family = psutil.Process(server.process.pid).children(recursive=True)
    return sorted(
        (member for member in family if "_bentoml_impl.worker.service" in member.cmdline()), key=lambda one: one.pid
    )


def _wait_for_workers(server: Server) -> None:
    """Until each worker has loaded its model, which the first that answers says nothing of."""
    text = "Completed async startup hook: open"
    until = time.monotonic() + 120
    while server.log.read_text().count(text) < WORKERS and time.monotonic() < until:
        time.sleep(0.2)


def _ended(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"the load generator ended with {process.returncode}")
    result: dict[str, Any] = json.loads(output)
    return result


def main() -> None:
    """Measure, write the results, and fail where a request did."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.switching", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="of moves; a tenth more without any goes before")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to write to")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="gatewise-switching-") as work:
        result = run(Path(work), options.seconds)
    options.results.mkdir(parents=True, exist_ok=True)
    (options.results / "switching.json").write_text(json.dumps(result, indent=1) + "\n")
    text = report.write(result)
    (options.results / "README.md").write_text(text)
    print(text)
    if report.failures(result):
        raise SystemExit("failed: " + "; ".join(report.failures(result)))


if __name__ == "__main__":
    main()
