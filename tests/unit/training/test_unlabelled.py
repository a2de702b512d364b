"""Files of sequences without labels: how they are read, what is left out, and what is said of wrong ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.errors import InvalidConfig, InvalidData
from training.data import EncodedDataset
from training.readers import ReadOptions
from training.splits import Splits, read_splits
from training.unlabelled import pretraining_rows, read_unlabelled

TEXTS = {"train": ["a b", "c d", "e f", "g h"], "valid": ["i j", "k l"], "test": ["m n", "o p"]}


def write_csv(path: Path, texts: list[str], label: str | None = "label") -> str:
    head = f"text,{label}\n" if label else "text\n"
    path.write_text(head + "".join(f"{text},{'xy'[i % 2]}\n" if label else f"{text}\n" for i, text in enumerate(texts)))
    return str(path)


def text_splits(folder: Path) -> Splits:
    files = {part: write_csv(folder / f"{part}.csv", texts) for part, texts in TEXTS.items()}
    return read_splits(files["train"], valid=files["valid"], test=files["test"])


def write_series(path: Path, items: list[Any], labels: bool = True, column: str = "series") -> str:
    rows = [{column: item, **({"label": "xy"[i % 2]} if labels else {})} for i, item in enumerate(items)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def series(count: int, channels: int, seed: int) -> list[Any]:
    return np.random.default_rng(seed).normal(size=(count, 4, channels)).round(2).tolist()


def series_splits(folder: Path) -> Splits:
    train, valid = (
        write_series(folder / "train.jsonl", series(8, 2, 0)),
        write_series(folder / "v.jsonl", series(4, 2, 1)),
    )
    return read_splits(train, valid=valid, test=valid)


def test_what_stands_in_valid_or_test_is_left_out_and_what_stands_in_train_is_read_there(tmp_path: Path) -> None:
    splits = text_splits(tmp_path)
    path = write_csv(tmp_path / "more.csv", ["new 1", "a b", "i j", "m n", "new 2", "o p"], label=None)
    read = read_unlabelled(path, splits, ReadOptions())
    assert read.items() == ["new 1", "new 2"]
    assert read.data is not None
    assert read.data.rows.tolist() == [2, 6]
    assert read.notes == [
        f"{path}: 6 sequences without labels, 2 of them in none of the splits.",
        "3 of them stand in valid or test and are left out of pretraining.",
    ]
    assert read.card == {"source": "more.csv", "rows": 6, "new_rows": 2}


def test_labels_and_other_columns_of_the_file_are_passed_over(tmp_path: Path) -> None:
    splits = text_splits(tmp_path)
    for label in ("label", None):
        path = write_csv(tmp_path / "more.csv", ["new 1", "new 2"], label=label)
        assert read_unlabelled(path, splits, ReadOptions()).items() == ["new 1", "new 2"]
        assert read_unlabelled(path, splits, ReadOptions(sequence="text", label="label")).items() == ["new 1", "new 2"]


def test_the_columns_are_those_of_the_train_file_where_nothing_is_said(tmp_path: Path) -> None:
    rows = [{"title": f"t{i}", "body": f"b{i} c", "label": "xy"[i % 2]} for i in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    splits = read_splits(tmp_path / "train.jsonl", options=ReadOptions(sequence="title"))
    (tmp_path / "more.jsonl").write_text(json.dumps({"body": "b", "title": "t"}) + "\n")
    assert read_unlabelled(str(tmp_path / "more.jsonl"), splits, ReadOptions()).items() == ["t"]


def test_a_plain_file_holds_a_text_a_line(tmp_path: Path) -> None:
    splits = text_splits(tmp_path)
    (tmp_path / "more.txt").write_text("One, two.\n\n  three  \r\na b\n")
    read = read_unlabelled(str(tmp_path / "more.txt"), splits, ReadOptions())
    assert read.items() == ["One, two.", "three"]
    assert read.data is not None
    assert read.data.rows.tolist() == [1, 3]


def test_a_file_that_has_nothing_new_leaves_train_alone(tmp_path: Path) -> None:
    read = read_unlabelled(write_csv(tmp_path / "m.csv", TEXTS["train"]), text_splits(tmp_path), ReadOptions())
    assert (read.data, read.items()) == (None, [])


def test_series_are_read_with_the_channels_of_train(tmp_path: Path) -> None:
    splits = series_splits(tmp_path)
    items = series(3, 2, 5)
    read = read_unlabelled(write_series(tmp_path / "m.jsonl", items, labels=False), splits, ReadOptions())
    np.testing.assert_allclose(np.stack(read.items()), items, rtol=1e-6)


def test_groups_are_not_asked_of_it(tmp_path: Path) -> None:
    rows = [{"text": f"t{i}", "label": "xy"[i % 2], "who": i // 4} for i in range(40)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ReadOptions(group_by="who")
    splits = read_splits(tmp_path / "train.jsonl", options=options)
    assert read_unlabelled(write_csv(tmp_path / "m.csv", ["u"], label=None), splits, options).items() == ["u"]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("m.csv", "title,score\nx,1\ny,2\n", "m.csv: there is no column 'text'; the columns are title"),
        ("m.csv", "", "m.csv: is empty"),
        ("m.txt", "\n \n", "m.txt: is empty. Give a file with a text on each line"),
        ("m.xyz", "hello\n", "m.xyz: is in no format that is read here"),
    ],
)
def test_a_wrong_file_of_texts_is_named_with_the_mend(tmp_path: Path, name: str, content: str, told: str) -> None:
    (tmp_path / name).write_text(content)
    splits = text_splits(tmp_path)
    with pytest.raises(InvalidData) as error:
        read_unlabelled(str(tmp_path / name), splits, ReadOptions(sequence="text"))
    assert told in error.value.message
    with pytest.raises(InvalidData, match="there is no such file"):
        read_unlabelled(str(tmp_path / "none.csv"), splits, ReadOptions())


def test_a_wrong_number_of_channels_is_named(tmp_path: Path) -> None:
    splits = series_splits(tmp_path)
    path = write_series(tmp_path / "m.jsonl", series(3, 3, 5), labels=False)
    with pytest.raises(InvalidData, match=r"m\.jsonl, row 1.*2 channels"):
        read_unlabelled(path, splits, ReadOptions())


def test_texts_are_no_series(tmp_path: Path) -> None:
    splits = series_splits(tmp_path)
    with pytest.raises(InvalidData, match=r"m\.csv"):
        read_unlabelled(write_csv(tmp_path / "m.csv", ["a", "b"], label=None), splits, ReadOptions())
    (tmp_path / "m.txt").write_text("a\n")
    with pytest.raises(InvalidConfig, match=r"^--unlabelled: .*m\.txt is plain text, and the sequences are series"):
        read_unlabelled(str(tmp_path / "m.txt"), splits, ReadOptions())


def test_the_rows_of_both_are_learnt_from_but_for_some_that_are_held_out() -> None:
    train = EncodedDataset([np.array([i]) for i in range(60)], [0] * 60)
    rows, held_out = pretraining_rows(train, [np.array([i]) for i in range(60, 200)], None, seed=0)
    assert (len(rows), len(held_out)) == (190, 10)
    assert sorted(int(row[0]) for row in [*rows.inputs, *held_out.inputs]) == list(range(200))
    again, other = (pretraining_rows(train, [], None, seed=seed)[1].inputs for seed in (0, 1))
    assert [int(row[0]) for row in again] != [int(row[0]) for row in other]


def test_long_rows_are_cut_into_windows_and_nothing_is_lost() -> None:
    train = EncodedDataset([np.arange(10), np.arange(100, 103)], [0, 0])
    rows, held_out = pretraining_rows(train, [np.arange(200, 208)], 4, seed=0)
    pieces = sorted((row.tolist() for row in [*rows.inputs, *held_out.inputs]), key=lambda piece: piece[0])
    assert pieces == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [100, 101, 102], [200, 201, 202, 203], [204, 205, 206, 207]]
