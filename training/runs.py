"""The folder where a job works, and from which a killed one goes on.

    runs/<name>/<fingerprint>/job.json      when it began, and its result once it has one
                              search.db     the trials of a search, and beside it search.json, what they found
                              <candidate>/  checkpoint while training; weights, record and artifact after it

The fingerprint is of data and of every setting that trains, so a run finds its own folder again, on every device, and
no other's; with another budget it is the same folder.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatewise.durable import exclusive, replace_text
from gatewise.errors import InvalidConfig, ModelConflict

_UNWRITABLE = frozenset({errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR})


@dataclass(frozen=True)
class Run:
    """A job's folder.

    Attributes:
        started_at: when the job first began, UTC, ISO 8601.
        result: what it made, where it has finished.
        note: what the user should know of an earlier job in this folder, or of there being none.
    """

    folder: Path
    started_at: str
    result: dict[str, Any] | None
    note: str = ""

    def finish(self, result: dict[str, Any]) -> None:
        """Record the result."""
        _write(self.folder, {"started_at": self.started_at, "result": result})


def folder_of(run_dir: Path, name: str, fingerprint: str) -> Path:
    """The folder of a job."""
    return run_dir / name / fingerprint[:12]


@contextmanager
def open_run(folder: Path, *, resume: bool) -> Iterator[Run]:
    """Take the folder for this process: what an earlier run left there is kept to resume, or else put aside.

    Raises:
        ModelConflict: another process works in it.
        InvalidConfig: it cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(exclusive(folder / ".lock", timeout_seconds=0))
        except ModelConflict:
            raise ModelConflict(
                f"{folder}: another process trains the same data with the same settings; wait for it, or stop it"
            ) from None
        except OSError as error:
            if error.errno not in _UNWRITABLE:
                raise
            raise InvalidConfig(f"run_dir: {folder}: {error.strerror}; give a folder for jobs with --run-dir") from None
        path = folder / "job.json"
        note = ""
        if not resume and path.exists() and "result" not in json.loads(path.read_text()):
            aside = _put_aside(folder)
            note = f"An unfinished job of this data and these settings was put aside in {aside}; --resume goes on."
        elif not resume:
            _clear(folder)
        elif not path.exists():
            note = f"Nothing to resume: no earlier job in {folder.parent} has this data and these settings."
        if not path.exists():
            _write(folder, {"started_at": datetime.now(UTC).isoformat(timespec="seconds")})
        fields = json.loads(path.read_text())
        yield Run(folder, fields["started_at"], fields.get("result"), note)


def _put_aside(folder: Path) -> Path:
    """Move an unfinished run beside its folder, in place of one that was put there before."""
    aside = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for path in folder.iterdir():
        if path.name != ".lock":
            path.rename(aside / path.name)
    return aside


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != ".lock":
            path.unlink()


def _write(folder: Path, fields: dict[str, Any]) -> None:
    replace_text(folder / "job.json", json.dumps(fields, indent=2))
