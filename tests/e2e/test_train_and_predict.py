"""The command line from a labelled file to predictions in files, for each kind of data, and what its errors say.

scikit-learn and the rows of the files themselves say what the figures must be.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file
from sklearn.metrics import accuracy_score, f1_score, log_loss
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gatewise
from gatewise.artifact import Abstaining, Artifact, LabelSets, restate
from gatewise.cli import main
from gatewise.store import Store

SOURCE = Path(__file__).parents[2]
KERAS = Path(__file__).parents[1] / "data" / "keras"
TINY = ["--set", "hidden_size=8", "--set", "dense_sizes=[8]", "--set", "learning_rate=0.02", "--accelerator", "cpu"]
WORDS = {
    "fruit": ["apple", "pear", "sweet", "juice"],
    "road": ["car", "wheel", "fast", "engine"],
    "sky": ["rain", "sun"],
}
SHARED = ["the", "a", "is", "of", "it"]


def cli(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def done(*arguments: object) -> str:
    """What a command said that must go well, on both streams."""
    result = cli(*arguments)
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    assert "Traceback" not in result.output
    return result.output


@dataclass(frozen=True)
class Trained:
    """A model with the files that it is asked about."""

    name: str
    home: Path
    train: Path
    test: Path
    items: list[Any]
    labels: list[Any]
    said: str
    flags: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store for all models of this file."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENTOML_HOME", str(folder))
        yield folder


def trained(name: str, home: Path, folder: Path, *flags: str, epochs: int = 8, write: Any, **more: Any) -> Trained:
    """Train on 300 rows and keep 40 others to ask about."""
    items, labels = write(folder / f"train{more['suffix']}", seed=0, rows=300)
    items, labels = write(folder / f"test{more['suffix']}", seed=1, rows=40)
    train, test = (folder / f"{part}{more['suffix']}" for part in ("train", "test"))
    said = done("train", train, "--name", name, "--epochs", epochs, "--run-dir", folder / "runs", *TINY, *flags)
    return Trained(name, home, train, test, items, labels, said, flags)


def write_text(path: Path, *, seed: int, rows: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(seed)
    labels = [str(label) for label in rng.choice(list(WORDS), size=rows)]
    texts = [
        " ".join(rng.permutation([*rng.choice(WORDS[label], size=2), *rng.choice(SHARED, size=rng.integers(0, 5))]))
        for label in labels
    ]
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in zip(texts, labels, strict=True)))
    return texts, labels


def write_series(path: Path, *, seed: int, rows: int) -> tuple[list[Any], list[str]]:
    rng = np.random.default_rng(seed)
    labels = [str(label) for label in rng.choice(["falls", "rises"], size=rows)]
    items = [
        (np.outer(np.arange(n), [0.5 if label == "rises" else -0.5, 0]) + rng.normal(size=(n, 2))).round(3).tolist()
        for n, label in zip(rng.integers(4, 12, size=rows), labels, strict=True)
    ]
    records = [{"series": item, "label": label} for item, label in zip(items, labels, strict=True)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return items, labels


def write_tags(path: Path, *, seed: int, rows: int) -> tuple[list[list[str]], list[list[str]]]:
    rng = np.random.default_rng(seed)
    items, labels = [], []
    for _ in range(rows):
        tokens, tags = [], []
        for _ in range(rng.integers(2, 5)):
            if rng.random() < 0.5:
                tokens += ["in", str(rng.choice(["new", "old"])), str(rng.choice(["york", "delhi"]))]
                tags += ["O", "B-city", "I-city"]
            else:
                tokens.append(str(rng.choice(SHARED)))
                tags.append("O")
        items.append(tokens)
        labels.append(tags)
    records = [{"tokens": tokens, "tags": tags} for tokens, tags in zip(items, labels, strict=True)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return items, labels


def write_steps(path: Path, *, seed: int, rows: int) -> tuple[list[Any], list[list[str]]]:
    """A row for each step, shuffled: the order is that of `time`, which only --order-by tells."""
    rng = np.random.default_rng(seed)
    items, labels, lines = [], [], []
    for run in range(rows // 2):
        on = np.cumsum(rng.random(int(rng.integers(5, 12))) < 0.3) % 2
        level = (on + rng.normal(scale=0.2, size=len(on))).round(3)
        items.append(np.column_stack([level, level * 0 + 1]).tolist())
        labels.append(["on" if one else "off" for one in on])
        lines += [f"r{run:03d},{t},{v},1,{label}" for t, (v, label) in enumerate(zip(level, labels[-1], strict=True))]
    path.write_text("run,time,level,constant,state\n" + "\n".join(rng.permutation(lines)) + "\n")
    return items, labels


@pytest.fixture(scope="module")
def text(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    flags = ("--set", "embedding_dim=8", "--set", "min_count=1")
    return trained("text", home, tmp_path_factory.mktemp("text"), *flags, write=write_text, suffix=".csv")


@pytest.fixture(scope="module")
def series(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return trained(
        "series", home, tmp_path_factory.mktemp("series"), "--cells", "gru", write=write_series, suffix=".jsonl"
    )


@pytest.fixture(scope="module")
def tags(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    flags = ("--task", "step", "--set", "embedding_dim=8", "--set", "min_count=1", "--cells", "lstm")
    return trained("tags", home, tmp_path_factory.mktemp("tags"), *flags, write=write_tags, suffix=".jsonl")


@pytest.fixture(scope="module")
def steps(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    flags = ("--task", "step", "--group-by", "run", "--order-by", "time", "--label", "state", "--cells", "gru")
    return trained("steps", home, tmp_path_factory.mktemp("steps"), *flags, write=write_steps, suffix=".csv")


@pytest.fixture(params=["text", "series", "tags", "steps"])
def model(request: pytest.FixtureRequest) -> Trained:
    found: Trained = request.getfixturevalue(request.param)
    return found


def is_per_step(model: Trained) -> bool:
    return isinstance(model.labels[0], list)


# --- train -> evaluate -> predict


def test_training_says_what_it_does_and_what_to_do_next(model: Trained) -> None:
    lines = model.said.splitlines()
    assert lines[:2] == [f"Loading torch to train on {model.train}", f"Reading {model.train}"]
    assert any(line.startswith("Rule: the one with the best") for line in lines)
    assert any(line.startswith("Chosen: ") for line in lines)
    version = Store(model.home).get(model.name)
    assert lines[-3] == f"Saved {version.reference} in {version.path}"
    assert lines[-2] == f"Report:  gatewise report {version.reference} --open"
    assert lines[-1] == f"Next:    gatewise serve {model.name}      or: gatewise models promote {version.reference}"
    # What the report says of the test split is what the artifact holds.
    told = next(line for line in lines if line.startswith("test: "))
    for name, value in version.metrics["test"].items():
        assert f"{name} {value:.4f}" in told


def test_a_model_has_learnt_what_is_there_to_learn(model: Trained) -> None:
    assert Store(model.home).get(model.name).metrics["test"]["accuracy"] > 0.8


def test_evaluation_gives_the_figures_of_scikit_learn(model: Trained, tmp_path: Path) -> None:
    said = done("evaluate", model.name, model.test, "--json", tmp_path / "figures.json")
    figures = json.loads((tmp_path / "figures.json").read_text())
    predictor = gatewise.load(model.name)
    answers = predictor.predict(model.items, probabilities=True)
    if is_per_step(model):
        truth = [label for row in model.labels for label in row]
        answered = [label for answer in answers for label in answer.labels]
        rows = [list(row.values()) for answer in answers for row in answer.probabilities]
    else:
        truth, answered = model.labels, [answer.label for answer in answers]
        rows = [list(answer.probabilities.values()) for answer in answers]
    classes = list(predictor.manifest.labels)
    order = np.argsort(classes)
    expected = {
        "accuracy": accuracy_score(truth, answered),
        "macro_f1": f1_score(truth, answered, average="macro", zero_division=0),
        "log_loss": log_loss(truth, np.array(rows)[:, order], labels=[classes[k] for k in order]),
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-5)
    assert ("span_f1" in figures) == (model.name == "tags")
    assert (figures["rows"], figures["model"]) == (len(model.items), model.name)
    assert figures["version"] == Store(model.home).get(model.name).version
    for name, value in expected.items():
        assert f"{name:<10} {value:.4f}" in said
    assert said.splitlines()[-1] == f"Next:    gatewise serve {model.name}"


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_predictions_in_a_file_are_the_predictors(model: Trained, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"answers{suffix}"
    said = done("predict", model.name, model.test, "--output", path)
    rows = read_rows(path)
    answers = gatewise.load(model.name).predict(model.items)
    assert said.splitlines()[-1] == f"Next:    gatewise evaluate {model.name} LABELLED_FILE"
    assert f"{len(answers)} rows in" in said
    assert len(rows) == len(answers)
    if model.name == "steps":
        # The file's rows are shuffled: a sequence stands where its first row does.
        ordered = sequences_by_place(model.test)
        answers = [answers[i] for i in ordered]
    for row, answer in zip(rows, answers, strict=True):
        if is_per_step(model):
            assert row["labels"] == answer.labels
            assert row["confidences"] == pytest.approx(answer.confidences, abs=1e-6)
        else:
            assert row["label"] == answer.label
            assert float(row["confidence"]) == pytest.approx(answer.confidence, abs=1e-6)


AS_JSON = ("labels", "confidences", "abstained", "label_set")


def read_rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        return [
            {key: json.loads(value) if key in AS_JSON else value for key, value in row.items()}
            for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("name", ["series", "tags"])
def test_files_hold_label_sets_where_asked_and_abstaining_where_there_is_any(
    name: str, request: pytest.FixtureRequest, tmp_path: Path, suffix: str
) -> None:
    model: Trained = request.getfixturevalue(name)
    artifact, path = Store(model.home).get(model.name).path, tmp_path / f"answers{suffix}"
    plain = gatewise.load(model.name).predict(model.items)
    confidences = [c for answer in plain for c in (answer.confidences if is_per_step(model) else [answer.confidence])]
    abstaining = Abstaining(target_precision=0.9, threshold=float(np.mean(confidences)))
    restate(artifact, tmp_path / "model", abstaining=abstaining, label_sets=LabelSets(coverage=0.9, threshold=0.02))
    done("predict", tmp_path / "model", model.test, "--label-set", "--output", path)
    answers = gatewise.load(str(tmp_path / "model")).predict(model.items, label_set=True)
    rows = read_rows(path)
    assert [row["abstained"] for row in rows] == [answer.abstained for answer in answers]
    assert [row["label_set"] for row in rows] == [answer.label_set for answer in answers]
    flat = [step for row in rows for step in (row["abstained"] if is_per_step(model) else [row["abstained"]])]
    assert set(flat) == {True, False}
    done("predict", model.name, model.test, "--output", path)
    assert not {"abstained", "label_set"} & set(read_rows(path)[0])


# --- the report


def report_of(name: str) -> dict[str, Any]:
    content = Artifact(Store().get(name).path).report("report.json")
    assert content is not None
    fields: dict[str, Any] = json.loads(content)
    return fields


def test_the_report_holds_the_figures_of_the_model_that_answers(model: Trained) -> None:
    version = Store(model.home).get(model.name)
    report, manifest = report_of(model.name), version.manifest
    assert report["metrics"] == version.metrics
    assert report["errors"]["split"] == "test"
    rows = report["data"]["splits"]["test"]["rows"]
    assert rows == manifest["data"]["rows"]["test"]
    right = report["errors"]["correct"]
    assert right["value"] == pytest.approx(version.metrics["test"]["accuracy"])
    assert sum(map(sum, report["errors"]["confusion"]["counts"])) == right["rows"]
    assert sum(c["support"] for c in report["errors"]["classes"]) == right["rows"]
    assert sum(group["sequences"] for group in report["errors"]["lengths"]) == rows
    assert manifest["label_sets"] == {
        name: report["certainty"]["label_sets"][name] for name in ("coverage", "threshold")
    }
    assert manifest["label_sets"]["coverage"] == 0.9
    assert manifest["abstaining"] is None
    assert report["certainty"]["temperature"] == manifest["temperature"]
    assert report["comparison"]["chosen"] in {c["name"] for c in report["comparison"]["candidates"]}
    assert report["data"]["fingerprint"] == manifest["data"]["fingerprint"]


def test_the_reports_pages_are_in_the_artifact_and_name_no_folder(model: Trained) -> None:
    artifact = Artifact(Store(model.home).get(model.name).path)
    for name in ("report.html", "report.json", "model_card.md"):
        content = artifact.report(name)
        assert content is not None
        assert str(model.train.parent).encode() not in content
        assert name in artifact.manifest.files


def test_the_artifact_holds_what_drift_is_measured_against(model: Trained) -> None:
    reference = gatewise.load(model.name).drift_reference()
    assert reference is not None
    answered = reference.histograms["confidence"]
    assert answered.sequences == Store(model.home).get(model.name).manifest["data"]["rows"][answered.source]
    told = f"Drift is measured against {answered.sequences} rows of {answered.source}"
    assert told in model.said
    assert report_of(model.name)["data"]["notes"][-1].startswith(told)
    inputs = {"channel:level", "channel:constant"} if model.name == "steps" else {"channel:0", "channel:1"}
    inputs = inputs if model.name in ("series", "steps") else {"unknown_rate"}
    assert set(reference.histograms) == {"length", "label", "confidence", *inputs}


def test_training_says_how_sure_the_model_is(model: Trained) -> None:
    certainty = report_of(model.name)["certainty"]
    for split in ("valid", "test"):
        found = certainty["calibration"][split]
        assert f"Calibration on {split}: expected error {found['before']:.4f}, with temperature" in model.said
    assert certainty["label_sets"]["sentence"] in model.said


def test_labels_that_were_made_wrong_are_suspects_of_cross_validation(home: Path, tmp_path: Path) -> None:
    _, labels = write_text(tmp_path / "train.csv", seed=0, rows=300)
    lines = (tmp_path / "train.csv").read_text().splitlines()
    wrong = [40, 90, 140, 190, 240, 290]
    for line in wrong:
        text, _, label = lines[line - 1].partition(",")
        lines[line - 1] = f"{text},{'road' if label == 'fruit' else 'fruit'}"
    (tmp_path / "train.csv").write_text("\n".join(lines))
    flags = [
        "--epochs",
        8,
        "--folds",
        3,
        "--no-examples",
        "--target-precision",
        0.8,
        "--cells",
        "gru",
        "--name",
        "noisy",
    ]
    small = ("--set", "embedding_dim=8", "--set", "min_count=1", "--test", tmp_path / "test.csv")
    write_text(tmp_path / "test.csv", seed=1, rows=60)
    said = done("train", tmp_path / "train.csv", "--run-dir", tmp_path / "runs", *flags, *small, *TINY)
    assert [line.partition(":")[0] for line in said.splitlines() if line.startswith("Fold")] == [
        "Fold 1 of 3",
        "Fold 2 of 3",
        "Fold 3 of 3",
    ]
    report = report_of("noisy")
    suspects = report["errors"]["suspects"]
    assert (suspects["source"], suspects["folds"], suspects["rows"]) == ("folds", 3, len(labels))
    assert set(wrong) <= {found["row"] for found in suspects["shown"]}
    assert len(suspects["shown"]) < 3 * len(wrong)
    assert {found["item"] for found in suspects["shown"]} == {None}
    assert "--set examples=false" in report["command"]
    # The target was asked for, so each answer says whether it is given.
    abstaining = Store().get("noisy").manifest["abstaining"]
    [answer] = gatewise.load("noisy").predict(["apple pear the"])
    assert answer.abstained == (abstaining["threshold"] is None or answer.confidence < abstaining["threshold"])
    assert report["certainty"]["abstaining"]["sentence"] in said


def sequences_by_place(path: Path) -> list[int]:
    with path.open(newline="") as file:
        names = [row["run"] for row in csv.DictReader(file)]
    return [int(name[1:]) for name in dict.fromkeys(names)]


def test_predictions_without_a_file_are_json_lines(text: Trained) -> None:
    result = cli("predict", text.name, text.test)
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    answers = gatewise.load(text.name).predict(text.items)
    assert [row["label"] for row in rows] == [answer.label for answer in answers]
    assert [row["row"] for row in rows] == list(range(2, len(answers) + 2))
    assert result.stderr == ""


def test_a_file_without_labels_is_predicted(text: Trained, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("text\n" + "".join(f"{item}\n" for item in text.items))
    rows = [json.loads(line) for line in cli("predict", text.name, tmp_path / "new.csv").stdout.splitlines()]
    assert [row["label"] for row in rows] == [answer.label for answer in gatewise.load(text.name).predict(text.items)]


def test_both_engines_give_the_same_scores(text: Trained, tmp_path: Path) -> None:
    figures = []
    for engine in ("onnx", "torch"):
        done("evaluate", text.name, text.test, "--engine", engine, "--json", tmp_path / f"{engine}.json")
        figures.append(json.loads((tmp_path / f"{engine}.json").read_text()))
    assert figures[0]["accuracy"] == figures[1]["accuracy"]
    assert figures[0]["log_loss"] == pytest.approx(figures[1]["log_loss"], abs=1e-5)


def test_labels_unseen_in_training_are_told_and_count_as_wrong(text: Trained, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,label\napple pear,fruit\ncar wheel,boat\nsweet juice,fruit\nfast car,boat\n")
    said = done("evaluate", text.name, tmp_path / "a.csv", "--json", tmp_path / "f.json")
    assert "note: 2 labels are 'boat', which training never saw; they count as wrong" in said
    assert json.loads((tmp_path / "f.json").read_text())["accuracy"] == 0.5


# --- how training ends


def weights_of(name: str) -> dict[str, np.ndarray]:
    return load_file(Store().get(name).path / "weights.safetensors")


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(text: Trained, tmp_path: Path) -> None:
    common = ["train", text.train, "--run-dir", tmp_path, "--epochs", 1, "--cells", "gru", *TINY]
    for name, seed in [("seed-a", 5), ("seed-b", 5), ("seed-c", 6)]:
        done(*common, "--name", name, "--seed", seed)
    first, again, other = (weights_of(name) for name in ("seed-a", "seed-b", "seed-c"))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["output.weight"], other["output.weight"])


def test_training_whose_time_is_up_ends_with_a_model_that_answers(series: Trained, tmp_path: Path) -> None:
    flags = ["--max-time", "2s", "--epochs", 100_000, "--cells", "lstm,gru", *TINY]
    said = done("train", series.train, "--name", "hurried", "--run-dir", tmp_path, *flags)
    assert said.count("stopped by max_time; the weights of epoch") == 2
    assert gatewise.load("hurried").predict(series.items[:3])
    assert Store().get("hurried").manifest["training"]["stopped_by"] == "max_time"


def test_the_documented_preset_trains_the_documented_model(text: Trained, tmp_path: Path) -> None:
    flags = ["--preset", "documented", "--epochs", 1, "--cells", "lstm", "--accelerator", "cpu"]
    done("train", text.train, "--name", "documented", "--run-dir", tmp_path, *flags)
    shapes = {name: array.shape for name, array in weights_of("documented").items()}
    embedding = shapes.pop("embedding.weight")
    assert shapes == {
        "recurrent.0.left_to_right.weight_ih_l0": (512, embedding[1]),
        "recurrent.0.left_to_right.weight_hh_l0": (512, 128),
        "recurrent.0.left_to_right.bias_ih_l0": (512,),
        "recurrent.0.left_to_right.bias_hh_l0": (512,),
        "dense.0.weight": (64, 128),
        "dense.0.bias": (64,),
        "output.weight": (3, 64),
        "output.bias": (3,),
    }


def test_settings_come_from_a_file_and_flags_win(series: Trained, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('epochs = 7\nhidden_size = 4\ncells = ["lstm"]\n')
    flags = ["--config", tmp_path / "settings.toml", "--set", "hidden_size=5", "--epochs", 1, "--accelerator", "cpu"]
    done("train", series.train, "--name", "set", "--run-dir", tmp_path, *flags)
    config = Store().get("set").manifest["training"]["config"]
    assert (config["epochs"], config["hidden_size"], config["cells"]) == (1, 5, ["lstm"])


def test_a_finished_job_says_so_on_resume(series: Trained) -> None:
    flags = ["--name", "series", "--epochs", 8, "--run-dir", series.train.parent / "runs", *TINY, *series.flags]
    before = [version.version for version in Store().list("series")]
    said = done("train", series.train, *flags, "--resume")
    assert f"This job has finished before: series:{before[0]}" in said
    assert [version.version for version in Store().list("series")] == before


def test_tensorboard_has_the_curves_of_each_cell(series: Trained, tmp_path: Path) -> None:
    flags = ["--epochs", 3, "--tensorboard", "--run-dir", tmp_path, *TINY]
    said = done("train", series.train, "--name", "curves", *flags)
    assert f"Curves:  tensorboard --logdir {tmp_path}/curves" in said
    curves = {
        one["name"]: one["curve"] for one in Store().get("curves").manifest["training"]["comparison"]["candidates"]
    }
    for cell in ("lstm", "gru"):
        [folder] = tmp_path.glob(f"curves/*/{cell}/tensorboard")
        events = EventAccumulator(str(folder)).Reload()
        for name, ours in (
            ("train_loss", "train_loss"),
            ("valid_accuracy", "accuracy"),
            ("valid_log_loss", "valid_loss"),
        ):
            values = [event.value for event in events.Scalars(name)]
            assert values == pytest.approx([point[ours] for point in curves[cell]])


# --- which, and why


def test_the_artifact_keeps_the_whole_comparison(model: Trained) -> None:
    training = Store(model.home).get(model.name).manifest["training"]
    found = training["comparison"]
    figures = Store(model.home).get(model.name).metrics["valid"]
    chosen = next(one for one in found["candidates"] if one["name"] == found["chosen"])
    assert {name: figure["value"] for name, figure in chosen["metrics"].items()} == figures
    for figure in chosen["metrics"].values():
        assert figure["low"] <= figure["value"] <= figure["high"]
    assert len(found["candidates"]) == len(training["candidates"])
    assert [point["epoch"] for point in chosen["curve"]] == list(range(1, 9))
    assert {"train_loss", "valid_loss", "accuracy"} <= chosen["curve"][0].keys()
    assert found["dependency"]["steps"][0] == 1
    assert len(found["sentences"]) == 2
    assert all(sentence in model.said for sentence in found["sentences"])
    assert found["hint"] in model.said
    assert found["search"] is None


def test_two_cells_are_tested_against_each_other(text: Trained) -> None:
    found = Store(text.home).get("text").manifest["training"]["comparison"]
    values = {one["name"]: one["metrics"] for one in found["candidates"]}
    assert {test["metric"] for test in found["tests"]} == {"accuracy", "macro_f1", "log_loss"}
    for test in found["tests"]:
        first, second = test["of"]
        expected = values[first][test["metric"]]["value"] - values[second][test["metric"]]["value"]
        assert test["difference"] == pytest.approx(expected)
        assert test["low"] <= test["difference"] <= test["high"]


def test_finished_models_are_compared_on_a_file(text: Trained, tmp_path: Path) -> None:
    common = ["train", text.train, "--run-dir", tmp_path / "runs", "--set", "min_count=1", *TINY]
    streams = ["--needs-streaming", "--wide", "off", "--seeds", 2, "--sizes", "4,6", "--cells", "gru", "--epochs", 1]
    said = done(*common, "--name", "streams", *streams)
    assert "Training GRU-6 with seed 1 (4 of 4)" in said
    said = done("compare", "text", "streams", text.test, "--json", tmp_path / "f.json")
    found = json.loads((tmp_path / "f.json").read_text())
    done("evaluate", "streams", text.test, "--json", tmp_path / "alone.json")
    alone = json.loads((tmp_path / "alone.json").read_text())
    ours, theirs = found["candidates"]
    assert (ours["name"], theirs["name"], found["rows"]) == ("text", "streams", len(text.items))
    assert theirs["metrics"]["accuracy"]["value"] == alone["accuracy"]
    assert ours["latency"]["step_ms"] is None
    assert theirs["latency"]["step_ms"] > 0
    surer = next(test for test in found["tests"] if test["metric"] == "log_loss")
    assert set(surer["of"]) == {"text", "streams"}
    assert surer["p_value"] < 0.05
    assert said.splitlines()[-1] == f"Next:    gatewise serve {found['chosen']}"
    assert (
        cli("compare", "text", "streams", text.test, "--needs-streaming", "--json", tmp_path / "f.json").exit_code == 0
    )
    within = json.loads((tmp_path / "f.json").read_text())
    assert within["chosen"] == "streams"
    assert within["candidates"][0]["why_not"].startswith("cannot stream")


def test_a_budget_that_no_candidate_keeps_names_the_nearest_and_a_larger_one_goes_on(
    series: Trained, tmp_path: Path
) -> None:
    common = ["train", series.train, "--name", "budget", "--run-dir", tmp_path, "--epochs", 1, *TINY]
    refused(cli(*common, "--max-size-mb", 0.001), 2, "no candidate is within the budgets; the nearest, ")
    said = done(*common, "--max-size-mb", 100, "--resume")
    assert said.count("was finished before") == 2
    assert Store().get("budget").manifest["training"]["comparison"]["budgets"]["max_size_mb"] == 100
    # Another budget is another choice: it is made again, and nothing is trained again.
    refused(cli(*common, "--max-size-mb", 0.001, "--resume"), 2, "no candidate is within the budgets")
    assert "This job has finished before" in done(*common, "--max-size-mb", 100, "--resume")


# --- the store


def test_versions_are_listed_shown_promoted_and_rolled_back(text: Trained, tmp_path: Path) -> None:
    common = ["train", text.train, "--name", "store", "--run-dir", tmp_path, "--epochs", 1, "--cells", "gru", *TINY]
    done(*common)
    done(*common, "--seed", 1)
    newest, first = Store().list("store")
    table = done("models", "list", "store")
    assert [line.split()[3] for line in table.splitlines() if "store" in line] == [newest.version, first.version]
    assert f"store:{first.version} is production now" in done("models", "promote", f"store:{first.version}")
    done("models", "promote", f"store:{newest.version}")
    assert gatewise.load("store:production").version == newest.version
    assert f"store:{first.version} is production again" in done("models", "rollback", "store")
    assert gatewise.load("store:production").version == first.version
    shown = json.loads(done("models", "show", "store:production"))
    assert (shown["version"], shown["labels"]) == (first.version, ["fruit", "road", "sky"])
    assert len(shown["production_history"]) == 3
    assert cli("models", "delete", f"store:{first.version}").exit_code == 4
    done("models", "delete", f"store:{newest.version}")
    assert [version.version for version in Store().list("store")] == [first.version]


def test_an_exported_model_answers_alike_in_another_store(
    text: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = gatewise.load("text").predict(text.items)
    done("models", "export", "text", tmp_path / "text.tar.gz")
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    done("models", "import", tmp_path / "text.tar.gz", "--name", "brought")
    assert gatewise.load("brought").predict(text.items) == expected


def test_imported_keras_models_answer_as_keras_did(home: Path, tmp_path: Path) -> None:
    answers = json.loads((KERAS / "answers.json").read_text())
    words = ["", "[UNK]", *["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]]
    (tmp_path / "words.txt").write_text("\n".join(words) + "\n")
    done("import-keras", KERAS / "gru_sequence.keras", "--labels", "a,b,c", "--channels", "x,y,z")
    done("import-keras", KERAS / "text.keras", "--name", "keras-text", "--vocabulary", tmp_path / "words.txt")
    numbers = gatewise.load("gru-sequence").predict(answers["gru_sequence"]["inputs"])
    texts = [" ".join(words[i] if i > 1 else "unheard" for i in ids) for ids in answers["text"]["inputs"]]
    for found, name in ((numbers, "gru_sequence"), (gatewise.load("keras-text").predict(texts), "text")):
        for answer, expected in zip(found, answers[name]["outputs"], strict=True):
            np.testing.assert_allclose(list(answer.probabilities.values()), expected, rtol=0, atol=1e-5)
    assert list(numbers[0].probabilities) == ["a", "b", "c"]


# --- what goes wrong is one sentence


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--set", "hiden_size=8"], 2, "--set: hiden_size: no such setting"),
        (["--seeds", "0"], 2, "flags: seeds: "),
        (["--sizes", "4,4"], 2, "flags: sizes: a name stands twice"),
        (["--sizes", "many"], 2, "flags: sizes.0: "),
        (["--max-size-mb", "0"], 2, "flags: max_size_mb: "),
        (["--needs-streaming", "--set", "bidirectional=true"], 2, "needs_streaming: bidirectional as you gave it"),
        (["--set", "epochs=none"], 2, "--set: epochs: Input should be a valid integer"),
        (["--set", "epochs"], 2, "--set: 'epochs' is not NAME=VALUE"),
        (["--config", "{folder}/bad.toml"], 2, "{folder}/bad.toml: hiden_size: no such setting"),
        (["--config", "{folder}/none.toml"], 2, "{folder}/none.toml: cannot be read as TOML"),
        (["--cells", "rnn"], 2, "flags: cells.0: Input should be 'lstm' or 'gru'"),
        (["--cells", "gru,gru"], 2, "flags: cells: a name stands twice"),
        (["--epochs", "0"], 2, "flags: epochs: "),
        (["--max-time", "soon"], 2, "--max-time: 'soon' is not a time"),
        (["--max-time", "0s"], 2, "--max-time: '0s' is not a time"),
        (["--name", "My Model"], 2, "name: 'My Model' must be"),
        (["--accelerator", "abacus"], 2, "accelerator, devices"),
        (["--set", "learning_rate=1e30", "--preset", "documented"], 2, "learning_rate: with 1e+30 training diverged"),
        (["--set", "keep=head_tail"], 2, "keep: head_tail is for texts"),
        (["--set", "monitor=span_f1"], 2, "monitor: span_f1 needs BIO tags"),
        (["--label", "klass"], 3, "there is no column 'klass'"),
        (["--valid", "{folder}/none.jsonl"], 3, "{folder}/none.jsonl: there is no such file"),
        (["--valid", "{folder}/other.jsonl"], 3, "none of its labels stands in train"),
    ],
)
def test_what_is_wrong_with_a_training_is_one_line(
    series: Trained, tmp_path: Path, flags: list[str], code: int, message: str
) -> None:
    (tmp_path / "bad.toml").write_text("hiden_size = 8\n")
    (tmp_path / "other.jsonl").write_text(
        '{"series": [[1, 2]], "label": "a"}\n{"series": [[2, 3]], "label": "b"}\n' * 3
    )
    flags = [flag.replace("{folder}", str(tmp_path)) for flag in flags]
    common = ["--set", "hidden_size=4", "--epochs", "1", "--run-dir", tmp_path / "runs"]
    refused(cli("train", series.train, *common, *flags), code, message.replace("{folder}", str(tmp_path)))


def refused(result: Result, code: int, message: str) -> None:
    assert isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.stderr.startswith("error: "), result.output
    assert len(result.stderr.splitlines()) == 1
    assert message in result.stderr
    assert result.exit_code == code


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("train {folder}/none.csv", 3, "there is no such file"),
        ("train {folder}/empty.csv", 3, "is empty"),
        ("train {folder}/one.csv", 3, "one.csv: "),
        ("predict nobody {text}", 4, "there is no model 'nobody' in the store"),
        ("predict text:nothing {text}", 4, "nothing"),
        ("predict {folder} {text}", 4, "manifest.json"),
        ("predict text {folder}/none.csv", 3, "there is no such file"),
        (
            "predict text {text} --output {folder}/answers.txt",
            2,
            "--output: {folder}/answers.txt does not end in one of",
        ),
        ("predict text {text} --output {folder}/no/answers.csv", 2, "--output: there is no folder {folder}/no"),
        ("predict series {text}", 3, "{text}: "),
        ("predict text {series}", 3, "{series}: "),
        ("predict text {text} --engine torch --device abacus", 2, "device: 'abacus' cannot be used"),
        ("evaluate series {text}", 3, "{text}: "),
        ("evaluate text {unlabelled}", 3, "label"),
        ("evaluate text {text} --json {folder}/no/f.json", 2, "--json: there is no folder {folder}/no"),
        ("compare text {text}", 2, "MODEL: give two or more to compare"),
        ("compare text text {text}", 2, "MODEL: one is named twice"),
        ("compare text series {text}", 2, "MODEL: series and text answer with different labels"),
        ("evaluate text {text} --sequence klass", 3, "there is no column 'klass'"),
        ("models show nobody", 4, "there is no model 'nobody'"),
        ("models list nobody", 4, "no model 'nobody' in the store"),
        ("models promote nobody", 4, "there is no model 'nobody'"),
        ("models rollback nobody", 4, "there is no model 'nobody'"),
        ("models import {folder}/none.tar.gz", 4, "does not exist"),
        ("import-keras {folder}/none.keras", 3, "there is no such file"),
        ("import-keras {text}", 3, "is not a .keras file"),
        ("import-keras {keras}/text.keras", 2, "--vocabulary: the model takes token ids"),
        ("import-keras {keras}/gru_sequence.keras --labels a,b", 2, "--labels: 2 names for 3 classes"),
    ],
)
def test_what_is_wrong_with_a_command_is_one_line(
    text: Trained, series: Trained, tmp_path: Path, arguments: str, code: int, message: str
) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "one.csv").write_text("text,label\na,x\nb,x\nc,x\n")
    (tmp_path / "unlabelled.csv").write_text("text\napple pear\ncar wheel\n")
    places = {
        "folder": tmp_path,
        "text": text.test,
        "series": series.test,
        "keras": KERAS,
        "unlabelled": tmp_path / "unlabelled.csv",
    }
    refused(cli(*[part.format(**places) for part in arguments.split()]), code, message.format(**places))


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_a_row_that_the_model_does_not_take_leaves_the_output_as_it_was(
    series: Trained, tmp_path: Path, suffix: str
) -> None:
    rows = [{"series": item} for item in [*series.items, [[1.0, None], [2.0, 3.0]], [[1.0, 2.0]]]]
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / f"answers{suffix}"
    output.write_bytes(b"of yesterday")
    result = cli("predict", "series", tmp_path / "new.jsonl", "--output", output)
    refused(result, 3, f"new.jsonl, row {len(series.items) + 1}")
    assert "a reading is missing" in result.stderr
    assert output.read_bytes() == b"of yesterday"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([output.name, "new.jsonl"])


# --- in processes of their own


def in_a_process(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "BENTOML_HOME": str(home), "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)


@pytest.mark.slow
def test_two_processes_train_and_register_one_model(series: Trained, tmp_path: Path) -> None:
    flags = ["--epochs", 3, "--run-dir", tmp_path / "runs", "--name", "shared", *TINY]
    devices = ["--devices", 2, "--strategy", "ddp"]
    result = in_a_process(tmp_path / "home", "-m", "training", series.train, *flags, *devices)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    store = Store(tmp_path / "home")
    [version] = store.list("shared")
    assert result.stdout.splitlines()[-3] == f"Saved {version.reference} in {version.path}"
    # One process speaks, and both cells are trained by both.
    assert [line.split("  ")[1] for line in result.stdout.splitlines() if " epoch " in line] == [
        f"{cell} epoch {epoch}/3" for cell in ("lstm", "gru") for epoch in (1, 2, 3)
    ]
    assert gatewise.load(str(version.path)).predict(series.items[:3])


def test_an_error_in_a_process_of_its_own_has_no_traceback(tmp_path: Path) -> None:
    result = in_a_process(tmp_path, "-m", "gatewise.cli", "predict", "nobody", "nothing.csv")
    assert result.returncode == 4
    assert result.stderr.startswith("error: there is no model 'nobody'")
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
