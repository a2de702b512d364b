"""Training jobs killed by SIGKILL and resumed: they end with the very weights of a job that nothing stopped.

Each job is a process of its own, forked from a server that has the packages imported. The moments that are a function
or a line away are met by the job killing itself there; one test kills the command from outside.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

import gatewise.store
from gatewise.artifact import MODEL_CARD, REPORT, REPORT_JSON, Manifest
from gatewise.cli import main
from gatewise.predictor import Predictor
from gatewise.store import Store
from training import finishing, fitting, job, measuring, packaging, pretraining, runs
from training.latency import Latency
from training.module import ClassifierModule
from training.plan import JobOptions, JobResult
from training.pretraining import PretrainingModule

SOURCE = Path(__file__).parents[2]
SETTINGS = {
    "hidden_size": 4,
    "embedding_dim": 4,
    "dense_sizes": (4,),
    "epochs": 3,
    "batch_size": 16,
    "word_dropout": 0.2,
    "averaging": 0.9,
}
STEPS = 6  # of an epoch: 96 rows to train on
REFIT_STEPS = 7  # 108 rows: those of validation too
LATENCIES = {"lstm": 1.0, "gru": 2.0}

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["gatewise.cli", "gatewise.store", "training.job", "training.fitting"])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    words = {"fruit": ["red", "apple", "sweet", "juice", "ripe"], "road": ["fast", "car", "wheel", "engine", "red"]}
    rows = [(label, " ".join(rng.choice(words[label], size=rng.integers(4, 9)))) for label in ["fruit", "road"] * 60]
    path = tmp_path_factory.mktemp("data") / "words.csv"
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for label, text in rows))
    return path


@pytest.fixture(scope="module")
def prior(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Files of word vectors and of unlabelled texts, and what to do with them."""
    folder = tmp_path_factory.mktemp("prior")
    rng = np.random.default_rng(1)
    words = ["red", "apple", "juice", "car", "wheel", "plum"]
    (folder / "v.txt").write_text("".join(f"{word} {' '.join(map(str, rng.normal(size=6)))}\n" for word in words))
    (folder / "u.txt").write_text("".join(" ".join(rng.choice(words, size=5)) + "\n" for _ in range(40)))
    files = {"embeddings": str(folder / "v.txt"), "unlabelled": str(folder / "u.txt")}
    return {**files, "pretrain_epochs": 3, "pretrain_batch_size": 16, "unfreeze_epochs": 1}


@pytest.fixture(scope="module")
def whole_with_prior(data: Path, prior: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a job ran that nothing stopped, with word vectors and pretraining."""
    folder = tmp_path_factory.mktemp("whole_with_prior")
    assert in_a_process(folder, data, **prior) == 0
    return folder


SEARCH = {"search": 5, "seeds": 2, "cells": ("gru",)}


@pytest.fixture(scope="module")
def whole_with_search(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a job ran that nothing stopped, with a search and two seeds."""
    folder = tmp_path_factory.mktemp("whole_with_search")
    assert in_a_process(folder, data, **SEARCH) == 0
    return folder


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a job ran that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert in_a_process(folder, data) == 0
    return folder


def in_a_process(
    folder: Path,
    data: Path,
    *,
    moment: str | None = None,
    resume: bool = False,
    latencies: Any = LATENCIES,
    **more: Any,
) -> int:
    """Run the job in a process and return how that ended."""
    process = processes.Process(target=run_job, args=(folder, data, moment, resume, latencies, more))
    process.start()
    process.join(60)
    code = process.exitcode
    process.close()
    assert code is not None
    return code


def run_job(
    folder: Path, data: Path, moment: str | None, resume: bool, latencies: dict[str, float], settings: dict[str, Any]
) -> None:
    """The process: what it says stands in said.txt, what it made in result.json; its store and runs are its own."""
    os.environ["BENTOML_HOME"] = str(folder / "home")
    # The choice may hang on a measured time, which no two runs share.
    measuring.measure_latency = lambda predictor, weights, items: takes(latencies[predictor.manifest.model.cell])
    with (folder / "said.txt").open("a", buffering=1) as file:
        say = killing(moment, lambda line: print(line, file=file))
        files = {name: settings.pop(name) for name in ("embeddings", "unlabelled") if name in settings}
        options = JobOptions(
            data=str(data),
            **files,
            name="words",
            settings={**SETTINGS, **settings},
            devices=fitting.Devices(accelerator="cpu", devices="1"),
            run_dir=folder / "runs",
            resume=resume,
        )
        result: JobResult = job.run(options, say=say)
    (folder / "result.json").write_text(json.dumps([result.version, str(result.artifact), result.choice.cell]))


def takes(milliseconds: float) -> Latency:
    return Latency("onnx", "cpu", milliseconds, milliseconds, milliseconds, 1, 1.0, None)


def kill(*args: Any, **kwargs: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def killing(moment: str | None, say: Callable[[str], None]) -> Callable[[str], None]:
    """Arrange for the process to be killed at a moment."""
    steps = {
        "in an epoch": STEPS + 3,
        "between epochs": 2 * STEPS,
        "in the second cell": 5 * STEPS - 2,
        "in the refit": 6 * STEPS + REFIT_STEPS + 2,
        "in the third trial": 7 * STEPS + 3,
    }
    lines = {
        "before a checkpoint": "lstm epoch 2/3",
        "before the second cell": "Training GRU",
        "between trials": "trial 2/5",
        "before the second seed": "Training GRU with seed 1",
        "before the refit": "once more, on all 108 rows",
    }
    places: dict[str, tuple[Any, str]] = {
        "before the record": (fitting, "_write_finished"),
        "before the pretraining's record": (pretraining, "_write_finished"),
        "before packing": (packaging, "build"),
        "before registering": (finishing, "_register"),
        "in the store": (gatewise.store, "_verify"),
        "after registering": (runs.Run, "finish"),
    }
    if moment in places:
        setattr(*places[moment], kill)
    if moment == "in pretraining":
        PretrainingModule.training_step = counting(PretrainingModule.training_step, 15)  # type: ignore[method-assign]
    if moment == "before packing the refit":
        packaging.build = counting(packaging.build, 2)
    if moment in steps:
        ClassifierModule.training_step = counting(ClassifierModule.training_step, steps[moment])  # type: ignore[method-assign]

    def say_or_die(line: str) -> None:
        say(line)
        if moment in lines and lines[moment] in line:
            kill()

    return say_or_die


def counting(step: Callable[..., Any], last: int) -> Callable[..., Any]:
    taken = iter(range(last))

    def count(*args: Any) -> Any:
        return step(*args) if next(taken, None) is not None else kill()

    return count


def versions(folder: Path) -> list[Path]:
    return [version.path for version in Store(folder / "home").list("words")]


def manifest_without_times(folder: Path) -> dict[str, Any]:
    fields = Manifest.model_validate_json((folder / "manifest.json").read_text()).model_dump(mode="json")
    del fields["created_at"], fields["digest"]
    for figures in [*fields["training"]["candidates"].values(), *fields["training"]["comparison"]["candidates"]]:
        del figures["training_seconds"]
    for epoch in fields["training"]["epochs"] + fields["training"]["pretraining"]:
        del epoch["seconds"]
    # The report says when the job began and how long it took, so its bytes differ; what it measured does not.
    for name in (REPORT, REPORT_JSON, MODEL_CARD):
        del fields["files"][name]
    report = json.loads((folder / REPORT_JSON).read_text())
    return fields | {"report": {part: report[part] for part in ("metrics", "certainty", "errors", "data", "recipe")}}


def same_model(one: Path, other: Path) -> bool:
    weights, others = load_file(one / "weights.safetensors"), load_file(other / "weights.safetensors")
    return weights.keys() == others.keys() and all(np.array_equal(weights[name], others[name]) for name in weights)


@pytest.mark.parametrize(
    "moments",
    [
        ["in an epoch"],
        ["between epochs"],
        ["before a checkpoint"],
        ["before the second cell"],
        ["in the second cell"],
        ["before the record"],
        ["before packing"],
        ["before the refit"],
        ["in the refit"],
        ["before packing the refit"],
        ["before registering"],
        ["in the store"],
        ["after registering"],
        ["in an epoch", "before the second cell", "before packing", "before the refit", "after registering"],
    ],
    ids=", then ".join,
)
def test_a_killed_job_goes_on_to_the_very_model_of_one_that_nothing_stopped(
    tmp_path: Path, data: Path, whole: Path, moments: list[str]
) -> None:
    for number, moment in enumerate(moments):
        assert in_a_process(tmp_path, data, moment=moment, resume=number > 0) == -signal.SIGKILL
        assert len(versions(tmp_path)) == (moment == "after registering")
    assert in_a_process(tmp_path, data, resume=True) == 0
    [resumed], [expected] = versions(tmp_path), versions(whole)
    assert same_model(resumed, expected)
    assert manifest_without_times(resumed) == manifest_without_times(expected)
    Predictor.load(resumed)


@pytest.mark.parametrize(
    "moments",
    [
        ["in pretraining"],
        ["before the pretraining's record"],
        ["in an epoch"],
        ["in pretraining", "in the second cell"],
    ],
    ids=", then ".join,
)
def test_a_job_killed_with_pretraining_goes_on_to_the_very_model_of_one_that_nothing_stopped(
    tmp_path: Path, data: Path, prior: dict[str, Any], whole_with_prior: Path, moments: list[str]
) -> None:
    for number, moment in enumerate(moments):
        assert in_a_process(tmp_path, data, moment=moment, resume=number > 0, **prior) == -signal.SIGKILL
    assert in_a_process(tmp_path, data, resume=True, **prior) == 0
    [resumed], [expected] = versions(tmp_path), versions(whole_with_prior)
    assert same_model(resumed, expected)
    assert manifest_without_times(resumed) == manifest_without_times(expected)
    Predictor.load(resumed)


@pytest.mark.parametrize(
    "moments",
    [
        ["in the third trial"],
        ["between trials"],
        ["before the second seed"],
        ["between trials", "before the second seed"],
    ],
    ids=", then ".join,
)
def test_a_job_killed_with_a_search_ends_the_same_trials_and_goes_on_to_the_very_model(
    tmp_path: Path, data: Path, whole_with_search: Path, moments: list[str]
) -> None:
    for number, moment in enumerate(moments):
        assert in_a_process(tmp_path, data, moment=moment, resume=number > 0, **SEARCH) == -signal.SIGKILL
    assert in_a_process(tmp_path, data, resume=True, **SEARCH) == 0
    [resumed], [expected] = versions(tmp_path), versions(whole_with_search)
    assert same_model(resumed, expected)
    manifest = manifest_without_times(resumed)
    assert manifest == manifest_without_times(expected)
    assert manifest["training"]["comparison"]["search"]["trials"] == 5


def test_a_job_with_other_vectors_or_other_unlabelled_texts_is_another_job(
    tmp_path: Path, data: Path, prior: dict[str, Any]
) -> None:
    assert in_a_process(tmp_path, data, epochs=1, **prior) == 0
    for name in ("embeddings", "unlabelled"):
        content = Path(prior[name]).read_text()
        other = tmp_path / Path(prior[name]).name
        other.write_text(content)
        assert in_a_process(tmp_path, data, resume=True, epochs=1, **{**prior, name: str(other)}) == 0
        assert "has finished before" in (tmp_path / "said.txt").read_text().splitlines()[-1]
        other.write_text(content.replace("5", "6").replace("plum", "pear"))
        assert in_a_process(tmp_path, data, resume=True, epochs=1, **{**prior, name: str(other)}) == 0
        assert "Nothing to resume" in (tmp_path / "said.txt").read_text()
    assert len(list((tmp_path / "runs" / "words").iterdir())) == 3


def test_a_resumed_job_decides_by_the_times_that_it_had_measured(tmp_path: Path, data: Path, whole: Path) -> None:
    assert in_a_process(tmp_path, data, moment="before registering") == -signal.SIGKILL
    # Measured again, the other cell would be the faster one.
    assert in_a_process(tmp_path, data, resume=True, latencies={"lstm": 9.0, "gru": 2.0}) == 0
    assert json.loads((tmp_path / "result.json").read_text())[2] == json.loads((whole / "result.json").read_text())[2]
    assert manifest_without_times(versions(tmp_path)[0]) == manifest_without_times(versions(whole)[0])


def test_a_job_that_had_finished_says_so_and_registers_nothing(tmp_path: Path, data: Path) -> None:
    assert in_a_process(tmp_path, data, epochs=1) == 0
    first = json.loads((tmp_path / "result.json").read_text())
    assert in_a_process(tmp_path, data, resume=True, epochs=1) == 0
    assert (tmp_path / "said.txt").read_text().splitlines()[-1] == f"This job has finished before: words:{first[0]}"
    assert json.loads((tmp_path / "result.json").read_text()) == first
    assert len(versions(tmp_path)) == 1


def test_a_finished_job_whose_version_was_deleted_registers_it_again(tmp_path: Path, data: Path) -> None:
    assert in_a_process(tmp_path, data, epochs=1) == 0
    store = Store(tmp_path / "home")
    [first] = store.list("words")
    store.delete(first.reference)
    assert in_a_process(tmp_path, data, resume=True, epochs=1) == 0
    [again] = store.list("words")
    assert again.manifest["digest"] == first.manifest["digest"]
    assert json.loads((tmp_path / "result.json").read_text())[:2] == [again.version, str(again.path)]


def test_a_job_begun_anew_trains_the_same_weights_and_registers_a_second_version(
    tmp_path: Path, data: Path, whole: Path
) -> None:
    assert in_a_process(tmp_path, data, moment="in the second cell") == -signal.SIGKILL
    assert in_a_process(tmp_path, data) == 0
    assert "goes on from" not in (tmp_path / "said.txt").read_text()
    assert same_model(versions(tmp_path)[0], versions(whole)[0])
    assert in_a_process(tmp_path, data, seed=1) == 0
    newest, first = versions(tmp_path)
    assert not same_model(newest, first)


def test_a_second_job_of_the_same_data_and_settings_is_refused(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (tmp_path, data, None, False, LATENCIES, {"epochs": 100_000, "patience": 0, "schedule": "constant"})
    process = processes.Process(target=run_job, args=arguments)
    process.start()
    try:
        await_text(tmp_path / "said.txt", "lstm epoch 1/")
        monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
        settings = {**SETTINGS, **arguments[-1]}
        flags = [part for name, value in settings.items() for part in ("--set", f"{name}={toml(value)}")]
        common = ["train", str(data), "--name", "words", "--run-dir", str(tmp_path / "runs"), *flags]
        for extra in ([], ["--resume"]):
            answer = CliRunner().invoke(main, [*common, *extra])
            assert answer.exit_code == 4, answer.output
            assert answer.stderr.startswith(f"error: {tmp_path / 'runs'}")
            assert "another process trains the same data with the same settings" in answer.stderr
            assert len(answer.stderr.splitlines()) == 1
        assert process.is_alive()
    finally:
        process.kill()
        process.join(60)
        process.close()


def toml(value: Any) -> str:
    return repr(list(value)) if isinstance(value, tuple) else f'"{value}"' if isinstance(value, str) else str(value)


def await_text(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not (path.exists() and text in path.read_text()):
        assert time.monotonic() < deadline, f"{path} does not say {text!r}"
        time.sleep(0.02)


@pytest.mark.slow
def test_the_command_killed_from_outside_goes_on_by_resume(tmp_path: Path, data: Path) -> None:
    environment = {**os.environ, "BENTOML_HOME": str(tmp_path / "home"), "PYTHONPATH": str(SOURCE)}
    sizes = ["--set", "hidden_size=16", "--set", "embedding_dim=8", "--set", "batch_size=4", "--set", "epochs=6"]
    # The folders of the two cells are compared; what is done after them has been killed above.
    fewer = ["--set", 'wide="off"', "--set", "refit=false"]
    command = [sys.executable, "-m", "training", str(data), "--name", "words", "--accelerator", "cpu", *sizes, *fewer]

    def started(*flags: str, folder: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, "--run-dir", str(tmp_path / folder), *flags], env=environment, text=True, stdout=subprocess.PIPE
        )

    with started(folder="runs") as process:
        assert process.stdout is not None
        assert any("gru epoch 2/" in said for said in iter(process.stdout.readline, ""))
        process.kill()
    assert not (tmp_path / "home" / "models").exists()
    with started("--resume", folder="runs") as resumed, started(folder="other") as uninterrupted:
        answers = [process.communicate(timeout=200)[0] for process in (resumed, uninterrupted)]
    assert (resumed.returncode, uninterrupted.returncode) == (0, 0), answers
    assert ("goes on from" in answers[0]) or ("was finished before" in answers[0])
    for cell in ("lstm", "gru"):
        one, other = (next(tmp_path.glob(f"{folder}/words/*/{cell}")) for folder in ("runs", "other"))
        assert same_model(one, other)
