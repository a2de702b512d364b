"""`gatewise models list`, as a person sees it."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys
from pathlib import Path

from gatewise.store import Store
from tests.unit.gatewise.test_store import make_artifact


def test_a_terminal_of_80_columns_shows_names_and_versions_whole(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    version = store.promote(store.add(make_artifact(tmp_path / "model"), "questions").reference)
    ours, theirs = pty.openpty()
    environ = os.environ | {"BENTOML_HOME": str(tmp_path / "home"), "COLUMNS": "80", "TERM": "xterm"}
    command = [sys.executable, "-m", "gatewise.cli", "models", "list"]
    done = subprocess.run(command, env=environ, stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, timeout=60)
    os.close(theirs)
    assert done.returncode == 0, done.stderr.decode()
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    [row] = [line for line in shown.decode().splitlines() if "questions" in line]
    words = row.split()
    assert (words[1], words[3], words[-2]) == ("questions", version.version, "production")
