"""The chosen cell trained once more on train and validation: when, on what, and what stays as it was measured before.

The kills here are exceptions, in this process; tests/fault/test_resume.py kills whole jobs.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from gatewise.artifact import read_manifest
from gatewise.predictor import Predictor
from gatewise.store import Store
from tests.unit.training.small_runs import CPU
from training import finishing, job, learning, measuring
from training.data import EncodedDataset
from training.dataset import Dataset
from training.evaluation import score
from training.fitting import Candidate
from training.latency import Latency
from training.plan import JobOptions, JobResult
from training.splits import read_splits

TINY: dict[str, Any] = {
    "cells": ("gru",), "hidden_size": 4, "dense_sizes": (4,), "epochs": 2, "batch_size": 16, "wide": "off",
}  # fmt: skip


class Cut(BaseException):
    """The end of a process, without its end."""


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))


def write_series(path: Path, rows: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    records = [
        {"series": (rng.normal(size=(n, 2)) + (1 if k else -1)).round(3).tolist(), "label": "up" if k else "down"}
        for n, k in zip(rng.integers(3, 9, size=rows), rng.integers(0, 2, size=rows), strict=True)
    ]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def write_texts(path: Path, rows: int) -> Path:
    rng = np.random.default_rng(0)
    words = {"fruit": ["red", "apple", "sweet", "juice"], "road": ["fast", "car", "wheel", "red"]}
    labels = [str(label) for label in rng.choice(list(words), size=rows)]
    texts = [" ".join(rng.choice(words[label], size=rng.integers(2, 7))) for label in labels]
    path.write_text("text,label\n" + "".join(f"{t},{k}\n" for t, k in zip(texts, labels, strict=True)))
    return path


@dataclass
class Done:
    """A job with what it said and how it called `fit`."""

    result: JobResult
    said: list[str]
    fits: list[tuple[EncodedDataset, EncodedDataset | None, Path, Candidate]]

    @property
    def refitted(self) -> bool:
        found: bool = read_manifest(self.result.artifact).training["refitted"]
        return found

    def measured(self) -> Path:
        """The artifact that was measured and chosen."""
        return self.fits[0][2] / "artifact"


# Of one sequence of median length, and of a long one, in milliseconds.
ALIKE = {"lstm": (1.0, 1.0), "gru": (1.0, 1.0)}


# Of one sequence of median length, and of a long one, in milliseconds.
ALIKE = {"lstm": (1.0, 1.0), "gru": (1.0, 1.0)}


def run(
    tmp_path: Path,
    data: Path,
    *,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
    times: dict[str, tuple[float, float]] = ALIKE,
    **more: Any,
) -> Done:
    said: list[str] = []
    fits: list[Any] = []
    original = learning.fit

    def spy(
        model: Any, config: Any, train: Any, valid: Any, labels: Any, forms: Any, folder: Path, **others: Any
    ) -> Any:
        candidate = original(model, config, train, valid, labels, forms, folder, **others)
        fits.append((train, valid, folder, candidate))
        return candidate

    def listen(line: str) -> None:
        said.append(line)
        if say:
            say(line)

    options = {name: more.pop(name) for name in ("valid", "test", "max_seconds") if name in more}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning, "fit", spy)
        patch.setattr(measuring, "measure_latency", lambda predictor, *_: takes(times[predictor.manifest.model.cell]))
        result = job.run(
            JobOptions(
                data=str(data),
                name="tiny",
                settings={**TINY, **more},
                devices=CPU,
                run_dir=tmp_path / "runs",
                resume=resume,
                **options,
            ),
            say=listen,
        )
    return Done(result, said, fits)


def takes(times: tuple[float, float]) -> Latency:
    return Latency("onnx", "cpu", *times, 1.0, 1, 1.0, None)


def weights_in(folder: Path) -> dict[str, np.ndarray]:
    return load_file(folder / "weights.safetensors")


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def content(data: EncodedDataset) -> list[tuple[bytes, int]]:
    return sorted((row.tobytes(), label) for row, label in zip(data.inputs, data.labels, strict=True))


# When


def test_a_file_that_was_divided_is_learnt_whole_in_the_end(tmp_path: Path) -> None:
    done = run(tmp_path, write_series(tmp_path / "all.jsonl", 120, 0))
    assert done.refitted
    splits = read_splits(tmp_path / "all.jsonl")
    rows = len(splits.train) + len(splits.valid)
    assert f"Training GRU once more, on all {rows} rows of train and validation" in done.said
    (train, valid, _, _), (everything, nothing, folder, again) = done.fits
    assert nothing is None
    assert valid is not None
    assert content(everything) == sorted(content(train) + content(valid))
    assert len(everything) == rows
    assert folder.name == "refit"
    assert (again.best_epoch, len(again.epochs)) == (2, 2)
    final = weights_in(done.result.artifact)
    assert same(final, again.weights)
    assert not same(final, weights_in(done.measured()))


def test_a_validation_file_that_was_given_is_never_trained_on(tmp_path: Path) -> None:
    data, valid = write_series(tmp_path / "train.jsonl", 80, 0), write_series(tmp_path / "other.jsonl", 30, 1)
    for settings in ({}, {"refit": True}):
        done = run(tmp_path, data, valid=str(valid), **settings)
        assert not done.refitted
        assert len(done.fits) == 1
        assert not [line for line in done.said if "once more" in line]
        assert same(weights_in(done.result.artifact), done.fits[0][3].weights)


def test_rows_beside_a_test_file_are_divided_and_learnt_whole(tmp_path: Path) -> None:
    data, test = write_series(tmp_path / "train.jsonl", 80, 0), write_series(tmp_path / "test.jsonl", 20, 1)
    done = run(tmp_path, data, test=str(test))
    assert done.refitted
    assert len(done.fits[1][0]) == 80


@pytest.mark.parametrize("setting", [{"refit": False}, {"preset": "documented"}])
def test_a_refit_that_is_not_asked_for_does_not_happen(tmp_path: Path, setting: dict[str, Any]) -> None:
    done = run(tmp_path, write_series(tmp_path / "all.jsonl", 80, 0), **setting)
    assert not done.refitted
    assert len(done.fits) == 1
    assert not [line for line in done.said if "once more" in line]


def test_a_cell_whose_best_epoch_was_not_its_last_is_not_trained_again(tmp_path: Path) -> None:
    data = write_series(tmp_path / "all.jsonl", 80, 0)
    done = run(tmp_path, data, select="best", epochs=6, learning_rate=1.0)
    assert done.fits[0][3].best_epoch < 6
    assert done.fits[0][3].stopped_by == "epochs"
    assert not done.refitted
    assert "GRU is not trained once more on the validation rows too: its best epoch was not its last" in done.said


def test_a_cell_that_was_stopped_by_its_patience_is_not_trained_again(tmp_path: Path) -> None:
    data = write_series(tmp_path / "all.jsonl", 80, 0)
    done = run(tmp_path, data, epochs=60, patience=1, learning_rate=0.5, schedule="constant")
    assert done.fits[0][3].stopped_by == "patience"
    assert not done.refitted
    assert "GRU is not trained once more on the validation rows too: it was stopped before its last epoch" in done.said
    assert same(weights_in(done.result.artifact), done.fits[0][3].weights)


@pytest.mark.parametrize(("needed", "happens"), [(1e6, False), (1e-3, True)])
def test_a_cell_is_trained_again_only_where_the_time_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needed: float, happens: bool
) -> None:
    monkeypatch.setattr(Candidate, "seconds", needed)
    done = run(tmp_path, write_series(tmp_path / "all.jsonl", 80, 0), max_seconds=600.0)
    assert done.refitted is happens
    assert ("GRU is not trained once more on the validation rows too: the time is up" in done.said) is not happens
    assert len(done.fits) == 1 + happens


def test_without_a_limit_the_time_is_never_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Candidate, "seconds", 1e6)
    assert run(tmp_path, write_series(tmp_path / "all.jsonl", 80, 0)).refitted


def test_the_chosen_cell_alone_is_trained_again(tmp_path: Path) -> None:
    done = run(tmp_path, write_series(tmp_path / "all.jsonl", 80, 0), cells=("lstm", "gru"))
    assert [candidate.cell for *_, candidate in done.fits] == ["lstm", "gru", done.result.choice.cell]
    chosen = next(candidate for *_, candidate in done.fits[:2] if candidate.cell == done.result.choice.cell)
    training = read_manifest(done.result.artifact).training
    # The record is that of the run that was measured.
    assert training["epochs"] == chosen.epochs
    assert (training["best_epoch"], training["stopped_by"]) == (2, "epochs")
    assert set(training["candidates"]) == {"lstm", "gru"}


# What stays


def split_of(data: Path) -> tuple[Dataset, Dataset]:
    splits = read_splits(data)
    assert splits.test is not None
    return splits.valid, splits.test


def test_temperature_and_validation_figures_are_those_from_before_and_the_test_score_is_from_after(
    tmp_path: Path,
) -> None:
    data = write_series(tmp_path / "all.jsonl", 160, 0)
    done = run(tmp_path, data)
    before, after = read_manifest(done.measured()), read_manifest(done.result.artifact)
    assert after.temperature == before.temperature
    valid, test = split_of(data)
    measured, final = (Predictor.load(folder) for folder in (done.measured(), done.result.artifact))
    assert after.metrics["valid"] == done.result.metrics["valid"] == score(measured, [valid]).metrics
    assert score(measured, [valid]).metrics != score(final, [valid]).metrics
    assert after.metrics["test"] == done.result.metrics["test"] == score(final, [test]).metrics
    assert score(measured, [test]).metrics != score(final, [test]).metrics


def test_the_linear_branch_is_fitted_again_too_with_its_recipe_and_share(tmp_path: Path) -> None:
    data = write_texts(tmp_path / "words.csv", 150)
    done = run(tmp_path, data, wide="on", embedding_dim=4, min_count=1)
    assert done.refitted
    before, after = read_manifest(done.measured()), read_manifest(done.result.artifact)
    assert after.temperature == before.temperature
    assert after.model == before.model
    assert after.model.wide_buckets > 0
    first, last = weights_in(done.measured()), weights_in(done.result.artifact)
    assert not np.array_equal(first["wide.weight"], last["wide.weight"])
    # A share is one factor for both; halved, the weights would be half as large.
    assert np.abs(last["wide.weight"]).sum() == pytest.approx(np.abs(first["wide.weight"]).sum(), rel=0.3)
    _, test = split_of(data)
    predictor = Predictor.load(done.result.artifact)
    assert done.result.metrics["test"] == score(predictor, [test]).metrics
    assert predictor.encode("red apple").wide is not None


def test_the_kernels_of_a_series_are_drawn_and_fitted_again_with_their_share(tmp_path: Path) -> None:
    data = write_series(tmp_path / "waves.jsonl", 80, 0)
    done = run(tmp_path, data, wide="on")
    assert done.refitted
    before, after = read_manifest(done.measured()), read_manifest(done.result.artifact)
    assert after.temperature == before.temperature
    assert (after.model.wide_channels, len(after.model.wide_dilations)) == (2, 1)
    first, last = weights_in(done.measured()), weights_in(done.result.artifact)
    assert not np.array_equal(first["wide.weight"], last["wide.weight"])
    _, test = split_of(data)
    predictor = Predictor.load(done.result.artifact)
    assert done.result.metrics["test"] == score(predictor, [test]).metrics
    assert predictor.encode([[1.0, 2.0]]).wide is not None


def test_texts_that_share_no_word_are_told_to_have_no_linear_branch(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    path.write_text("text,label\n" + "".join(f"w{i},{'ab'[i % 2]}\n" for i in range(60)))
    done = run(tmp_path, path, wide="auto", level="words", embedding_dim=4, min_count=1)
    told = done.said[done.said.index("Fitting the linear branch") + 1]
    assert told.startswith("  left out: ")
    assert "no word stands in two texts" in told
    assert read_manifest(done.result.artifact).model.wide_buckets == 0
    assert done.refitted


# Going on


@pytest.mark.parametrize("data_of", [write_series, write_texts], ids=["series", "texts"])
@pytest.mark.parametrize("moment", ["in its first epoch", "between its epochs", "before it is packed"])
def test_a_job_that_was_cut_off_in_the_refit_ends_as_one_that_was_not(
    tmp_path: Path, moment: str, data_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"averaging": 0.9, "epochs": 3}
    if data_of is write_series:
        data = write_series(tmp_path / "all.jsonl", 80, 0)
        settings |= {"stem_stride": 2, "stem_channels": 3, "branch_channels": (4,), "branch_kernels": (3,)}
        settings["wide"] = "on"
    else:
        data = write_texts(tmp_path / "all.csv", 80)
        settings |= {"embedding_dim": 4, "min_count": 1, "wide": "on"}
    whole = run(tmp_path / "whole", data, **settings)
    assert whole.refitted

    def cut(line: str) -> None:
        if moment == "in its first epoch" and "once more" in line:
            raise Cut
        if moment == "between its epochs" and len(epochs) == 3 + 2:
            raise Cut
        if "gru epoch" in line:
            epochs.append(line)

    epochs: list[str] = []
    with monkeypatch.context() as patch:
        if moment == "before it is packed":
            pack = finishing.Packer.pack

            def cut_second(self: Any, folder: Path, *others: Any) -> Any:
                if folder.parent.name == "refit":
                    raise Cut
                return pack(self, folder, *others)

            patch.setattr(finishing.Packer, "pack", cut_second)
        with pytest.raises(Cut):
            run(tmp_path / "cut", data, say=cut, **settings)
    assert len(Store().list("tiny")) == 1
    resumed = run(tmp_path / "cut", data, resume=True, **settings)
    assert same(weights_in(resumed.result.artifact), weights_in(whole.result.artifact))
    assert resumed.result.metrics == whole.result.metrics
    one, other = (read_manifest(done.result.artifact) for done in (resumed, whole))
    assert (one.temperature, one.model, one.files["model.onnx"]) == (
        other.temperature,
        other.model,
        other.files["model.onnx"],
    )
    assert any("was finished before" in line for line in resumed.said)


def test_another_budget_after_a_cut_refit_refits_the_other_cell_from_its_own_beginning(tmp_path: Path) -> None:
    data = write_series(tmp_path / "all.jsonl", 80, 0)
    # The rows are too few to tell the cells apart, and the faster one is the slower one for long sequences.
    times = {"lstm": (1.0, 1.0), "gru": (0.1, 9.0)}
    settings: dict[str, Any] = {"cells": ("lstm", "gru"), "epochs": 3}
    begun: list[str] = []

    def cut(line: str) -> None:
        begun.extend([line] if "once more" in line else [])
        if begun and "gru epoch 2/3" in line:
            raise Cut

    with pytest.raises(Cut):
        run(tmp_path, data, say=cut, times=times, **settings)
    assert begun[0].startswith("Training GRU once more")
    done = run(tmp_path, data, resume=True, times=times, max_latency_ms=5.0, **settings)
    assert done.result.choice.cell == "lstm"
    assert done.refitted
    whole = run(tmp_path / "whole", data, times=times, max_latency_ms=5.0, **settings)
    assert same(weights_in(done.result.artifact), weights_in(whole.result.artifact))
