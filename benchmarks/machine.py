"""The machine and the code that figures come from."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.environments import ROOT


def describe(*packages: str) -> dict[str, Any]:
    """The machine, in words, with the versions of packages of this environment."""
    model = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "cpu": model.partition(":")[2].strip(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def commit() -> str:
    """The commit that runs, with a plus where the library or training has changes that it does not hold."""
    head = _git("rev-parse", "--short=12", "HEAD")
    return f"{head}+" if _git("status", "--porcelain", "--", "gatewise", "training") else head


def in_words(machine: dict[str, Any]) -> str:
    """A machine for a line of a report."""
    return ", ".join(f"{key} {value}" for key, value in machine.items())


def _git(*arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
