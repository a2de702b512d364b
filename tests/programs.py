"""Programs that tests run and pip cannot give: those installed, or else Debian's packages, where root may get them."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess

import pytest


def program(name: str, package: str, *, instead: str | None = None) -> str:
    """The path of a program, or the test is skipped with what is missing.

    Args:
        instead: another program that does as well.
    """
    found = _found(name, instead) or _found_after_installing(name, instead, package)
    if found is None:
        pytest.skip(f"{name} is not here, and without root and Debian's package {package} it cannot be had")
    return found


def _found(name: str, instead: str | None) -> str | None:
    return shutil.which(name) or (shutil.which(instead) if instead else None)


@functools.cache
def _found_after_installing(name: str, instead: str | None, package: str) -> str | None:
    if os.geteuid() == 0 and shutil.which("apt-get"):
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(
                ["apt-get", "install", "-y", "--no-install-recommends", *package.split()],
                env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=240,
            )
    return _found(name, instead)
