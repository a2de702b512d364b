"""A job's folder: kept to resume, cleared to begin anew, and held by one process at a time."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gatewise.errors import InvalidConfig, ModelConflict
from training.job import default_name
from training.runs import folder_of, open_run


def test_a_job_finds_its_folder_by_name_and_fingerprint() -> None:
    assert folder_of(Path("runs"), "questions", "0123456789abcdef") == Path("runs/questions/0123456789ab")


def test_a_resumed_run_keeps_what_stands_there_and_when_it_began(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", resume=False) as first:
        (first.folder / "lstm").mkdir()
        (first.folder / "lstm" / "last.ckpt").write_text("state")
    with open_run(tmp_path / "run", resume=True) as second:
        assert (second.folder / "lstm" / "last.ckpt").read_text() == "state"
        assert second.started_at == first.started_at
        assert second.result is None


def test_a_new_run_clears_the_folder(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", resume=False) as first:
        (first.folder / "lstm").mkdir()
        (first.folder / "lstm" / "last.ckpt").write_text("state")
        first.finish({"version": "v1"})
    with open_run(tmp_path / "run", resume=False) as second:
        assert second.result is None
        assert sorted(path.name for path in second.folder.iterdir()) == [".lock", "job.json"]


def test_a_resumed_run_that_never_began_begins(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", resume=True) as run:
        assert run.result is None
        assert json.loads((run.folder / "job.json").read_text()) == {"started_at": run.started_at}


def test_a_finished_run_says_what_it_made(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", resume=False) as run:
        run.finish({"version": "v1"})
    with open_run(tmp_path / "run", resume=True) as again:
        assert again.result == {"version": "v1"}
        assert again.started_at == run.started_at


@pytest.mark.parametrize("resume", [True, False])
def test_a_second_run_of_the_same_folder_is_refused_and_harms_nothing(tmp_path: Path, resume: bool) -> None:
    with open_run(tmp_path / "run", resume=False) as run:
        (run.folder / "mark").write_text("mine")
        with (
            pytest.raises(ModelConflict, match="another process trains the same data"),
            open_run(tmp_path / "run", resume=resume),
        ):
            pass
        assert (run.folder / "mark").read_text() == "mine"
    with open_run(tmp_path / "run", resume=True):
        pass


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("questions.csv", "questions"),
        ("/data/SMS Spam.v2.csv.gz", "sms-spam"),
        ("/data/snips/train.tsv", "snips"),
        ("/data/UCI_HAR/", "uci-har"),
        ("/data/ウェブ.csv", "model"),
    ],
)
def test_a_model_is_named_after_its_data(data: str, name: str) -> None:
    assert default_name(data) == name


def test_unfinished_work_is_put_aside_and_said_and_one_copy_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "model" / "abc"
    for _ in range(2):
        with open_run(folder, resume=False) as run:
            (folder / "lstm").mkdir()
            (folder / "lstm" / "last.ckpt").write_text(run.note)
    aside = tmp_path / "model" / "abc.unfinished"
    assert (aside / "lstm" / "last.ckpt").read_text() == ""
    with open_run(folder, resume=False) as run:
        assert f"put aside in {aside}; --resume goes on" in run.note
        assert not (folder / "lstm").exists()
    assert (aside / "lstm" / "last.ckpt").exists()


def test_to_resume_what_was_never_begun_is_said(tmp_path: Path) -> None:
    with open_run(tmp_path / "model" / "abc", resume=True) as run:
        assert (
            run.note == f"Nothing to resume: no earlier job in {tmp_path / 'model'} has this data and these settings."
        )
    with open_run(tmp_path / "model" / "abc", resume=True) as run:
        assert run.note == ""


def test_where_no_folder_can_be_made_another_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InvalidConfig, match=r"^run_dir: .*file/run: .*--run-dir"),
        open_run(tmp_path / "file/run", resume=True),
    ):
        pass
