"""Two containers behind a real haproxy are replaced one after the other, each drained first, and no request is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.conftest import Image
from tests.deploy.load import Load, Outcomes
from tests.deploy.test_image import CAREFUL, PATIENT, is_ready
from tests.docker import Docker
from tests.live import PATIENCE, free_port, soon, wait_for
from tests.programs import program

pytestmark = [pytest.mark.container, pytest.mark.slow, pytest.mark.load, pytest.mark.timeout(1800)]

REQUESTS = 5_000
REPLICAS = ("first", "second")

CONFIG = """
global
  stats socket {socket} mode 600 level admin
defaults
  mode http
  # What is lost is seen.
  retries 0
  timeout connect 5s
  timeout check 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance roundrobin
  option httpchk GET /readyz
  default-server check inter 500ms fall 2 rise 1
{servers}
"""


class Haproxy:
    """The balancer, told over its socket which replica may get requests."""

    def __init__(self, port: int, plug: Path) -> None:
        self.port = port
        self._plug = plug

    def tell(self, command: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self._plug))
            client.sendall(f"{command}\n".encode())
            return b"".join(iter(lambda: client.recv(65536), b"")).decode()

    def server(self, name: str) -> dict[str, str]:
        header, *lines = self.tell("show stat").removeprefix("# ").splitlines()
        rows = (dict(zip(header.split(","), line.split(","), strict=True)) for line in lines if line)
        [found] = [row for row in rows if (row["pxname"], row["svname"]) == ("replicas", name)]
        return found

    def is_up(self, name: str) -> bool:
        return self.server(name)["status"] == "UP"

    def is_drained(self, name: str) -> bool:
        return self.server(name)["scur"] == "0"


@pytest.fixture(scope="module")
def load(shared_tmp: Path) -> Load:
    return Load(shared_tmp / "rolling")


@pytest.fixture(scope="module")
def ports(docker: Docker, image: Image, load: Load) -> Iterator[dict[str, int]]:
    """Two containers, by name, with the ports at which they answer."""
    model = ("--volume", f"{load.folder}:/model:ro", "--env", "GATEWISE_MODEL=/model")
    with contextlib.ExitStack() as running:
        found = {f"gatewise-test-{name}": free_port() for name in REPLICAS}
        for name, port in found.items():
            publish = ("--publish", f"127.0.0.1:{port}:3000")
            running.enter_context(docker.container(*CAREFUL, *PATIENT, *model, *publish, image.name, name=name))
        for port in found.values():
            wait_for(lambda port=port: is_ready(port), "the container to be ready", 4 * PATIENCE)
        yield found


@pytest.fixture(scope="module")
def haproxy(ports: dict[str, int], shared_tmp: Path) -> Iterator[Haproxy]:
    """The balancer before both."""
    servers = "\n".join(f"  server {name} 127.0.0.1:{port}" for name, port in ports.items())
    found = Haproxy(free_port(), shared_tmp / "haproxy.socket")
    config = shared_tmp / "haproxy.cfg"
    config.write_text(CONFIG.format(socket=shared_tmp / "haproxy.socket", port=found.port, servers=servers))
    process = subprocess.Popen([program("haproxy", "haproxy"), "-W", "-db", "-f", config], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: is_ready(found.port), "haproxy")
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)


@pytest.mark.parametrize("time", [1, 2, 3])
def test_a_rolling_restart_loses_no_request(
    time: int, docker: Docker, haproxy: Haproxy, ports: dict[str, int], load: Load
) -> None:
    found: Outcomes = Counter()

    async def restart(name: str) -> None:
        await soon(lambda: haproxy.is_up(name), "haproxy to see it up")
        haproxy.tell(f"set server replicas/{name} state drain")
        await soon(lambda: haproxy.is_drained(name), "the last request of it")
        await asyncio.to_thread(docker, "stop", "--time", "60", name, seconds=2 * PATIENCE)
        assert docker.inspect(name)["State"]["ExitCode"] == 0
        await asyncio.to_thread(docker, "start", name)
        await soon(lambda: is_ready(ports[name]), "the new one to be ready", 4 * PATIENCE)
        haproxy.tell(f"set server replicas/{name} state ready")
        # The next is not drained before: somebody must answer.
        await soon(lambda: haproxy.is_up(name), "haproxy to see it up")

    async def test() -> None:
        stop = asyncio.Event()
        # Paced, so that what starts has something of the core.
        asking = asyncio.create_task(load.ask(haproxy.port, 8, stop, found, pause=0.02))
        try:
            for name in ports:
                await restart(name)
            await soon(lambda: found[200] >= REQUESTS or asking.done(), "enough requests", 10 * PATIENCE)
        finally:
            stop.set()
        await asking

    asyncio.run(test())
    assert found[200] >= REQUESTS
    assert set(found) == {200}, found
