"""A real Docker engine for tests: one that runs already, or one that they start, and stop at their end.

Where no registry is reached, the base image is a stand-in: Debian with its own Python 3.11, under the name in the
Dockerfile. Packages come from wheels that pip fetched here beforehand, so that a build needs neither network nor this
machine's pip configuration.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live import PATIENCE, wait_for
from tests.programs import program

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".cache/deploy"
BASE = "python:3.11-slim"
BUILD_SECONDS = 1200


class Docker:
    """The command `docker`, speaking to one engine."""

    def __init__(self, command: str, host: str | None) -> None:
        self._command = command
        self.is_ours = host is not None
        self.environ = os.environ | {"DOCKER_BUILDKIT": "1"} | ({"DOCKER_HOST": host} if host else {})
        # First, for what calls `docker` by its name.
        self.environ["PATH"] = f"{Path(command).parent}:{os.environ['PATH']}"

    def __call__(self, *arguments: str | Path, seconds: float = PATIENCE, stdin: Path | None = None) -> str:
        """Run a command and return its output.

        Raises:
            AssertionError: it failed; with what it said.
        """
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(stdin.open("rb")) if stdin else subprocess.DEVNULL
            done = subprocess.run(
                [self._command, *arguments], env=self.environ, stdin=source, capture_output=True, timeout=seconds
            )
        assert done.returncode == 0, f"docker {arguments[0]}: {done.stderr.decode()[-3000:]}"
        return done.stdout.decode().strip()

    def has(self, *arguments: str) -> bool:
        """Whether a command succeeds."""
        return (
            subprocess.run([self._command, *arguments], env=self.environ, capture_output=True, timeout=120).returncode
            == 0
        )

    def inspect(self, name: str) -> Any:
        """What the engine knows of a container or an image."""
        [found] = json.loads(self("inspect", name))
        return found

    def size(self, image: str) -> int:
        """Bytes of an image, its base included."""
        return int(self.inspect(image)["Size"])

    @contextlib.contextmanager
    def container(self, *arguments: str | Path, name: str) -> Iterator[str]:
        """A container that runs in the background until the block ends; gives its name."""
        self("run", "--detach", "--name", name, *arguments)
        try:
            yield name
        except BaseException as error:
            error.add_note(f"{name} said last:\n{self.logs(name)[-3000:]}")
            raise
        finally:
            self("rm", "--force", "--volumes", name)

    def logs(self, name: str) -> str:
        done = subprocess.run([self._command, "logs", name], env=self.environ, capture_output=True, timeout=PATIENCE)
        return (done.stdout + done.stderr).decode(errors="replace")


@contextlib.contextmanager
def engine() -> Iterator[Docker]:
    """An engine that builds and runs Linux images; the test is skipped where none can be had."""
    own = _client()
    if own and Docker(own, None).has("info"):
        yield Docker(own, None)
        return
    daemon = program("dockerd", "docker.io iptables")
    client = _client()
    if os.geteuid() != 0 or client is None:
        pytest.skip("no Docker engine runs here, and only root could start one")
    # Nothing of it is kept; the path is short, since a socket's has a limit.
    folder = Path(tempfile.mkdtemp(prefix="gatewise-docker-"))
    host = f"unix://{folder}/socket"
    places = {"data-root": folder / "data", "exec-root": folder / "exec", "pidfile": folder / "pid", "host": host}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([daemon, *(f"--{k}={v}" for k, v in places.items())], stdout=log, stderr=log)
    try:
        docker = Docker(client, host)
        with contextlib.suppress(AssertionError):
            wait_for(lambda: process.poll() is not None or docker.has("info"), "the Docker engine")
        if not docker.has("info"):
            pytest.skip(f"the Docker engine does not start here: {(folder / 'log').read_text()[-300:]}")
        yield docker
    finally:
        process.terminate()
        process.wait(PATIENCE)
        shutil.rmtree(folder, ignore_errors=True)


def _client() -> str | None:
    """A `docker` that can build: one with its builder, or one so old that it needs none."""
    for folder in os.get_exec_path():
        path = shutil.which("docker", path=folder)
        if path is None:
            continue
        version = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=PATIENCE).stdout
        if "version 20." in version or Docker(path, None).has("buildx", "version"):
            return path
    return None


def make_base(docker: Docker, wheels: str) -> bool:
    """See to it that the base image is there; True where it is a stand-in, whose pip and uv know the wheels alone.

    Args:
        wheels: the URL at which containers on the host's network find them.
    """
    if docker.has("image", "inspect", BASE) or docker.has("pull", "--quiet", BASE):
        return False
    if not docker.is_ours:
        pytest.skip(f"{BASE} cannot be pulled, and an engine that is not the tests' own gets no stand-in for it")
    root = Path(tempfile.mkdtemp(prefix="gatewise-base-"))
    try:
        with tempfile.TemporaryDirectory() as folder:
            _run("tar", "-C", root, "-xf", debian("base", "python3,python3-pip,python3-venv,python-is-python3"))
            for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
                marker.unlink()  # the real base image's pip may install, too
            (root / "etc/pip.conf").write_text(f"[global]\nno-index = true\nfind-links = {wheels}\n")
            (root / "etc/uv").mkdir()
            (root / "etc/uv/uv.toml").write_text(f'no-index = true\nfind-links = ["{wheels}"]\n')
            _run("tar", "-C", root, "-cf", Path(folder) / "base.tar", ".")
            docker("import", "--change", 'CMD ["python3"]', "-", BASE, stdin=Path(folder) / "base.tar", seconds=300)
    finally:
        shutil.rmtree(root)
    return True


def debian(name: str, packages: str) -> Path:
    """A Debian 12 with these packages as a tar file, made once; the test is skipped where it cannot be."""
    made = CACHE / f"{name}.tar"
    if made.exists():
        return made
    if os.geteuid() != 0:
        pytest.skip("no image registry is reached, and only root could make a base image")
    tool = program("mmdebstrap", "mmdebstrap")
    CACHE.mkdir(parents=True, exist_ok=True)
    half = made.with_suffix(".half.tar")
    # Neither pages nor package lists are wanted in an image.
    lean = ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*"]
    after = ["--customize-hook=rm -rf $1/var/lib/apt/lists/*"]
    done = subprocess.run(
        [tool, "--variant=minbase", f"--include={packages}", *lean, *after, "bookworm", half],
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if done.returncode:
        pytest.skip(f"no image registry is reached, nor Debian's packages: {done.stderr.strip()[-300:]}")
    half.rename(made)
    return made


@contextlib.contextmanager
def wheelhouse() -> Iterator[str]:
    """The folder of `wheels`, served on loopback; gives the URL."""
    _wheels().mkdir(parents=True, exist_ok=True)
    handler = functools.partial(_Quiet, directory=str(_wheels()))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def fetch(extras: str) -> None:
    """Put all wheels that an image with these extras needs into the wheelhouse, once for each set of pins."""
    done = _wheels() / f"complete-{extras}"
    if done.exists():
        return
    command = [sys.executable, "-m", "pip", "download", "--quiet", "-c", "constraints.txt", "-d", str(_wheels())]
    flags = os.environ.get("PIP_FLAGS", "").split()
    wanted = [f".[{extras}]", "setuptools>=77", "uv"]
    ran = subprocess.run([*command, *flags, *wanted], cwd=ROOT, capture_output=True, text=True, timeout=BUILD_SECONDS)
    if ran.returncode:
        pytest.skip(f"the packages of the image cannot be had: {ran.stderr.strip()[-300:]}")
    done.touch()


def _wheels() -> Path:
    pins = (ROOT / "constraints.txt").read_bytes() + (ROOT / "pyproject.toml").read_bytes()
    return CACHE / f"wheels-{hashlib.sha256(pins).hexdigest()[:12]}"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def build(docker: Docker, tag: str, *arguments: str) -> float:
    """Build an image from the repository's Dockerfile; return the seconds that it took."""
    begun = time.monotonic()
    docker("build", "--network", "host", "--tag", tag, *arguments, str(ROOT), seconds=BUILD_SECONDS)
    return time.monotonic() - begun


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-1000:]}"
