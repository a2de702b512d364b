"""What is searched, what is not, and what comes of it; tests/fault/test_resume.py kills searches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gatewise.artifact import read_manifest
from gatewise.errors import InvalidConfig
from tests.unit.training.small_runs import CPU
from tests.unit.training.test_refit import write_series
from training import job
from training.config import TrainingConfig
from training.plan import JobOptions
from training.search import knobs_of, read_found, settings_of

CONFIG = TrainingConfig(optimizer="adamw", weight_decay=0.01, recurrent_dropout=0.3, dense_dropout=0.3)


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))


def run(tmp_path: Path, **more: Any) -> tuple[dict[str, Any], list[str]]:
    """The manifest's account of a tiny job, and what it said."""
    said: list[str] = []
    files = {name: more.pop(name) for name in ("test", "max_seconds", "unlabelled") if name in more}
    settings = {"dense_sizes": (4,), "epochs": 2, "batch_size": 16, "embedding_dim": 4, **more}
    data = str(write_series(tmp_path / "all.jsonl", 80, 0))
    options = JobOptions(data, name="tiny", settings=settings, devices=CPU, run_dir=tmp_path / "runs", **files)
    result = job.run(options, say=said.append)
    return read_manifest(result.artifact).training, said


def test_what_the_user_gave_is_not_searched() -> None:
    assert set(knobs_of(CONFIG, {})) == {"hidden_size", "num_layers", "learning_rate", "dropout", "weight_decay"}
    given = {"learning_rate": 1, "recurrent_dropout": 0, "weight_decay": 0, "hidden_size": 3}
    assert set(knobs_of(CONFIG, given)) == {"num_layers"}
    assert "hidden_size" not in knobs_of(CONFIG.model_copy(update={"sizes": (4, 8)}), {})
    assert "weight_decay" not in knobs_of(CONFIG.model_copy(update={"optimizer": "adam"}), {})


def test_one_dropout_stands_for_those_that_the_recipe_has() -> None:
    params = {"cell": "gru", "num_layers": 2, "dropout": 0.1}
    assert settings_of(params, CONFIG) == {"num_layers": 2, "recurrent_dropout": 0.1, "dense_dropout": 0.1}
    assert settings_of(params, CONFIG.model_copy(update={"embedding_dropout": 0.3}))["embedding_dropout"] == 0.1


def test_a_search_tries_the_recipe_with_each_cell_first_and_trains_each_with_its_best(tmp_path: Path) -> None:
    training, said = run(tmp_path, search=4, hidden_size=4)
    trials = [line for line in said if line.startswith("  trial ")]
    assert [line.split()[1] for line in trials] == ["1/4", "2/4", "3/4", "4/4"]
    assert [line.split()[2] for line in trials[:2]] == ["LSTM", "GRU"]
    assert all("learning_rate=0.003 dropout=0.3 weight_decay=0.02" in line for line in trials[:2])
    account = training["comparison"]["search"]
    assert (account["trials"], len(account["history"])) == (4, 4)
    assert account["best_value"] == max(value for value in account["history"] if value is not None)
    assert set(account["best"]) == {"cell", "num_layers", "learning_rate", "dropout", "weight_decay"}
    [folder] = (tmp_path / "runs" / "tiny").iterdir()
    found = read_found(folder)
    chosen = training["decision"]["cell"]
    assert {name: training["config"][name] for name in found.settings[chosen]} == found.settings[chosen]
    assert training["config"]["seed"] == 0
    assert not (folder / "trial").exists()


def test_a_search_never_looks_at_the_test_split(tmp_path: Path) -> None:
    accounts = []
    for seed in (1, 2):
        test = write_series(tmp_path / f"test{seed}.jsonl", 20, seed)
        training, _ = run(tmp_path, search=3, hidden_size=4, test=str(test))
        accounts.append(training["comparison"]["search"])
    assert accounts[0] == accounts[1]
    assert accounts[0]["trials"] == 3


def test_a_search_whose_time_is_up_ends_with_a_model(tmp_path: Path) -> None:
    training, said = run(tmp_path, search=1000, hidden_size=4, max_seconds=6.0)
    assert any(line.startswith("  the time of the search is up after ") for line in said)
    assert 0 < training["comparison"]["search"]["trials"] < 1000


def test_a_rate_at_which_training_diverges_costs_a_trial_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training.learning import Learning

    original, calls = Learning.try_out, iter(range(100))

    def diverging(self: Any, *arguments: Any) -> Any:
        if next(calls) == 2:
            raise InvalidConfig("learning_rate: with 9 training diverged")
        return original(self, *arguments)

    monkeypatch.setattr(Learning, "try_out", diverging)
    training, said = run(tmp_path, search=4, hidden_size=4)
    assert training["comparison"]["search"]["history"][2] is None
    assert training["comparison"]["search"]["pruned"] >= 1
    assert any(line.startswith("  trial 3/4") and ": cut short" in line for line in said)


def test_a_search_does_not_pretrain(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="search: it would pretrain in every trial"):
        run(tmp_path, search=2, unlabelled=str(write_series(tmp_path / "more.jsonl", 40, 3)), pretrain_epochs=1)


def test_only_one_process_searches(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match="not by torchrun"):
        read_found(tmp_path)
