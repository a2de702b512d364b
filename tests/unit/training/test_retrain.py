"""`gatewise retrain` and `gatewise jobs`, as a user runs them, on a champion that is trained in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import gatewise.cli
from gatewise.cli import main
from tests.retraining import SETTINGS, Place, fix_latencies, make_place, texts
from training import gate, job, retrain
from training.plan import JobOptions

FEEDBACK = texts(30, 1, "fruit", "road", "sea")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("champion") / "place")


@pytest.fixture
def place(made: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return at(made.copy(tmp_path / "place"), monkeypatch)


def at(place: Place, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Let this test's commands work there."""
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    fix_latencies(monkeypatch)
    monkeypatch.chdir(place.folder)
    return place


def cli(*arguments: object) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result


def retrained(*flags: object) -> Result:
    return cli("retrain", "words", "--accelerator", "cpu", *flags)


def as_json(*arguments: object) -> Any:
    return json.loads(cli(*arguments).stdout)


def test_production_learns_its_feedback_and_a_new_class_and_is_promoted(place: Place) -> None:
    champion = place.production()
    place.feed(FEEDBACK)
    result = retrained("--promote", "auto")
    assert result.exit_code == 0, result.output
    challenger = place.production()
    assert challenger.version != champion.version
    assert f"words:{challenger.version} is production now" in result.stdout
    assert challenger.manifest["labels"] == ["fruit", "road", "sea"]
    # By the champion's own recipe, both cells, and the test rows are those of before.
    recipe, before = (one.manifest["training"]["config"] for one in (challenger, champion))
    assert recipe == before
    assert set(challenger.manifest["training"]["candidates"]) == {"lstm", "gru"}
    assert challenger.manifest["data"]["rows"]["test"] == champion.manifest["data"]["rows"]["test"]
    shown = as_json("models", "show", challenger.reference)["gate"]
    assert (shown["passed"], shown["promoted"], shown["champion"]) == (True, True, champion.version)
    assert [check["name"] for check in shown["checks"]][:3] == ["golden items", "classes", "overall on test"]
    counts = shown["feedback"]
    assert counts["train"] + counts["valid"] + counts["gate"] == len(FEEDBACK)
    assert counts["gate"] == next(c for c in shown["checks"] if c["name"] == "overall on feedback")["figures"]["rows"]
    [row] = as_json("jobs", "list", "--json")
    assert (row["state"], row["result"]["result"], row["model_name"]) == ("finished", "promoted", "words")
    folder = Path(row["folder"])
    assert json.loads((folder / "config.json").read_text()) == recipe
    assert "Training GRU" in (folder / "job.log").read_text()
    told = cli("jobs", "show", row["id"]).stdout
    assert f"job {row['id']}: retrain words, finished" in told
    assert "gatewise retrain words" in (challenger.path / "report.html").read_text()


def test_held_out_feedback_and_test_rows_are_in_no_training(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[set[str]] = []
    train = retrain.train

    def spy(options: Any, *, splits: Any, **more: Any) -> Any:
        trained.extend([{*splits.train.items, *splits.valid.items}, set(splits.test.items)])
        return train(options, splits=splits, **more)

    monkeypatch.setattr(retrain, "train", spy)
    seen: list[dict[str, Any]] = []
    monkeypatch.setattr(retrain, "judge", lambda a, b, rows, *more: seen.append(rows) or gate.Verdict(True, "", []))
    place.feed(FEEDBACK)
    assert retrained().exit_code == 0
    learnt, test = trained
    [rows] = seen
    assert set(rows["test"].items) == test
    assert not learnt & test
    assert not learnt & set(rows["feedback"].items)
    assert learnt | set(rows["feedback"].items) >= {text for text, _ in FEEDBACK}


def test_without_new_feedback_there_is_nothing_to_do_and_the_exit_code_says_so(place: Place) -> None:
    assert retrained().exit_code == 6
    place.feed(FEEDBACK)
    assert retrained("--promote", "auto").exit_code == 0
    again = retrained("--promote", "auto")
    assert again.exit_code == 6
    assert "has learnt all feedback that there is: nothing new" in again.stdout
    place.feed(texts(10, 2, "road"))
    assert retrained("--promote", "auto").exit_code in (0, 7)


def test_a_challenger_that_learnt_wrong_labels_is_refused_with_a_reason_and_not_tried_again(place: Place) -> None:
    champion = place.production()
    wrong = {"fruit": "road", "road": "fruit"}
    place.feed([(text, wrong[label]) for text, label in texts(120, 3, "fruit", "road")])
    result = retrained("--promote", "auto")
    assert result.exit_code == 7, result.output
    assert "Refused: " in result.stdout
    assert place.production().version == champion.version
    newest = place.store.get("words")
    shown = as_json("models", "show", newest.reference)["gate"]
    assert (shown["passed"], shown["promoted"]) == (False, False)
    assert "on test" in shown["reason"]
    assert as_json("jobs", "list", "--json")[0]["result"]["result"] == "refused"
    again = retrained("--promote", "auto")
    assert again.exit_code == 6
    assert f"has made {newest.version} of this feedback (refused): nothing new" in again.stdout


def test_a_challenger_whose_file_is_damaged_is_refused_and_its_record_can_be_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = place.production()
    train = retrain.train

    def damaging(*arguments: Any, **more: Any) -> Any:
        result = train(*arguments, **more)
        (result.artifact / "weights.safetensors").write_bytes(b"no weights")
        return result

    monkeypatch.setattr(retrain, "train", damaging)
    place.feed(FEEDBACK)
    result = retrained("--promote", "auto")
    assert result.exit_code == 7
    assert place.production().version == champion.version
    shown = cli("models", "show", place.store.get("words").reference)
    assert shown.exit_code == 4
    assert "weights.safetensors" in json.loads(shown.stdout)["gate"]["reason"]


def test_by_default_nothing_is_promoted_and_asking_needs_a_terminal(place: Place) -> None:
    champion = place.production()
    place.feed(FEEDBACK)
    asked = retrained("--promote", "ask")
    assert (asked.exit_code, "ask needs a terminal" in asked.stderr) == (2, True)
    result = retrained()
    assert result.exit_code == 0
    assert "it was not asked to" in result.stdout
    assert place.production().version == champion.version
    assert f"gatewise models promote words:{place.store.get('words').version}" in result.stdout


@pytest.mark.parametrize("answer", [True, False])
def test_a_user_who_is_asked_decides(place: Place, answer: bool) -> None:
    champion = place.production()
    place.feed(FEEDBACK)
    options = retrain.RetrainOptions("words", place.database, promote="ask", run_dir=place.folder / "runs")
    asked: list[str] = []
    outcome = retrain.retrain(options, say=lambda line: None, ask=lambda reason: bool(asked.append(reason)) or answer)
    assert len(asked) == 1
    assert outcome.result == ("promoted" if answer else "passed")
    assert (place.production().version == outcome.version) == answer
    assert (place.production().version == champion.version) != answer


def test_production_that_moved_meanwhile_is_not_replaced(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    other = place.store.add(place.production().path, "words")
    judge = retrain.judge

    def judging(*arguments: Any) -> Any:
        place.store.promote(other.reference)
        return judge(*arguments)

    monkeypatch.setattr(retrain, "judge", judging)
    place.feed(FEEDBACK)
    result = retrained("--promote", "auto")
    assert result.exit_code == 7
    assert "production of 'words' has moved" in result.stdout
    assert place.production().version == other.version


def test_base_data_that_changed_or_went_is_named_and_another_base_keeps_the_test_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own").mkdir()
    at(Place(tmp_path / "own"), monkeypatch)
    place = make_place(tmp_path / "own")
    place.feed(FEEDBACK)
    content = place.data.read_text()
    place.data.write_text(content + "red car,road\n")
    changed = retrained()
    assert changed.exit_code == 3
    assert f"{place.data}: the base data has changed since" in changed.stderr
    assert "--base DATA" in changed.stderr
    assert as_json("jobs", "list", "--json")[0]["state"] == "failed"
    place.data.unlink()
    assert "the base data is no longer there" in retrained().stderr
    # Found again, and more of it as another base: the test rows stay, and none of them is learnt.
    place.data.write_text(content)
    other = tmp_path / "more.csv"
    other.write_text(content + "".join(f"{text},{label}\n" for text, label in texts(20, 9, "fruit", "road")))
    trained: list[Any] = []
    train = retrain.train
    monkeypatch.setattr(
        retrain, "train", lambda o, *, splits, **m: trained.append(splits) or train(o, splits=splits, **m)
    )
    assert retrained("--base", other, "--promote", "auto").exit_code == 0
    [splits] = trained
    assert len(splits.test) == place.store.list("words")[-1].manifest["data"]["rows"]["test"]
    assert not set(splits.test.items) & {*splits.train.items, *splits.valid.items}
    # The next one starts from that base, and still has these test rows.
    place.feed(texts(5, 10, "road"))
    assert retrained().exit_code in (0, 7)
    assert trained[1].test.items == splits.test.items


def test_settings_of_the_user_win_and_the_recipe_keeps_the_rest(place: Place) -> None:
    place.feed(FEEDBACK)
    assert retrained("--cells", "gru", "--set", "epochs=2").exit_code in (0, 7)
    newest = place.store.get("words").manifest["training"]
    assert list(newest["candidates"]) == ["gru"]
    assert (newest["config"]["epochs"], newest["config"]["hidden_size"]) == (2, 4)


def test_only_feedback_since_a_time_counts_when_one_is_given(place: Place) -> None:
    place.feed(FEEDBACK)
    assert retrained("--since", "2999-01-01").exit_code == 6
    refused = retrained("--since", "yesterday")
    assert (refused.exit_code, "'yesterday' is not a time" in refused.stderr) == (2, True)


def test_a_model_without_a_version_in_production_is_refused(place: Place) -> None:
    place.store.add(place.production().path, "other")
    refused = cli("retrain", "other")
    assert refused.exit_code == 4
    assert "no version of 'other' is in production yet" in refused.stderr
    # And one that says nothing of its data asks for it.
    place.store.promote("other")
    place.feed(FEEDBACK)
    asked = cli("retrain", "other")
    assert asked.exit_code == 3
    assert "Name it with --base DATA" in asked.stderr


def test_python_m_training_retrain_is_the_same_command(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["training", "retrain", "words"])
    with pytest.raises(SystemExit) as ended:
        gatewise.cli.train_main()
    assert ended.value.code == 6
    assert "there is no feedback for 'words' yet" in capsys.readouterr().out


def test_a_tagger_learns_labels_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = at(Place(tmp_path), monkeypatch)
    rng = np.random.default_rng(0)

    def sentence() -> list[str]:
        return [f"{rng.choice(['run', 'sea'])}{i}" for i in rng.integers(0, 30, size=rng.integers(3, 8))]

    def tags(tokens: list[str]) -> list[str]:
        return ["VERB" if token.startswith("run") else "NOUN" for token in tokens]

    rows = [sentence() for _ in range(160)]
    lines = [json.dumps({"tokens": row, "tags": tags(row)}) for row in rows[:100]]
    (tmp_path / "tags.jsonl").write_text("\n".join(lines))
    settings = {**SETTINGS, "dense_sizes": (), "affix_buckets": 0}
    del settings["wide"]
    options = JobOptions(str(tmp_path / "tags.jsonl"), name="words", settings=settings, run_dir=tmp_path / "runs")
    champion = job.run(options, say=lambda line: None)
    place.store.promote(f"words:{champion.version}")
    place.feed((row, tags(row)) for row in rows[100:])
    result = retrained("--promote", "auto")
    assert result.exit_code in (0, 7), result.output
    shown = as_json("models", "show", place.store.get("words").reference)["gate"]
    counts = shown["feedback"]
    assert counts["train"] + counts["valid"] + counts["gate"] == 60
    checks = {check["name"]: check for check in shown["checks"]}
    assert checks["overall on feedback"]["figures"]["rows"] == counts["gate"]
    recalls = checks["recall on test"]["figures"]["classes"]
    assert [one["label"] for one in recalls] == ["NOUN", "VERB"]
    assert sum(one["count"] for one in recalls) > checks["overall on test"]["figures"]["rows"]
