"""A server in a process of its own, and a client that sends raw HTTP/1.1 to it, so that both can misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
import psutil
import pytest

from gatewise.schema import Prediction

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60.0  # seconds for what takes well under one on an idle machine
TOLERANCE = 1e-5  # of a probability, between one batch and another


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, timeout=PATIENCE)

    def is_ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            # The socket opens before the worker runs: an early request hangs until it does.
            return self.get("/readyz").status_code == 200
        return False

    def metrics(self) -> Metrics:
        return Metrics(self.get("/metrics").text)

    def worker(self) -> psutil.Process:
        """The one process that answers; `process` starts it and watches it."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        [worker] = [member for member in family if "_bentoml_impl.worker.service" in member.cmdline()]
        return worker

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    def wait(self, seconds: float = PATIENCE) -> int:
        """Return the exit code, once it has ended."""
        return self.process.wait(seconds)


class Metrics:
    """The service's metrics as they were at one moment."""

    def __init__(self, text: str) -> None:
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        self._values = {name: float(value) for name, _, value in lines}

    def __getitem__(self, name: str) -> float:
        """A metric by its name in Prometheus's text, labels included; 0 where nothing counted yet."""
        return self._values.get(name, 0.0)

    def requests(self, route: str = "/predict") -> dict[int, int]:
        """How many requests were answered with each status."""
        pattern = re.compile(rf'gatewise_http_requests_total{{route="{route}",status="(\d+)"}}')
        found = ((pattern.fullmatch(name), value) for name, value in self._values.items())
        return {int(match[1]): int(value) for match, value in found if match}


@contextlib.contextmanager
def serve(tmp: Path, folder: Path, service: str | None = None, **settings: object) -> Iterator[Server]:
    """Serve an artifact until the block ends, by `gatewise serve`.

    Args:
        service: another service than the product's, by `bentoml serve`.
        settings: as GATEWISE_* have them, in lower case; other variables as they are, in upper case.
    """
    port = free_port()
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GATEWISE_")}
    environ |= {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(tmp / "bentoml"), "OMP_NUM_THREADS": "1"}
    environ |= {"PYTHONPATH": str(ROOT), "GATEWISE_MODEL": str(folder)}
    environ |= {name if name.isupper() else f"GATEWISE_{name.upper()}": str(value) for name, value in settings.items()}
    command = ["-m", "gatewise.cli", "serve", str(folder)] if service is None else ["-m", "bentoml", "serve", service]
    with (tmp / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=environ,
            stdout=log,
            stderr=log,
        )
    server = Server(port, process, tmp / "log")
    try:
        _wait_until_ready(server)
        yield server
    except BaseException as error:
        error.add_note(f"the server's log ends:\n{server.log.read_text()[-3000:]}")
        raise
    finally:
        _stop(process)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: Server) -> None:
    def is_ready() -> bool:
        assert server.process.poll() is None, "the server ended while it started"
        return server.is_ready()

    wait_for(is_ready, "the server to be ready", 2 * PATIENCE)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its workers, whatever state they are in."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(15)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
    process.wait(PATIENCE)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Look every tenth of a second until it is so; fail after the time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"waited {seconds:.0f} s in vain for {what}"
        time.sleep(0.1)


async def soon(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Wait as `wait_for` does, and let the event loop run."""
    await asyncio.to_thread(wait_for, condition, what, seconds)


class Reply(NamedTuple):
    """One whole answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return orjson.loads(self.body)


class Unanswered(Exception):
    """The server closed the connection before the first byte of an answer."""


class CutShort(Exception):
    """The server closed the connection in the middle of an answer."""


class Client:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def ask(self, request: bytes) -> Reply:
        """Send a request and return its answer."""
        self.send(request)
        return await self.reply()

    def send(self, data: bytes) -> None:
        """Hand bytes to the system; whether they arrive shows in the answer."""
        self._writer.write(data)

    async def reply(self) -> Reply:
        """Return the next answer.

        Raises:
            Unanswered, CutShort: the connection ended instead.
        """
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as error:
            raise (CutShort if error.partial else Unanswered) from error
        except ConnectionError as error:
            raise Unanswered from error
        status, *lines = head.decode("latin-1").split("\r\n")
        fields = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        try:
            body = await self._reader.readexactly(int(headers["content-length"]))
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise CutShort from error
        return Reply(int(status.split()[1]), headers, body)

    async def is_closed_by_server(self) -> bool:
        """Wait for the end of the connection, or for more bytes."""
        try:
            return await asyncio.wait_for(self._reader.read(1), PATIENCE) == b""
        except ConnectionError:
            return True

    def leave(self) -> None:
        """Close at once; what was sent stays sent."""
        self._writer.close()

    def reset(self) -> None:
        """Break the connection; what was sent may be lost."""
        # A linger of no seconds: close() sends RST instead of FIN.
        plug = self._writer.get_extra_info("socket")
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()

    async def left(self) -> None:
        """Wait until the connection is closed."""
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


@contextlib.asynccontextmanager
async def clients(port: int, count: int, receive_buffer: int | None = None) -> AsyncIterator[list[Client]]:
    """So many connections, closed when the block ends.

    Args:
        receive_buffer: bytes that the system takes in of an answer before it is read.
    """
    opened: list[Client] = []
    try:
        for _ in range(count):
            plug = socket.socket()
            if receive_buffer is not None:
                plug.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            plug.setblocking(False)
            await asyncio.get_running_loop().sock_connect(plug, ("127.0.0.1", port))
            opened.append(Client(*await asyncio.open_connection(sock=plug)))
        yield opened
    finally:
        for client in opened:
            client.leave()
        await asyncio.gather(*(client.left() for client in opened))


def predict(sequences: Iterable[Any], **fields: Any) -> bytes:
    """A request to `POST /predict`, as bytes."""
    body = orjson.dumps({"sequences": list(sequences), **fields})
    return head(len(body)) + body


def head(length: int) -> bytes:
    """The head of a request to `POST /predict` with a body of this length."""
    lines = ["POST /predict HTTP/1.1", "host: gatewise", "content-type: application/json", f"content-length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def assert_is_error(reply: Reply, status: int, code: str) -> None:
    """Hold an answer to the form of every error."""
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert set(reply.json()) == {"error", "code", "details"}
    assert reply.json()["error"]


def assert_predicts(reply: Reply, expected: Sequence[Prediction]) -> None:
    """Hold an answer to what the offline Predictor says."""
    assert reply.status == 200, reply.body
    for one, other in zip(reply.json()["predictions"], expected, strict=True):
        assert one["label"] == other.label
        assert one["confidence"] == pytest.approx(other.confidence, abs=TOLERANCE)
        assert one["probabilities"] == pytest.approx(other.probabilities, abs=TOLERANCE)
