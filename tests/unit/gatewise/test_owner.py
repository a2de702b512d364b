"""Processes that really live and die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from gatewise.owner import Owner, _started


@pytest.fixture
def process() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def test_a_process_is_alive_until_it_ends_even_while_its_parent_has_not_looked(
    process: subprocess.Popen[bytes],
) -> None:
    owner = replace(Owner.this_process(), pid=process.pid, started=_started(process.pid))
    assert owner.is_here()
    assert owner.is_alive()
    owner.send(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not owner.is_alive()
    process.wait()
    assert not owner.is_alive()
    owner.send(signal.SIGKILL)  # and nobody else is met by it


def test_another_process_of_the_same_number_is_another() -> None:
    here = Owner.this_process()
    assert here.is_alive()
    assert not replace(here, started="1").is_alive()


def test_a_process_of_another_boot_or_container_is_not_here() -> None:
    assert not replace(Owner.this_process(), machine="another").is_here()
