"""Jobs in a database, each test on SQLite and on a PostgreSQL; who owns one is played by real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gatewise import jobs as module
from gatewise.errors import ModelConflict, ModelNotFound
from gatewise.jobs import Job, JobStore
from gatewise.owner import Owner

REQUEST: dict[str, Any] = {"base": None, "settings": {"epochs": 2}}
FOLDER = Path("/runs/m/retrain-1")


@pytest.fixture
def store(url: str) -> Iterator[JobStore]:
    opened = JobStore(url)
    yield opened
    opened.close()


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """Another process of this machine, which ends when it is asked to."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    yield process
    process.kill()
    process.wait()


def owner_of(process: subprocess.Popen[bytes]) -> Owner:
    started = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
    return Owner(Owner.this_process().machine, process.pid, started)


def begin(store: JobStore, owner: Owner | None = None, **request: Any) -> Job:
    """Begin a job as another process would."""
    with pytest.MonkeyPatch.context() as patch:
        if owner is not None:
            patch.setattr(Owner, "this_process", lambda: owner)
        return store.begin("retrain", "m", REQUEST | request, FOLDER)


def test_a_job_tells_what_it_does_and_how_it_ended(store: JobStore) -> None:
    job = begin(store)
    assert (job.state, job.attempts, job.request, job.folder, job.owner.pid) == (
        *("running", 1, REQUEST, FOLDER),
        os.getpid(),
    )
    assert store.beat(job, "training", "lstm epoch 1/3")
    told = store.get(job.id)
    assert (told.step, told.detail) == ("training", "lstm epoch 1/3")
    assert told.beat_at >= job.beat_at
    store.end(job, "finished", result={"result": "promoted"})
    ended = store.get(job.id)
    assert (ended.state, ended.result, ended.error) == ("finished", {"result": "promoted"}, None)
    assert ended.ended_at is not None
    assert [one.id for one in store.list("m")] == [job.id]
    assert store.list("another") == []
    with pytest.raises(ModelNotFound, match="there is no job 99"):
        store.get(99)


def test_two_at_once_for_one_model_refuse_politely_and_for_two_models_do_not(
    store: JobStore, sleeper: subprocess.Popen[bytes]
) -> None:
    first = begin(store, owner_of(sleeper))
    with pytest.raises(ModelConflict, match=rf"job {first.id} of 'm' runs already, in process {sleeper.pid} here"):
        begin(store)
    assert store.begin("retrain", "other", REQUEST, FOLDER).state == "running"


def test_a_job_whose_process_is_gone_is_interrupted_and_the_same_request_goes_on_with_it(
    store: JobStore, sleeper: subprocess.Popen[bytes]
) -> None:
    first = begin(store, owner_of(sleeper))
    sleeper.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    # Its parent has not taken note of its end: it does nothing any more all the same.
    assert store.get(first.id).state == "interrupted"
    again = begin(store)
    assert (again.id, again.attempts, again.state, again.folder) == (first.id, 2, "running", FOLDER)
    # The one that was thought dead may not tell anything of it any more.
    assert not store.beat(first, "training", "")
    store.end(first, "failed", error="x")
    assert store.get(first.id).state == "running"


def test_another_request_leaves_a_dead_job_and_begins_a_new_one(
    store: JobStore, sleeper: subprocess.Popen[bytes]
) -> None:
    first = begin(store, owner_of(sleeper))
    sleeper.kill()
    sleeper.wait()
    other = begin(store, settings={"epochs": 3})
    assert other.id > first.id
    assert store.get(first.id).state == "interrupted"


@pytest.mark.parametrize(
    ("state", "goes_on"), [("failed", True), ("interrupted", True), ("cancelled", False), ("finished", False)]
)
def test_only_a_job_that_failed_or_was_interrupted_is_gone_on_with(store: JobStore, state: Any, goes_on: bool) -> None:
    first = begin(store)
    store.end(first, state)
    assert (begin(store).id == first.id) == goes_on


def test_a_number_given_to_another_process_does_not_keep_a_job_alive(store: JobStore) -> None:
    here = Owner.this_process()
    job = begin(store, replace(here, started="1"))
    assert store.get(job.id).state == "interrupted"


def test_a_job_elsewhere_lives_as_long_as_its_heart_beats(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = Owner("another boot", 1, "1")
    job = begin(store, elsewhere)
    with pytest.raises(ModelConflict, match="in a process on another machine"):
        begin(store)
    monkeypatch.setattr(module, "STALE_SECONDS", -1.0)
    assert store.get(job.id).state == "interrupted"
    assert begin(store).attempts == 2


def test_two_running_jobs_of_a_model_cannot_be_stored(store: JobStore) -> None:
    begin(store)
    with pytest.raises(sa.exc.IntegrityError), store._database.writing() as connection:
        module._insert(connection, "retrain", "m", REQUEST, FOLDER, Owner("x", 1, "1"))


def test_cancelling_sends_a_signal_and_kills_what_does_not_heed_it(
    store: JobStore, sleeper: subprocess.Popen[bytes]
) -> None:
    job = begin(store, owner_of(sleeper))
    cancelled = store.cancel(job.id)
    assert (cancelled.state, cancelled.error) == ("cancelled", "cancelled by a user")
    assert sleeper.wait(30) == -signal.SIGTERM
    with pytest.raises(ModelConflict, match=f"job {job.id} is cancelled already"):
        store.cancel(job.id)
    deaf = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import signal, time; signal.signal(15, signal.SIG_IGN); print(flush=True); time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
    )
    assert deaf.stdout is not None
    deaf.stdout.readline()
    job = begin(store, owner_of(deaf))
    assert store.cancel(job.id, grace_seconds=0.1).state == "cancelled"
    assert deaf.wait(30) == -signal.SIGKILL
    deaf.stdout.close()


def test_a_job_elsewhere_learns_from_its_next_beat_that_it_is_cancelled(store: JobStore) -> None:
    job = begin(store, Owner("another boot", 1, "1"))
    assert store.beat(job, "training", "")
    assert store.cancel(job.id, grace_seconds=0).state == "running"
    assert not store.beat(job, "training", "")
