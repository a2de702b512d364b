"""A job under watch: its row in the database goes on telling how far it is, and it stops when that says so."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from gatewise.errors import DatabaseUnavailable, GatewiseError
from gatewise.jobs import Job, JobStore, State
from training.callbacks import Say

logger = logging.getLogger(__name__)

_BEAT_SECONDS = 2.0
_TRIES, _PAUSE_SECONDS = 5, 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """Somebody stops the job. No error: nothing on the way may take it for one and go on."""


class Watch:
    """Tells the database and the log of a job what it does."""

    def __init__(self, jobs: JobStore, job: Job, say: Say) -> None:
        self.job = job
        self.step, self.detail = "starting", ""
        self._jobs, self._say = jobs, say
        self._changed, self._ends = threading.Event(), False
        self._log = (job.folder / "job.log").open("a", encoding="utf-8", buffering=1)

    def begin(self, step: str) -> None:
        """Say which step the job is at, in a word that stands after "is"."""
        self.step = step
        self._changed.set()

    def say(self, line: str) -> None:
        """Show a line, log it with its time, and keep it as the last one."""
        self._say(line)
        self.detail = line.strip()
        try:
            self._log.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n")
        except OSError as error:
            # A full disk is not to hide what the line says of it.
            logger.warning("job %d: its log cannot be written: %s", self.job.id, error)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Beat, and on a signal or a cancelled row raise Stopped where the work is; record how it ended."""
        beats = threading.Thread(target=self._beat, daemon=True)
        beats.start()
        try:
            with _stopping():
                try:
                    yield
                finally:
                    self._ends = True
        except Stopped:
            is_cancelled = self._jobs.get(self.job.id).cancel_asked
            self._end("cancelled" if is_cancelled else "interrupted", error="stopped by a user")
            raise
        except BaseException as error:
            told = error.message if isinstance(error, GatewiseError) else f"{type(error).__name__}: {error}"
            self.say(f"failed: {told}")
            self._end("failed", error=told)
            raise
        finally:
            self._changed.set()
            beats.join()
            with suppress(OSError):
                self._log.close()

    def finish(self, result: dict[str, Any]) -> None:
        """Record that the job is done, and what came of it."""
        self._end("finished", result=result)

    def _end(self, state: State, **fields: Any) -> None:
        for last in range(_TRIES)[::-1]:
            try:
                self._jobs.end(self.job, state, **fields)
                return
            except DatabaseUnavailable as error:
                if state == "finished" and not last:
                    raise
                logger.warning("job %d: its end cannot be recorded: %s", self.job.id, error.message)
                time.sleep(_PAUSE_SECONDS)

    def _beat(self) -> None:
        while not self._ends:
            try:
                if not self._jobs.beat(self.job, self.step, self.detail) and not self._ends:
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
                    return
            except DatabaseUnavailable as error:
                # The job goes on: what it makes is on the disk, and the next beat may be heard.
                logger.warning("job %d: %s", self.job.id, error.message)
            self._changed.wait(_BEAT_SECONDS)
            self._changed.clear()


@contextmanager
def _stopping() -> Iterator[None]:
    """Raise Stopped where a signal finds the main thread; a second one changes nothing."""

    def stop(number: int, frame: object) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Stopped

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
