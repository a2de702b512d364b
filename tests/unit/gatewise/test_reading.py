"""How commands read a labelled file for a finished model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gatewise.commands.reading import stream_as_trained
from gatewise.errors import InvalidData


def predictor(kind: str = "text", task: str = "sequence") -> Any:
    manifest = SimpleNamespace(kind=kind, task=task, labels=("LOC", "NUM"), channels=None, training={})
    return SimpleNamespace(manifest=manifest)


def written(folder: Path, *labels: str) -> str:
    path = folder / "questions.csv"
    path.write_text("text,label,fine\n" + "".join(f"How far is it ?,{label},x:{label}\n" for label in labels))
    return str(path)


def test_labels_none_of_which_the_model_knows_are_an_error_with_the_mend(tmp_path: Path) -> None:
    data = written(tmp_path, "NUM", "LOC")
    with pytest.raises(InvalidData) as error:
        list(stream_as_trained(predictor(), data, {"label": "fine"}, labelled=True))
    assert error.value.message == (
        f"{data}: the model knows none of its labels, such as 'x:LOC', 'x:NUM'; it answers 'LOC', 'NUM'. "
        "Name the column of the labels with --label COL"
    )


def test_labels_of_steps_are_held_to_the_models_too(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    path.write_text('{"tokens": ["a", "b"], "tags": ["O", "B-x"]}\n')
    with pytest.raises(InvalidData, match="the model knows none of its labels, such as 'B-x', 'O'"):
        list(stream_as_trained(predictor(task="step"), str(path), {}, labelled=True))


def test_rows_of_a_new_label_are_read_beside_those_of_a_known_one(tmp_path: Path) -> None:
    data = written(tmp_path, "HUM", "HUM", "NUM")
    [piece] = stream_as_trained(predictor(), data, {}, labelled=True)
    assert piece.labels == ["HUM", "HUM", "NUM"]


def test_labels_are_nothing_to_a_file_that_is_only_predicted(tmp_path: Path) -> None:
    [piece] = stream_as_trained(predictor(), written(tmp_path, "HUM"), {}, labelled=False)
    assert (piece.items, piece.labels) == (["How far is it ?"], None)
