"""Peers that cannot be installed leave a word and no half environment."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks import environments
from benchmarks.environments import NotInstalled, install


def test_an_environment_that_stands_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a-b").mkdir()
    (tmp_path / "a-b" / "installed").touch()
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("nothing is to be installed"))
    assert install("A b", ["x"], environments=tmp_path) == tmp_path / "a-b" / "bin"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            subprocess.CalledProcessError(1, "pip", stderr="WARNING: x\nERROR: No match for y\nnote\n"),
            "ERROR: No match",
        ),
        (subprocess.TimeoutExpired("pip", 60), "longer than 1 minutes"),
    ],
)
def test_what_was_begun_is_removed_and_the_reason_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def run(command: list[str], **options: Any) -> None:
        (tmp_path / "peer").mkdir(exist_ok=True)
        if "pip" in command:
            raise error

    monkeypatch.setattr(environments.subprocess, "run", run)
    with pytest.raises(NotInstalled, match=told):
        install("peer", ["y"], timeout_seconds=60, environments=tmp_path)
    assert not (tmp_path / "peer").exists()
