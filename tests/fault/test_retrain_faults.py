"""A retraining killed by SIGKILL wherever it stands, or met by a full disk, ends as one that nothing disturbed.

Each job is a process of its own, forked from a server that has the packages imported. The moments that are a function
away are met by the job killing itself there; by the clock it is killed from outside.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file

import gatewise.production
import gatewise.store
from gatewise import artifact
from gatewise.cli import main
from gatewise.feedback import FeedbackStore
from gatewise.jobs import Job, JobStore
from gatewise.predictor import Predictor
from tests.live import wait_for
from tests.retraining import Place, fix_latencies, make_place, texts
from training import finishing, origin, packaging, retrain, runs, snapshot, watch
from training.fitting import Devices
from training.module import ClassifierModule
from training.retrain import RetrainOptions

pytestmark = pytest.mark.slow

FEEDBACK = texts(30, 1, "fruit", "road", "sea")
EPOCH = 10  # steps, of 159 rows to train on
# Where a job kills itself: a function that it calls, and how often before.
PLACES: dict[str, tuple[Any, str, int]] = {
    "reading: before the feedback": (FeedbackStore, "collect", 0),
    "reading: after the feedback": (snapshot, "_read", 0),
    "reading: the base data": (origin.Source, "read", 0),
    "training: in an epoch": (ClassifierModule, "training_step", EPOCH + 3),
    "training: between epochs": (ClassifierModule, "training_step", 2 * EPOCH),
    "training: in the second cell": (ClassifierModule, "training_step", 2 * EPOCH + 4),
    "training: in the refit": (ClassifierModule, "training_step", 6 * EPOCH + 5),
    "saving: before packing": (packaging, "build", 0),
    "saving: in a candidate's files": (artifact, "_write_durably", 2),
    "saving: in the last artifact's files": (artifact, "restate", 0),
    "registering: before the store": (finishing, "_register", 0),
    "registering: in the store": (gatewise.store, "_verify", 0),
    "registering: before the note of its files": (origin.Origin, "note", 0),
    "registering: before the run's record": (runs.Run, "finish", 0),
    "judging: before the gate": (retrain, "judge", 0),
    "promoting: before the record": (gatewise.store.Store, "note", 0),
    "promoting: before the pointer": (gatewise.production.ProductionPointer, "write", 0),
    "promoting: while the pointer is written": (os, "fsync", 0),
    "promoting: after the pointer": (watch.Watch, "finish", 0),
}
# The last line that a job said before it was killed in training.
SAID = {
    "training: in an epoch": "  lstm epoch 1/3",
    "training: between epochs": "  lstm epoch 2/3",
    "training: in the second cell": "Training GRU (2 of 2)",
    "training: in the refit": "once more, on all",
}

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["gatewise.cli", "tests.retraining", "training.retrain"])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = make_place(tmp_path_factory.mktemp("champion") / "place")
    place.feed(FEEDBACK)
    return place


@pytest.fixture(scope="module")
def undisturbed(made: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Where a retraining ran that nothing disturbed."""
    place = made.copy(tmp_path_factory.mktemp("undisturbed") / "place")
    assert in_a_process(place) == 0
    return place


@pytest.fixture
def place(made: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    copied = made.copy(tmp_path / "place")
    for name, value in copied.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    return copied


def start(place: Place, moment: str | None = None, **more: Any) -> Any:
    process = processes.Process(target=run_job, args=(place, moment, more))
    process.start()
    return process


def ended(process: Any) -> int:
    process.join(120)
    code = process.exitcode
    process.close()
    assert code is not None
    return int(code)


def in_a_process(place: Place, moment: str | None = None, **more: Any) -> int:
    """Run the job in a process and return how that ended."""
    return ended(start(place, moment, **more))


def run_job(place: Place, moment: str | None, more: dict[str, Any]) -> None:
    """The process: what it says stands in said.txt.

    Args:
        more: `slow` makes each step take a while; `full` is a moment, and the disk that has no room from there on.
    """
    os.environ["BENTOML_HOME"] = str(place.home)
    fix_latencies(pytest.MonkeyPatch())
    if moment:
        die_at(moment)
    if more.get("slow"):
        patch(ClassifierModule, "training_step", lambda number: time.sleep(0.05))
    if "full" in more:
        moment, disk = more["full"]
        owner, name, _ = PLACES[moment]
        patch(owner, name, lambda number: fill(disk))
    options = RetrainOptions(
        "words",
        place.database,
        promote="auto",
        run_dir=place.folder / "jobs",
        devices=Devices(accelerator="cpu"),
        settings=more.get("settings", {}),
    )
    with (place.folder / "said.txt").open("a", buffering=1) as file, contextlib.suppress(watch.Stopped):
        retrain.retrain(options, say=lambda line: print(line, file=file))


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))


def patch(owner: Any, name: str, before: Callable[[int], None]) -> None:
    """Call `before` with how often the function was called already, each time before it is."""
    function, calls = getattr(owner, name), iter(range(10**9))

    def patched(*args: Any, **kwargs: Any) -> Any:
        before(next(calls))
        return function(*args, **kwargs)

    setattr(owner, name, patched)


def die_at(moment: str) -> None:
    owner, name, calls = PLACES[moment]

    def die(number: int) -> None:
        if number == calls:
            os.kill(os.getpid(), signal.SIGKILL)

    if owner is os:
        # The disk is written to all the time; here only the pointer's own write is meant.
        patch(gatewise.production.ProductionPointer, "write", lambda number: patch(owner, name, die))
    else:
        patch(owner, name, die)


def jobs(place: Place) -> list[Job]:
    store = JobStore(place.database)
    try:
        return store.list()
    finally:
        store.close()


def same_model(one: Path, other: Path) -> bool:
    weights, others = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    return weights.keys() == others.keys() and all(np.array_equal(weights[name], others[name]) for name in weights)


def gate_of(place: Place) -> dict[str, Any]:
    """What the gate said of production, but for when, and the versions' own names."""
    version = place.production()
    record = place.store.noted("words", version.version, "gate")
    assert record is not None
    return {name: value for name, value in record.items() if name not in ("decided_at", "challenger", "job")}


def assert_nothing_is_lost(place: Place, made: Place) -> None:
    """What a kill at any moment leaves: whole versions, a pointer at one of them, all feedback, one job at rest."""
    champion = made.production().version
    versions = place.store.list("words")
    assert champion in {version.version for version in versions}
    assert len(versions) <= 2
    for version in versions:
        artifact.verify(version.path)
    assert place.production().version in {version.version for version in versions}
    store = FeedbackStore(place.database)
    assert len(store.collect("words").items) == len(FEEDBACK)
    store.close()
    assert {job.state for job in jobs(place)} <= {"interrupted"}


def assert_ended_alike(place: Place, undisturbed: Place, kills: int) -> None:
    newest, _ = place.store.list("words")
    assert place.production().version == newest.version
    assert same_model(newest.path, undisturbed.production().path)
    assert gate_of(place) == gate_of(undisturbed)
    assert len(place.store.history("words")) == 2
    [job] = jobs(place)
    assert (job.state, job.attempts) == ("finished", kills + 1)
    assert job.result is not None
    assert job.result["result"] == "promoted"
    Predictor.load(newest.path)


@pytest.mark.parametrize(
    "moments",
    [
        [
            "reading: before the feedback",
            "training: in an epoch",
            "saving: before packing",
            "registering: before the store",
            "promoting: before the pointer",
        ],
        [
            "reading: after the feedback",
            "training: between epochs",
            "saving: in a candidate's files",
            "registering: in the store",
            "promoting: while the pointer is written",
        ],
        [
            "reading: the base data",
            "training: in the refit",
            "saving: in the last artifact's files",
            "registering: before the note of its files",
            "judging: before the gate",
            "promoting: before the record",
        ],
        [
            "training: in an epoch",
            "training: in the second cell",
            "registering: before the run's record",
            "promoting: after the pointer",
        ],
    ],
    ids=["first", "second", "third", "fourth"],
)
def test_a_retraining_killed_again_and_again_ends_as_one_that_nothing_disturbed(
    place: Place, made: Place, undisturbed: Place, moments: list[str]
) -> None:
    for number, moment in enumerate(moments):
        assert in_a_process(place, moment) == -signal.SIGKILL, moment
        assert_nothing_is_lost(place, made)
        assert SAID.get(moment, "") in (place.folder / "said.txt").read_text().splitlines()[-1]
        assert len(jobs(place)) == 1
        assert jobs(place)[0].attempts == number + 1
    assert in_a_process(place) == 0
    assert_ended_alike(place, undisturbed, len(moments))


def test_a_retraining_killed_by_the_clock_ends_as_one_that_nothing_disturbed(
    place: Place, made: Place, undisturbed: Place
) -> None:
    chance = random.Random(0)
    for attempt in range(1, 5):
        process = start(place, slow=True)
        wait_for(partial(has_begun, place, attempt), "the job to begin")
        time.sleep(chance.uniform(0, 1))
        process.kill()
        assert ended(process) == -signal.SIGKILL
        assert_nothing_is_lost(place, made)
    assert in_a_process(place) == 0
    assert_ended_alike(place, undisturbed, 4)


def has_begun(place: Place, attempt: int) -> bool:
    return [job.attempts for job in jobs(place)] == [attempt]


def test_feedback_that_comes_after_a_kill_waits_for_the_next_retraining(place: Place, undisturbed: Place) -> None:
    assert in_a_process(place, "training: in an epoch") == -signal.SIGKILL
    place.feed(texts(20, 7, "sea"))
    assert in_a_process(place) == 0
    assert same_model(place.production().path, undisturbed.production().path)
    assert in_a_process(place) == 0
    assert [job.attempts for job in jobs(place)] == [1, 2]
    assert not same_model(place.store.get("words").path, undisturbed.production().path)


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk of 4 MB in place of a folder, with what stands there."""
    kept = folder.with_name("kept")
    shutil.copytree(folder, kept)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield
        shutil.rmtree(kept)
        shutil.copytree(folder, kept)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
    shutil.copytree(kept, folder, dirs_exist_ok=True)


@pytest.mark.parametrize(
    ("moment", "folder", "told"),
    [
        ("saving: in a candidate's files", "jobs", "No space left on device"),
        ("saving: in the last artifact's files", "jobs", "No space left on device"),
        ("registering: before the store", "home", "cannot add 'words': the disk is full"),
    ],
)
def test_a_full_disk_is_said_and_with_room_again_the_same_command_goes_on(
    place: Place, made: Place, undisturbed: Place, moment: str, folder: str, told: str
) -> None:
    disk = place.folder / folder
    disk.mkdir(exist_ok=True)
    with small_disk(disk):
        assert in_a_process(place, full=(moment, disk)) == 1
        [job] = jobs(place)
        assert job.state == "failed"
        assert told in str(job.error)
        assert [version.version for version in place.store.list("words")] == [made.production().version]
        (disk / "filler").unlink()
        assert in_a_process(place) == 0
    assert_ended_alike(place, undisturbed, 1)


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_a_job_is_cancelled_from_another_process_and_two_at_once_refuse(place: Place, made: Place) -> None:
    process = start(place, slow=True)
    wait_for(lambda: any(job.step == "training" for job in jobs(place)), "the training to begin")
    [job] = jobs(place)
    second = cli("retrain", "words")
    assert second.exit_code == 4
    assert f"job {job.id} of 'words' runs already, in process {process.pid} here" in second.stderr
    assert f"gatewise jobs cancel {job.id}" in second.stderr
    listed = json.loads(cli("jobs", "list", "words", "--json").stdout)
    assert [(one["id"], one["state"]) for one in listed] == [(job.id, "running")]
    cancelled = cli("jobs", "cancel", job.id)
    assert cancelled.output == f"job {job.id} is cancelled\n"
    assert ended(process) == 0
    assert place.production().version == made.production().version
    assert len(place.store.list("words")) == 1
    # What was cancelled is not gone on with.
    assert in_a_process(place) == 0
    assert [(one.state, one.attempts) for one in jobs(place)] == [("finished", 1), ("cancelled", 1)]


def test_a_job_that_a_signal_stops_goes_on_with_the_same_command(place: Place, made: Place, undisturbed: Place) -> None:
    process = start(place, slow=True)
    wait_for(lambda: any(job.step == "training" for job in jobs(place)), "the training to begin")
    os.kill(process.pid, signal.SIGTERM)
    assert ended(process) == 0
    assert_nothing_is_lost(place, made)
    assert in_a_process(place) == 0
    assert_ended_alike(place, undisturbed, 1)
