"""Predictions to files and scores, against probabilities that the numpy reference works out row by row."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from gatewise.errors import InvalidConfig, InvalidData
from gatewise.predictor import Predictor
from gatewise.timeseries import TimeSeriesEncoderConfig
from tests.artifacts import Made, make_series, make_text, reseal
from training.dataset import Dataset
from training.evaluation import score
from training.metrics import classification, span_f1
from training.readers import ReadOptions, stream
from training.scoring import predict_pieces, write_predictions

LABELS = ("down", "flat", "up")
TWO_CHANNELS = TimeSeriesEncoderConfig(channels=("a", "b"), mean=(0.0, 0.0), scale=(1.0, 1.0))
TEXTS = ["the moon", "is the cat far away ?", "a dog", "", "the cat sat on the mat", "far far away", "dog"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_text(tmp_path_factory.mktemp("text") / "artifact")


@pytest.fixture(scope="module")
def tags(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_text(tmp_path_factory.mktemp("tags") / "artifact", head="step")


def pieces_of(made: Made, items: list[Any], labels: list[Any] | None = None, *, size: int = 3) -> list[Dataset]:
    config = made.config
    whole = Dataset(config.kind, config.task, items, labels, None, None, "here.csv", 10 * np.arange(len(items)))
    return [whole.take(range(i, min(i + size, len(items)))) for i in range(0, len(items), size)]


def written(made: Made, items: list[Any], path: Path) -> int:
    predictor = Predictor.load(made.folder)
    return write_predictions(predict_pieces(predictor, iter(pieces_of(made, items))), predictor, str(path))


def test_pieces_answer_as_the_whole_does_and_in_order(text: Made) -> None:
    predictor = Predictor.load(text.folder)
    told: list[int] = []
    rows = [row for piece in predict_pieces(predictor, pieces_of(text, TEXTS), told.append) for row in piece]
    assert [row["row"] for row in rows] == [0, 10, 20, 30, 40, 50, 60]
    assert told == [3, 6, 7]
    for row, answer, item in zip(rows, predictor.predict(TEXTS), TEXTS, strict=True):
        expected = text.probabilities(item)
        assert row["label"] == answer.label == LABELS[int(expected.argmax())]
        np.testing.assert_allclose(list(row["probabilities"].values()), expected, atol=1e-5)
        assert list(row["probabilities"]) == list(LABELS)
        assert row["confidence"] == max(row["probabilities"].values())


def test_a_file_is_read_in_pieces_and_answered_as_a_whole(text: Made, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = [" ".join(rng.choice(["the", "cat", "moon", "far", "?"], size=n)) for n in rng.integers(1, 9, size=257)]
    (tmp_path / "items.csv").write_text("text\n" + "".join(f"{item}\n" for item in items))
    predictor = Predictor.load(text.folder)
    found = stream(tmp_path / "items.csv", ReadOptions(kind="text", task="sequence"), labelled=False, rows=50)
    rows = [row for piece in predict_pieces(predictor, found) for row in piece]
    assert [row["row"] for row in rows] == list(range(2, 259))
    whole = predictor.predict(items)
    np.testing.assert_allclose(
        [list(row["probabilities"].values()) for row in rows],
        [list(answer.probabilities.values()) for answer in whole],
        atol=1e-6,
    )


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_form_holds_the_same_answers(text: Made, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"answers{suffix}"
    assert written(text, TEXTS, path) == len(TEXTS)
    if suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file, delimiter="," if suffix == ".csv" else "\t"))
        for row in rows:
            row["probabilities"] = {label: float(row.pop(f"probability_{label}")) for label in LABELS}
    assert [int(row["row"]) for row in rows] == [0, 10, 20, 30, 40, 50, 60]
    for row, item in zip(rows, TEXTS, strict=True):
        expected = text.probabilities(item)
        assert row["label"] == LABELS[int(expected.argmax())]
        assert float(row["confidence"]) == pytest.approx(expected.max(), abs=1e-5)
        assert row["probabilities"] == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_answers_for_each_step_stand_in_lists(tags: Made, tmp_path: Path, suffix: str) -> None:
    items = [["the", "moon"], ["a", "dog", "far", "away"], ["cat"]]
    path = tmp_path / f"answers{suffix}"
    assert written(tags, items, path) == 3
    if suffix == ".parquet":
        rows = pq.read_table(path).to_pylist()
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        with path.open(newline="") as file:
            rows = [{key: json.loads(value) for key, value in row.items()} for row in csv.DictReader(file)]
    for row, item in zip(rows, items, strict=True):
        expected = tags.probabilities(item)
        assert row["labels"] == [LABELS[k] for k in expected.argmax(axis=1)]
        assert row["confidences"] == pytest.approx(expected.max(axis=1).tolist(), abs=1e-5)
        if suffix != ".csv":
            assert row["tokens"] == item


def test_without_a_file_the_answers_are_json_lines_on_the_standard_output(
    text: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(output, write_through=True))
    predictor = Predictor.load(text.folder)
    assert write_predictions(predict_pieces(predictor, iter(pieces_of(text, TEXTS))), predictor, None) == len(TEXTS)
    rows = [json.loads(line) for line in output.getvalue().splitlines()]
    assert [row["row"] for row in rows] == [0, 10, 20, 30, 40, 50, 60]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_row_that_the_model_does_not_take_leaves_the_file_as_it_was(tmp_path: Path, suffix: str) -> None:
    made = make_series(tmp_path / "artifact", encoder=TWO_CHANNELS)
    path = tmp_path / f"answers{suffix}"
    path.write_bytes(b"of yesterday")
    items = [np.ones((4, 2), np.float32) for _ in range(7)]
    items[5] = np.array([[1, 2], [3, np.nan]], dtype=np.float32)
    with pytest.raises(InvalidData, match=r"here\.csv, row 50.*at \[1, 1\]: a reading is missing"):
        written(made, items, path)
    assert path.read_bytes() == b"of yesterday"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, "artifact"]


@pytest.mark.parametrize(("name", "message"), [("answers.txt", "does not end in one of"), ("no/a.csv", "no folder")])
def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    text: Made, tmp_path: Path, name: str, message: str
) -> None:
    def pieces() -> Any:
        raise AssertionError("read")
        yield

    with pytest.raises(InvalidConfig, match=rf"^--output: .*{message}"):
        write_predictions(pieces(), Predictor.load(text.folder), str(tmp_path / name))


def test_a_score_is_that_of_the_references_probabilities(text: Made) -> None:
    truth = ["up", "down", "new", "flat", "up", "up", "down"]
    expected = np.stack([text.probabilities(item) for item in TEXTS])
    scores = score(Predictor.load(text.folder), pieces_of(text, TEXTS, truth))
    answers = [LABELS[k] for k in expected.argmax(axis=1)]
    assert scores.metrics == pytest.approx(classification(truth, answers, expected, LABELS), abs=1e-5)
    assert scores.rows == len(TEXTS)
    assert scores.unseen == {"new": 1}
    assert scores.correct.tolist() == [
        float(LABELS[k] == t) for k, t in zip(expected.argmax(axis=1), truth, strict=True)
    ]


def test_a_score_of_steps_counts_each_step(tags: Made) -> None:
    items = [["the", "moon"], ["a", "dog", "far", "away"]]
    truth = [["up", "down"], ["flat", "flat", "up", "down"]]
    expected = [tags.probabilities(item) for item in items]
    scores = score(Predictor.load(tags.folder), pieces_of(tags, items, truth))
    answers = [LABELS[k] for p in expected for k in p.argmax(axis=1)]
    assert scores.metrics == pytest.approx(
        classification([label for row in truth for label in row], answers, np.concatenate(expected), LABELS), abs=1e-5
    )
    shares = [
        np.mean([LABELS[k] == label for k, label in zip(p.argmax(axis=1), row, strict=True)])
        for p, row in zip(expected, truth, strict=True)
    ]
    assert scores.correct.tolist() == pytest.approx(shares)


def test_a_chain_of_tags_is_scored_by_its_best_tags_together(tmp_path: Path) -> None:
    made = make_text(tmp_path / "artifact", head="chain")
    reseal(made.folder, labels=["B-x", "I-x", "O"])
    random = np.random.default_rng(0)
    items = [
        random.choice(["the", "moon", "is", "far", "zyx"], size=n).tolist() for n in random.integers(1, 8, size=30)
    ]
    tags = ("B-x", "I-x", "O")
    truth = [[str(tag) for tag in random.choice(tags, size=len(item))] for item in items]
    answers = [[tags[k] for k in made.classes(item)] for item in items]
    marginals = [made.probabilities(item) for item in items]
    one_by_one = [[tags[k] for k in p.argmax(axis=1)] for p in marginals]
    assert answers != one_by_one
    scores = score(Predictor.load(made.folder), pieces_of(made, items, truth))
    flat = [tag for row in truth for tag in row]
    expected = classification(flat, [tag for row in answers for tag in row], np.concatenate(marginals), tags)
    assert scores.metrics == pytest.approx(expected | {"span_f1": span_f1(truth, answers)}, abs=1e-5)
    assert span_f1(truth, answers) != pytest.approx(span_f1(truth, one_by_one), abs=1e-5)
    shares = [np.mean([a == b for a, b in zip(*pair, strict=True)]) for pair in zip(truth, answers, strict=True)]
    assert scores.correct.tolist() == pytest.approx(shares)


def test_a_linear_branch_is_part_of_the_score(tmp_path: Path) -> None:
    made = make_text(tmp_path / "artifact", wide_buckets=61, wide_order=3)
    truth = ["up", "down", "flat", "flat", "up", "up"]
    items = list(TEXTS[:6])
    expected = np.stack([made.probabilities(item) for item in items])
    answers = [LABELS[k] for k in expected.argmax(axis=1)]
    scores = score(Predictor.load(made.folder), pieces_of(made, items, truth))
    assert scores.metrics == pytest.approx(classification(truth, answers, expected, LABELS), abs=1e-5)


def test_a_row_that_cannot_be_scored_is_named(tmp_path: Path) -> None:
    made = make_series(tmp_path / "artifact", encoder=TWO_CHANNELS)
    items = [np.ones((4, 2), np.float32), np.ones((4, 3), np.float32)]
    with pytest.raises(InvalidData, match=r"here\.csv, row 10.*expected shape \(timesteps, 2\), got \(4, 3\)"):
        score(Predictor.load(made.folder), pieces_of(made, items, ["up", "down"]))


def test_there_must_be_rows_to_score(text: Made) -> None:
    with pytest.raises(InvalidData, match="no rows to score"):
        score(Predictor.load(text.folder), [])
