"""Jobs in the database: what is asked, which process does it, how far it is and what came of it.

At most one runs for a model. A job whose process died is told by that process being gone, on another machine by its
heartbeat standing still; it is gone on with by whoever asks the same again. Import this late, as `gatewise.database`.
"""

from __future__ import annotations

import builtins
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import orjson
import sqlalchemy as sa

from gatewise.database import Database, from_microseconds, to_microseconds
from gatewise.errors import ModelConflict, ModelNotFound
from gatewise.owner import Owner

State = Literal["running", "interrupted", "failed", "cancelled", "finished"]
# A job that has not been finished or cancelled is gone on with by the same request.
_OPEN = ("running", "interrupted", "failed")
# Without a beat for so long a process on another machine is taken for dead.
STALE_SECONDS = 60.0
# What a job gets to stop by itself before it is killed.
GRACE_SECONDS = 15.0

_tables = sa.MetaData()
_jobs = sa.Table(
    "jobs",
    _tables,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("kind", sa.String),
    sa.Column("model_name", sa.String),
    sa.Column("running_for", sa.String),
    sa.Column("state", sa.String),
    sa.Column("step", sa.String),
    sa.Column("detail", sa.Text),
    sa.Column("attempts", sa.Integer),
    sa.Column("request", sa.Text),
    sa.Column("folder", sa.Text),
    sa.Column("machine", sa.String),
    sa.Column("pid", sa.BigInteger),
    sa.Column("process_started", sa.String),
    sa.Column("created_us", sa.BigInteger),
    sa.Column("beat_us", sa.BigInteger),
    sa.Column("ended_us", sa.BigInteger),
    sa.Column("cancel_asked", sa.Boolean),
    sa.Column("result", sa.Text),
    sa.Column("error", sa.Text),
)


@dataclass(frozen=True)
class Job:
    """A job as the database knows it.

    Attributes:
        state: a job whose process is gone is `interrupted`, though its row says that it runs.
        step, detail: what it was at when its process last told, and the last line that it said.
        attempts: how many processes have worked at it.
        request: what was asked; the same request goes on with it.
        folder: where its log, its configuration and its training are.
        beat_at: when its process last told.
        result, error: what came of it, once it has ended.
    """

    id: int
    kind: str
    model_name: str
    state: State
    step: str
    detail: str
    attempts: int
    request: dict[str, Any]
    folder: Path
    owner: Owner
    created_at: datetime
    beat_at: datetime
    ended_at: datetime | None
    cancel_asked: bool
    result: dict[str, Any] | None
    error: str | None


class JobStore:
    """The jobs in a database. Threads and processes may share it.

    Args:
        url: of the database, as of the feedback's.
    Raises:
        InvalidConfig, DatabaseTooNew, DatabaseUnavailable: as `Database`.
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    def close(self) -> None:
        """Let the database go."""
        self._database.close()

    def begin(self, kind: str, model_name: str, request: Mapping[str, Any], folder: Path) -> Job:
        """Take a model's job for this process: the one that was left off with this request, or else a new one.

        Args:
            folder: of a new job.
        Raises:
            ModelConflict: another process does one for this model.
        """
        owner = Owner.this_process()
        try:
            with self._database.writing() as connection:
                asked = sa.select(_jobs).where(_jobs.c.model_name == model_name).order_by(_jobs.c.id.desc()).limit(1)
                row = connection.execute(asked).one_or_none()
                last = _job(row) if row else None
                if last and last.state == "running":
                    raise ModelConflict(_told(last))
                if row and row.state == "running":
                    _leave(connection, row)
                if last and last.state in _OPEN and (last.kind, last.request) == (kind, dict(request)):
                    number = last.id
                    _take(connection, number, owner, model_name)
                else:
                    number = _insert(connection, kind, model_name, request, folder, owner)
        except sa.exc.IntegrityError:
            raise ModelConflict(
                f"another process has just begun a job for {model_name!r}; see: gatewise jobs"
            ) from None
        return self.get(number)

    def beat(self, job: Job, step: str, detail: str) -> bool:
        """Say that the job goes on; whether it still should.

        Raises:
            DatabaseUnavailable: it cannot be said now.
        """
        values = {"beat_us": _now_us(), "step": step, "detail": detail}
        with self._database.writing() as connection:
            told = connection.execute(sa.update(_jobs).where(*_is_ours(job)).values(values))
            if not told.rowcount:
                return False
            asked = sa.select(_jobs.c.cancel_asked).where(_jobs.c.id == job.id)
            return not connection.execute(asked).scalar_one()

    def end(self, job: Job, state: State, *, result: Mapping[str, Any] | None = None, error: str | None = None) -> None:
        """Record how the job ended; nothing where another process has taken it over since.

        Raises:
            DatabaseUnavailable: it cannot be stored now.
        """
        values = {"state": state, "running_for": None, "ended_us": _now_us(), "beat_us": _now_us(), "error": error}
        if result is not None:
            values["result"] = orjson.dumps(result).decode()
        with self._database.writing() as connection:
            connection.execute(sa.update(_jobs).where(*_is_ours(job)).values(values))

    def list(self, model_name: str | None = None) -> builtins.list[Job]:
        """The jobs of a model, or all, newest first."""
        asked = sa.select(_jobs).order_by(_jobs.c.id.desc())
        if model_name is not None:
            asked = asked.where(_jobs.c.model_name == model_name)
        with self._database.reading() as connection:
            return [_job(row) for row in connection.execute(asked)]

    def get(self, number: int) -> Job:
        """One job.

        Raises:
            ModelNotFound: there is none of this number.
        """
        with self._database.reading() as connection:
            row = connection.execute(sa.select(_jobs).where(_jobs.c.id == number)).one_or_none()
        if row is None:
            raise ModelNotFound(f"there is no job {number}; see: gatewise jobs list")
        return _job(row)

    def cancel(self, number: int, grace_seconds: float = GRACE_SECONDS) -> Job:
        """Stop a job and return it as it is then; one on another machine stops at its next beat.

        Raises:
            ModelNotFound: there is none of this number.
            ModelConflict: it has ended already.
        """
        job = self.get(number)
        if job.state not in _OPEN:
            raise ModelConflict(f"job {number} is {job.state} already")
        with self._database.writing() as connection:
            connection.execute(sa.update(_jobs).where(_jobs.c.id == number).values(cancel_asked=True))
        if job.state == "running":
            self._stop(job, grace_seconds)
        job = self.get(number)
        if job.state in ("interrupted", "failed"):
            # Nobody is left to say so.
            self.end(job, "cancelled", error="cancelled by a user")
        return self.get(number)

    def _stop(self, job: Job, grace_seconds: float) -> None:
        if job.owner.is_here():
            job.owner.send(signal.SIGTERM)
        until = time.monotonic() + grace_seconds
        while self.get(job.id).state == "running" and time.monotonic() < until:
            time.sleep(0.05)
        if job.owner.is_here() and self.get(job.id).state == "running":
            job.owner.send(signal.SIGKILL)
            while job.owner.is_alive():
                time.sleep(0.01)


def _is_ours(job: Job) -> tuple[Any, ...]:
    owner = job.owner
    return (
        _jobs.c.id == job.id,
        _jobs.c.machine == owner.machine,
        _jobs.c.pid == owner.pid,
        _jobs.c.process_started == owner.started,
    )


def _leave(connection: sa.Connection, row: Any) -> None:
    """A job whose process is gone runs no more; a newer owner of it is left alone."""
    unchanged = (_jobs.c.id == row.id, _jobs.c.pid == row.pid, _jobs.c.beat_us == row.beat_us)
    connection.execute(sa.update(_jobs).where(*unchanged).values(state="interrupted", running_for=None))


def _take(connection: sa.Connection, number: int, owner: Owner, model_name: str) -> None:
    values = {**_owned(owner, model_name), "attempts": _jobs.c.attempts + 1, "ended_us": None, "error": None}
    free = (_jobs.c.id == number, _jobs.c.state != "running")
    if not connection.execute(sa.update(_jobs).where(*free).values(values)).rowcount:
        raise ModelConflict(f"another process has just gone on with job {number}; see: gatewise jobs show {number}")


def _insert(
    connection: sa.Connection, kind: str, model_name: str, request: Mapping[str, Any], folder: Path, owner: Owner
) -> int:
    values = {
        **_owned(owner, model_name),
        "kind": kind,
        "model_name": model_name,
        "step": "starting",
        "detail": "",
        "attempts": 1,
        "request": orjson.dumps(request).decode(),
        "folder": str(folder),
        "created_us": _now_us(),
    }
    number: int = connection.execute(sa.insert(_jobs).values(values).returning(_jobs.c.id)).scalar_one()
    return number


def _owned(owner: Owner, model_name: str) -> dict[str, Any]:
    return {
        "state": "running",
        "running_for": model_name,
        "machine": owner.machine,
        "pid": owner.pid,
        "process_started": owner.started,
        "beat_us": _now_us(),
        "cancel_asked": False,
    }


def _job(row: Any) -> Job:
    owner = Owner(row.machine, row.pid, row.process_started)
    beat_at = from_microseconds(row.beat_us)
    return Job(
        id=row.id,
        kind=row.kind,
        model_name=row.model_name,
        state="interrupted" if row.state == "running" and not _lives(owner, beat_at) else row.state,
        step=row.step,
        detail=row.detail,
        attempts=row.attempts,
        request=orjson.loads(row.request),
        folder=Path(row.folder),
        owner=owner,
        created_at=from_microseconds(row.created_us),
        beat_at=beat_at,
        ended_at=None if row.ended_us is None else from_microseconds(row.ended_us),
        cancel_asked=bool(row.cancel_asked),
        result=None if row.result is None else orjson.loads(row.result),
        error=row.error,
    )


def _lives(owner: Owner, beat_at: datetime) -> bool:
    if owner.is_here():
        return owner.is_alive()
    return datetime.now(UTC) - beat_at < timedelta(seconds=STALE_SECONDS)


def _told(job: Job) -> str:
    where = f"process {job.owner.pid} here" if job.owner.is_here() else "a process on another machine"
    return (
        f"job {job.id} of {job.model_name!r} runs already, in {where} since {job.created_at:%Y-%m-%d %H:%M} UTC, and "
        f"is {job.step}; wait for it (gatewise jobs show {job.id}) or stop it (gatewise jobs cancel {job.id})"
    )


def _now_us() -> int:
    return to_microseconds(datetime.now(UTC))
