"""Records of the accuracy benchmark: what is kept, what is run again, and what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy import __main__ as command
from benchmarks.accuracy.fit import Job
from benchmarks.accuracy.records import Key, Record, Records, packed, unpacked

MEASURED: Record = {
    "metrics": {"valid": {"accuracy": 0.5, "log_loss": 0.7}, "test": {"accuracy": 0.25}},
    **{"valid_correct": packed(np.array([1.0, 0.0])), "latency_ms": 1.0, "configuration": {"monitor": "accuracy"}},
    **{
        "training_seconds": 60.0,
        "job_cpu_seconds": 60.0,
        "parameters": 7,
        "commit": "abc",
        "machine": {"cpu": "x", "when": "2026-01-01"},
    },
}


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[Key]:
    """The fits that are asked for, each of which succeeds at once."""
    asked: list[Key] = []

    def fit(self: command.Runner, job: Job) -> Record:
        asked.append(job.key)
        return dict(MEASURED)

    monkeypatch.setattr(command.Runner, "_fit", fit)
    return asked


def run(folder: Path, *arguments: str) -> int:
    return command.main(["--data", str(folder), "--results", str(folder / "results"), *arguments])


def test_each_fit_has_a_file_of_its_own(tmp_path: Path) -> None:
    keys = [Key("trec", "gatewise", c, s, w) for c in ("lstm", "gru") for s in (0, 1) for w in ("", "pairs")]
    keys.append(Key("trec", "majority", "", 0))
    assert len({key.file for key in keys}) == len(keys)
    assert Key("trec", "gatewise", "gru", 2, "pairs").file == "trec/gatewise-gru-without-pairs-seed2.json"


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    records, key = Records(tmp_path), Key("trec", "gatewise", "lstm", 1, "pairs")
    assert records.read(key) is None
    records.write(key, {"metrics": {"valid": {"accuracy": 0.1 + 0.2}}})
    found = records.read(key)
    assert found is not None
    assert found["metrics"] == {"valid": {"accuracy": 0.1 + 0.2}}
    assert list(records.all()) == [(key, found)]


def test_packed_values_are_the_same_in_32_bits() -> None:
    values = np.array([0.0, 1.0, 1.0, 2 / 3])
    np.testing.assert_array_equal(unpacked(packed(values)), values.astype(np.float32).astype(np.float64))


def test_a_run_that_was_stopped_goes_on_where_it_was(tmp_path: Path, fits: list[Key]) -> None:
    arguments = ["--sets", "trec,NATOPS", "--systems", "gatewise", "--seeds", "2"]
    Records(tmp_path / "results").write(Key("NATOPS", "gatewise", "lstm", 0), MEASURED)
    assert run(tmp_path, *arguments) == 0
    assert Key("NATOPS", "gatewise", "lstm", 0) not in fits
    assert len(fits) == 2 * 2 * 2 - 1
    fits.clear()
    run(tmp_path, *arguments)
    assert fits == []
    run(tmp_path, *arguments, "--again")
    assert len(fits) == 8


def test_every_set_has_its_first_seed_before_any_has_its_second() -> None:
    keys = list(command.plan(["trec", "NATOPS"], ["gatewise"], ["lstm", "gru"], 2))
    assert [key.seed for key in keys] == [0] * 4 + [1] * 4


def test_comparators_run_on_the_sets_that_they_take() -> None:
    systems = ["majority", "tag-majority", "tfidf-svm", "minirocket", "dtw-1nn", "step-logistic"]
    found = [(key.set, key.system, key.seed) for key in command.plan(["trec", "snips_slots"], systems, [], 2)]
    assert found == [
        *[("trec", "majority", 0), ("trec", "tfidf-svm", 0)],
        *[("snips_slots", "majority", 0), ("snips_slots", "tag-majority", 0)],
        *[("trec", "tfidf-svm", 1), ("snips_slots", "tag-majority", 1)],
    ]
    of_series = {key.system for key in command.plan(["NATOPS"], systems, [], 1)}
    assert of_series == {"majority", "minirocket", "dtw-1nn"}
    assert {key.system for key in command.plan(["occupancy"], systems, [], 1)} == {"majority", "step-logistic"}


def test_a_system_that_cannot_be_had_is_asked_for_once_and_has_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def fit(self: command.Runner, job: Job) -> Record:
        asked.append(job.key)
        return {"not_installed": "no wheel for this machine"}

    monkeypatch.setattr(command.Runner, "_fit", fit)
    assert run(tmp_path, "--sets", "trec,sst2", "--systems", "fasttext") == 0
    assert asked == [Key("trec", "fasttext", "", 0)]
    assert list(Records(tmp_path / "results").all()) == []
    assert "no wheel for this machine" in capsys.readouterr().out


def test_a_fit_that_fails_leaves_no_record_and_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(self: command.Runner, job: Job) -> Record | None:
        return None if job.key.cell == "lstm" else dict(MEASURED)

    monkeypatch.setattr(command.Runner, "_fit", fit)
    assert run(tmp_path, "--sets", "trec", "--systems", "gatewise", "--seeds", "1") == 1
    assert [key.cell for key, _ in Records(tmp_path / "results").all()] == ["gru"]


def test_unknown_names_are_refused_with_those_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(tmp_path, "--sets", "treck")
    assert "no treck; there are trec, sst2" in capsys.readouterr().err


def test_a_job_says_the_same_after_json() -> None:
    job = Job(Key("trec", "gatewise", "gru", 3, "one-cycle"), "data", {"schedule": "constant", "pooling": ["last"]})
    assert Job.from_json(job.to_json()) == job


def test_parts_are_left_out_of_the_recipe_that_a_whole_record_has(tmp_path: Path, fits: list[Key]) -> None:
    records = Records(tmp_path / "results")
    configuration: dict[str, Any] = {"pair_buckets": 8, "label_smoothing": 0.0, "schedule": "one_cycle"}
    records.write(Key("trec", "gatewise", "lstm", 0), MEASURED | {"configuration": configuration})
    found = {key.without: settings for key, settings in command.ablated(records, ["trec"], ["lstm", "gru"], 1)}
    assert found["token-pairs"] == {"pair_buckets": 0}
    assert found["one-cycle"]["schedule"] == "constant"
    assert "label-smoothing" not in found
