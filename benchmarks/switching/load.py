"""The load of this benchmark: constant arrivals, and every answer held to the version that it names.

    python -m benchmarks.switching.load PLAN.json ANSWERS.npz

As `benchmarks.serving.load`, but that the requests' pickle holds for each the probabilities of every version by its
name, and that the second file gets the time, the latency and the version of every answer.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.serving.load import Connection, Load, Plan

TOLERANCE = 1e-5


class CheckedLoad(Load):
    """Checks every answer and remembers when it came."""

    def __init__(self, plan: Plan, requests: list[tuple[bytes, Any]]) -> None:
        super().__init__(plan, requests)
        self.due: list[float] = []
        self.latency_ms: list[float] = []
        self.version: list[int] = []
        self.versions: dict[str, int] = {name: i for i, name in enumerate(requests[0][1])}

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        if status == 200 and self.begin <= connection.due:
            self._check(connection, body)
        super().answered(connection, status, head, body)

    def _check(self, connection: Connection, body: bytes) -> None:
        answer = orjson.loads(body)
        version = answer["model"]["version"]
        found = [list(one["probabilities"].values()) for one in answer["predictions"]]
        expected = connection.expected.get(version)
        is_right = expected is not None and np.abs(np.array(found) - np.array(expected)).max() <= TOLERANCE
        self.report.checked += 1
        self.report.wrong += not is_right
        self.due.append(connection.due)
        self.latency_ms.append((self.clock() - connection.due) * 1000)
        self.version.append(self.versions.get(version, -1))

    def _is_right(self, body: bytes, expected: Any) -> bool:
        self.report.checked -= 1  # it was counted above, as every other
        return True


def main() -> None:
    """Run the plan of the command line."""
    import uvloop

    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    load = CheckedLoad(plan, pickle.loads(Path(plan.requests).read_bytes()))  # noqa: S301 - this benchmark's own file
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(load.run())
    np.savez(sys.argv[2], due=load.due, latency_ms=load.latency_ms, version=load.version)
    fields = asdict(report)
    fields["statuses"] = {str(status): count for status, count in report.statuses.items()}
    fields["latencies_ms"] = []  # they are in the other file
    json.dump(fields, sys.stdout)


if __name__ == "__main__":
    main()
