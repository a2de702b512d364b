"""The load generator: raw HTTP/1.1 over keep-alive connections, on a core of its own.

    python -m benchmarks.serving.load PLAN.json

The plan names the port, a file of ready requests, and either `connections` (a closed loop: each sends its next request
when its answer is there) or `rate` (an open loop: requests leave at constant intervals whatever the answers do, and a
latency counts from the time that a request was due). One JSON object on standard output says what came back.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.serving.answers import READERS

_CHECK_EACH = 20
_MOST_CONNECTIONS = 2048


@dataclass(frozen=True)
class Plan:
    """What to send, where and for how long.

    Attributes:
        requests: a pickle of [(request bytes, expected probabilities), ...], sent in turn.
        reader: which of `answers.READERS` finds the probabilities in an answer.
        connections: of a closed loop; 0 for an open one.
        rate: requests a second of an open loop.
        warm_up: seconds before counting begins.
    """

    port: int
    requests: str
    reader: str
    connections: int = 0
    rate: float = 0.0
    seconds: float = 3.0
    warm_up: float = 0.5


@dataclass
class Report:
    """What came back, in the counted time.

    Attributes:
        latencies_ms: of answers with status 200, sorted; refused_ms those of 429.
        wrong: checked answers whose probabilities differ from the expected ones by more than 1e-3.
        unanswered: requests that were due or sent and had no answer when the time was over and two seconds more.
        load_share: of its core that the load generator itself used; near 1 it is what limits the rate.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    latencies_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    checked: int = 0
    wrong: int = 0
    broken: int = 0
    unanswered: int = 0
    seconds: float = 0.0
    load_share: float = 0.0


class Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = bytearray()
        self.due = 0.0
        self.expected: Any = None
        self.busy = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def send(self, request: bytes, expected: Any, due: float) -> None:
        """Send a request that was due at this time."""
        assert self.transport is not None
        self.due, self.expected, self.busy = due, expected, True
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end]).lower()
        at = head.find(b"content-length:")
        stop = head.find(b"\r\n", at)
        length = int(head[at + 15 : stop if stop > 0 else None]) if at >= 0 else 0
        if at < 0 or len(self.buffer) < end + 4 + length:
            if at < 0:
                self.load.fail(self)
            return
        body = bytes(self.buffer[end + 4 : end + 4 + length])
        self.buffer.clear()
        self.busy = False
        self.load.answered(self, int(head[9:12]), head, body)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.busy:
            self.load.fail(self)
        self.load.lost(self)


class Load:
    """Sends by a plan and keeps count."""

    def __init__(self, plan: Plan, requests: list[tuple[bytes, Any]]) -> None:
        self.plan, self.requests = plan, requests
        self.read = READERS[plan.reader]
        self.report = Report()
        self.next = 0
        self.idle: deque[Connection] = deque()
        self.waiting: deque[float] = deque()
        self.open = self.opening = 0
        self.begin = self.end = 0.0
        self.clock = time.perf_counter

    async def run(self) -> Report:
        started, cpu = self.clock(), time.process_time()
        self.begin = started + self.plan.warm_up
        self.end = self.begin + self.plan.seconds
        if self.plan.connections:
            for _ in range(self.plan.connections):
                connection = await self._connect()
                self._dispatch(connection, self.clock())
            await asyncio.sleep(self.end - self.clock())
        else:
            await self._constant_arrivals()
        # What is on its way may still come: an overloaded server answers late.
        patience = self.clock() + 2
        while self.clock() < patience and (self.waiting or self._busy()):
            await asyncio.sleep(0.02)
        self.report.unanswered = len(self.waiting) + self._busy()
        self.report.seconds = self.plan.seconds
        self.report.load_share = (time.process_time() - cpu) / (self.clock() - started)
        self.report.latencies_ms.sort()
        self.report.refused_ms.sort()
        return self.report

    def _busy(self) -> int:
        return self.open - len(self.idle)

    async def _constant_arrivals(self) -> None:
        for _ in range(16):
            self.idle.append(await self._connect())
        due, step = self.clock(), 1 / self.plan.rate
        while due < self.end:
            now = self.clock()
            while due <= now and due < self.end:
                self._arrive(due)
                due += step
            await asyncio.sleep(max(0.0, min(due - self.clock(), 0.001)))

    def _arrive(self, due: float) -> None:
        if self.idle:
            self._dispatch(self.idle.popleft(), due)
            return
        self.waiting.append(due)
        if self.open + self.opening < _MOST_CONNECTIONS and self.opening < len(self.waiting):
            self.opening += 1
            asyncio.get_running_loop().create_task(self._add_connection())

    async def _add_connection(self) -> None:
        try:
            connection = await self._connect()
        except OSError:
            self.report.broken += 1
            return
        finally:
            self.opening -= 1
        self._released(connection)

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.plan.port)
        self.open += 1
        return connection

    def _dispatch(self, connection: Connection, due: float) -> None:
        request, expected = self.requests[self.next % len(self.requests)]
        self.next += 1
        connection.send(request, expected, due)

    def _released(self, connection: Connection) -> None:
        if self.waiting:
            self._dispatch(connection, self.waiting.popleft())
        else:
            self.idle.append(connection)

    def answered(self, connection: Connection, status: int, head: bytes, body: bytes) -> None:
        now = self.clock()
        if self.begin <= connection.due and (now <= self.end or not self.plan.connections):
            self._count(status, head, body, connection.expected, (now - connection.due) * 1000)
        if self.plan.connections:
            if now < self.end:
                self._dispatch(connection, now)
            else:
                self.idle.append(connection)
        else:
            self._released(connection)

    def _count(self, status: int, head: bytes, body: bytes, expected: Any, latency: float) -> None:
        report = self.report
        report.statuses[status] += 1
        if status != 200:
            if status == 429:
                report.refused_ms.append(latency)
                report.without_retry_after += b"\r\nretry-after:" not in head
            return
        report.latencies_ms.append(latency)
        if len(report.latencies_ms) % _CHECK_EACH == 0:
            report.checked += 1
            report.wrong += not self._is_right(body, expected)

    def _is_right(self, body: bytes, expected: Any) -> bool:
        try:
            found = np.asarray(self.read(body), dtype=np.float64).ravel()
            return bool(np.abs(found - np.asarray(expected).ravel()).max() < 1e-3)
        except (ValueError, KeyError, TypeError, IndexError):
            return False

    def fail(self, connection: Connection) -> None:
        self.report.broken += 1
        connection.busy = False

    def lost(self, connection: Connection) -> None:
        self.open -= 1
        if connection in self.idle:
            self.idle.remove(connection)


def main() -> None:
    """Run the plan of the command line."""
    import uvloop

    plan = Plan(**json.loads(Path(sys.argv[1]).read_text()))
    requests = pickle.loads(Path(plan.requests).read_bytes())  # noqa: S301 - this benchmark's own file
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        report = runner.run(Load(plan, requests).run())
    fields = asdict(report)
    fields["statuses"] = {str(status): count for status, count in report.statuses.items()}
    json.dump(fields, sys.stdout)


if __name__ == "__main__":
    main()
