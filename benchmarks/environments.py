"""Peers, each in an environment of its own under `.bench/`, made by the benchmark that first needs it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".bench"


class NotInstalled(Exception):
    """A peer's packages cannot be had here, or not within the time; the message says why in a line."""


def slug(name: str) -> str:
    """A name as a folder's."""
    return "".join(c if c.isalnum() else "-" for c in name.lower()).strip("-")


def install(
    name: str,
    packages: Sequence[str],
    *,
    check: str = "",
    python: str = sys.executable,
    timeout_seconds: float = 900,
    environments: Path = ENVIRONMENTS,
) -> Path:
    """Make the peer's environment where it is not there yet; return its `bin`.

    Args:
        packages: as pip names them, pinned.
        check: a statement that must run in it, such as an import.
        python: the interpreter that makes it.
    Raises:
        NotInstalled: it was not made; what was begun is removed, so that the next run tries again.
    """
    folder = environments / slug(name)
    if (folder / "installed").exists():
        return folder / "bin"
    print(f"Installing {name}", flush=True)
    own = str(folder / "bin/python")
    steps = [[python, "-m", "venv", "--clear", str(folder)]]
    steps.append([own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages])
    if check:
        steps.append([own, "-c", check])
    try:
        for step in steps:
            subprocess.run(step, check=True, timeout=timeout_seconds, stderr=subprocess.PIPE, text=True)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise NotInstalled(f"{name} was not installed: {_why(error, timeout_seconds)}") from None
    (folder / "installed").touch()
    return folder / "bin"


def _why(error: subprocess.CalledProcessError | subprocess.TimeoutExpired, timeout_seconds: float) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        return f"it takes longer than {timeout_seconds / 60:g} minutes"
    lines = [line.strip() for line in str(error.stderr or "").splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("ERROR") or "Error" in line] or lines
    return told[-1][:300] if told else f"exit code {error.returncode}"
