"""Programs that tests run and pip cannot give: those installed, or else Debian's packages, where root may get them."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess

import pytest


def program(name: str, package: str) -> str:
    """The path of a program, which one of these packages has; or the test is skipped with what is missing."""
    found = shutil.which(name)
    if found is None:
        install(package)
        found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here, and without root and Debian's package {package} it cannot be had")
    return found


@functools.cache
def install(package: str) -> None:
    """Try once to install Debian's packages of these names; nothing happens without root, or off Debian."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(
            ["apt-get", "install", "-y", "--no-install-recommends", *package.split()],
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=240,
        )
