"""Which process does a job, so that another can tell whether it still lives."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")


@dataclass(frozen=True)
class Owner:
    """A process.

    Attributes:
        machine: where its number means it: one boot of one machine and, in a container, that container.
        started: when it began, in the machine's own ticks: a number is given to another process after its end.
    """

    machine: str
    pid: int
    started: str

    @classmethod
    def this_process(cls) -> Owner:
        """The process that asks."""
        return cls(_machine(), os.getpid(), _started(os.getpid()) or "")

    def is_here(self) -> bool:
        """Whether this process can see it, if it lives."""
        return self.machine == _machine()

    def is_alive(self) -> bool:
        """Whether it lives; ask only where it is here."""
        return _started(self.pid) == self.started

    def send(self, signal_number: int) -> None:
        """Send it a signal, if it lives."""
        if self.is_alive():
            os.kill(self.pid, signal_number)


def _machine() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str | None:
    """When a process began; None where there is none, or only what its parent has not yet taken note of."""
    try:
        # The name stands in parentheses and may hold anything; what follows it does not.
        fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return _started_elsewhere(pid)
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def _started_elsewhere(pid: int) -> str | None:
    """On a system without /proc a living process has no known beginning."""
    if (_PROC / "self").exists():
        return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return ""
