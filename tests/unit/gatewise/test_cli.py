"""What the command says before it works, and when it is stopped."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from gatewise.cli import main


@pytest.mark.parametrize(
    ("command", "imported", "said"),
    [
        (["train", "questions.csv"], "training.fitting", "Loading torch to train on questions.csv"),
        (["retrain", "questions"], "training.fitting", "Loading torch to retrain questions"),
        (["compare", "old", "new", "test.csv"], "training.compare", "Loading old, new"),
        (["demo"], "training.tour", "Loading torch to train the demonstration's model"),
    ],
)
def test_what_takes_seconds_to_import_is_announced_before(
    command: list[str], imported: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, imported, None)  # importing it fails
    answer = CliRunner().invoke(main, command)
    assert (answer.exit_code, answer.stdout) == (5, f"{said}\n")


def test_only_the_first_process_of_a_training_announces_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "training.fitting", None)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert CliRunner().invoke(main, ["train", "questions.csv"]).stdout == ""


def test_evaluate_shows_on_a_terminal_that_it_works_before_it_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "training.evaluation", None)
    monkeypatch.setenv("FORCE_COLOR", "1")  # to rich, a terminal
    answer = CliRunner().invoke(main, ["evaluate", "questions", "test.csv"])
    assert (answer.exit_code, "scoring" in answer.stderr) == (5, True)


@pytest.mark.parametrize(
    ("command", "module", "entry", "said"),
    [
        (["demo"], "training.tour", "run_demo", "stopped\n"),
        (["train", "questions.csv"], "training.job", "run", "stopped; the same command goes on with --resume\n"),
    ],
)
def test_resume_is_advised_only_where_it_is_a_flag(
    command: list[str], module: str, entry: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*given: Any, **named: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, module, SimpleNamespace(**{entry: stop}))
    answer = CliRunner().invoke(main, command)
    assert (answer.exit_code, answer.stderr) == (130, said)
