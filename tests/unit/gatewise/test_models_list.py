"""`gatewise models list`, as a person sees it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gatewise.store import ModelVersion, Store
from tests.unit.gatewise.test_store import make_artifact

COMMAND = [sys.executable, "-m", "gatewise.cli", "models", "list"]
ALL = ["model", "version", "state", "test", "created", "size", "cell", "kind", "task"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"BENTOML_HOME": str(tmp_path / "home"), "TERM": "xterm"}


def add(tmp_path: Path, name: str) -> ModelVersion:
    store = Store(tmp_path / "home")
    return store.promote(store.add(make_artifact(tmp_path / "model"), name).reference)


def on_a_terminal(columns: int, environ: dict[str, str]) -> list[list[str]]:
    """The cells of each line that a terminal of so many columns is shown."""
    ours, theirs = pty.openpty()
    environ |= {"COLUMNS": str(columns)}
    done = subprocess.run(COMMAND, env=environ, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, timeout=60)
    os.close(theirs)
    assert done.returncode == 0, done.stderr.decode()
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    return cells(shown.decode())


def cells(shown: str) -> list[list[str]]:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    lines = (line.replace("┃", "│").split("│")[1:-1] for line in plain.splitlines())
    return [[cell.strip() for cell in line] for line in lines if line]


@pytest.mark.parametrize(("columns", "titles"), [(60, ALL[:3]), (80, ALL[:4]), (160, ALL)])
def test_a_terminal_shows_the_columns_that_it_has_room_for_whole(
    columns: int, titles: list[str], tmp_path: Path, environ: dict[str, str]
) -> None:
    version = add(tmp_path, "names")
    heading, row = on_a_terminal(columns, environ)
    assert heading == titles
    assert row[:3] == ["names", version.version, "production"]
    assert all(row)


def test_a_very_narrow_terminal_breaks_a_version_over_lines_and_cuts_nothing(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    version = add(tmp_path, "names")
    _, *rows = on_a_terminal(40, environ)
    parts = ["".join(column) for column in zip(*rows, strict=True)]
    assert parts == ["names", version.version, "production"]


def test_a_pipe_gets_every_column_whole(tmp_path: Path, environ: dict[str, str]) -> None:
    version = add(tmp_path, "n" * 63)
    done = subprocess.run(COMMAND, env=environ | {"COLUMNS": "40"}, capture_output=True, text=True, timeout=60)
    heading, row = cells(done.stdout)
    assert (heading, row[:3]) == (ALL, ["n" * 63, version.version, "production"])
    assert all(row)
