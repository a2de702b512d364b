"""A real PostgreSQL for tests: started by them on loopback, in a folder of its own, and stopped at their end."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import free_port
from tests.programs import install


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Start a server, or skip the test where none can be had; gives the URL of an empty database."""
    programs = _programs()
    if programs is None:
        pytest.skip("no PostgreSQL is installed, and without root and Debian's packages none can be")
    folder, port = Path(tempfile.mkdtemp(prefix="gatewise-postgresql-")), free_port()
    data, log = folder / "data", folder / "log"
    if os.geteuid() == 0:
        shutil.chown(folder, "postgres")
    options = f"-h 127.0.0.1 -p {port} -k {folder} -c shared_buffers=16MB"
    try:
        _run(programs / "initdb", "-D", data, "-U", "gatewise", "-A", "trust", "-E", "UTF8", "--no-locale", "-N")
        _run(programs / "pg_ctl", "-D", data, "-l", log, "-o", options, "-w", "-t", "60", "start")
        try:
            yield f"postgresql://gatewise@127.0.0.1:{port}/postgres"
        finally:
            _run(programs / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def _run(*command: str | Path) -> None:
    # It refuses to run as root. Its output goes nowhere: the server keeps the pipe open that it was started with.
    user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    done = subprocess.run([*user, *command], cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    assert done.returncode == 0, f"{command[0]} failed with {done.returncode}"


def _programs() -> Path | None:
    if _installed() is None:
        install("postgresql")
    return _installed()


def _installed() -> Path | None:
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = str(debian[-1]) if debian else shutil.which("initdb")
    return Path(found).parent if found else None
