"""What is divided keeps every class, keeps like items together, and says what it did."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.errors import InvalidConfig, InvalidData
from training.dataset import Dataset
from training.readers import ReadOptions
from training.splits import Splits, read_splits


def write(path: Path, rows: list[tuple[Any, ...]], header: str = "text,label") -> Path:
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return path


def texts(count: int, classes: int = 2, prefix: str = "t") -> list[tuple[Any, ...]]:
    return [(f"{prefix}{i}", f"c{i % classes}") for i in range(count)]


def parts(splits: Splits) -> list[Dataset]:
    return [part for part in (splits.train, splits.valid, splits.test) if part is not None]


def test_one_file_is_divided_80_10_10_with_like_shares_of_each_class(tmp_path: Path) -> None:
    rows = [(f"t{i}", "rare" if i % 10 == 0 else "common") for i in range(1000)]
    splits = read_splits(write(tmp_path / "a.csv", rows))
    assert [len(part) for part in parts(splits)] == [800, 100, 100]
    assert [Counter(part.labels)["rare"] for part in parts(splits)] == [80, 10, 10]
    assert sorted(row for part in parts(splits) for row in part.rows) == list(range(2, 1002))
    assert splits.test_in_train is not None
    assert not splits.test_in_train.any()


def test_the_same_seed_divides_alike_and_another_does_not(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", texts(200))
    first, again, other = (read_splits(path, seed=seed) for seed in (3, 3, 4))
    assert first.valid.items == again.valid.items
    assert first.valid.items != other.valid.items


@pytest.mark.parametrize("count", [4, 6, 12, 13, 30])
def test_small_files_keep_every_class_in_train(tmp_path: Path, count: int) -> None:
    splits = read_splits(write(tmp_path / "a.csv", texts(count)))
    assert set(splits.train.labels or ()) == {"c0", "c1"}
    assert len(splits.valid) >= 1
    assert sum(map(len, parts(splits))) == count
    if count >= 12:
        assert all(set(part.labels or ()) == {"c0", "c1"} for part in parts(splits))


def test_a_class_with_one_row_goes_to_train(tmp_path: Path) -> None:
    for seed in range(5):
        splits = read_splits(write(tmp_path / "a.csv", [*texts(40), ("only", "single")]), seed=seed)
        assert "only" in splits.train.items


def test_many_classes_of_two_rows_still_give_a_valid_part(tmp_path: Path) -> None:
    splits = read_splits(write(tmp_path / "a.csv", texts(60, classes=30)))
    assert len(set(splits.train.labels or ())) == 30
    assert len(splits.valid) == 6


def test_items_of_the_same_content_stay_together(tmp_path: Path) -> None:
    rows = [(f"t{i % 150}", f"c{i % 2}") for i in range(600)]
    splits = read_splits(write(tmp_path / "a.csv", rows))
    contents = [set(part.items) for part in parts(splits)]
    assert len(set.union(*contents)) == sum(map(len, contents)) == 150
    assert any("450 of the 600 items" in note for note in splits.notes)
    assert abs(len(splits.valid) - 60) <= 4


def test_groups_stay_whole(tmp_path: Path) -> None:
    rows = [(f"t {i}", f"c{i % 3}", f"u{i % 23}") for i in range(400)]
    path = write(tmp_path / "a.csv", rows, "text,label,user")
    splits = read_splits(path, options=ReadOptions(group_by="user"))
    groups = [set(part.groups or ()) for part in parts(splits)]
    assert sum(map(len, groups)) == 23
    assert all(len(part) >= 17 for part in parts(splits))
    assert all(len(set(part.labels or ())) == 3 for part in parts(splits))


def test_a_single_group_cannot_be_divided(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", [(f"t {i}", f"c{i % 2}", "u") for i in range(40)], "text,label,user")
    with pytest.raises(InvalidData, match="--valid"):
        read_splits(path, options=ReadOptions(group_by="user"))


def test_a_test_file_is_never_divided_nor_taken_from(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", texts(100))
    write(tmp_path / "test.csv", texts(9, prefix="x"))
    splits = read_splits(tmp_path)
    assert [len(part) for part in parts(splits)] == [90, 10, 9]
    assert splits.test is not None
    assert splits.test.items == [f"x{i}" for i in range(9)]


def test_a_valid_file_without_a_test_file_gives_no_test(tmp_path: Path) -> None:
    train, valid = write(tmp_path / "a.csv", texts(50)), write(tmp_path / "b.csv", texts(9, prefix="x"))
    splits = read_splits(train, valid=valid)
    assert (len(splits.train), len(splits.valid), splits.test, splits.test_in_train) == (50, 9, None, None)
    assert any("no test score" in note for note in splits.notes)


def test_duplicates_unseen_labels_and_conflicts_are_told(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", [*texts(50), ("t0", "c1")])
    write(tmp_path / "dev.csv", texts(4, prefix="v"))
    write(tmp_path / "test.csv", [("t1", "c1"), ("new", "c0"), ("t2", "c9")])
    splits = read_splits(tmp_path)
    assert splits.test_in_train is not None
    assert splits.test_in_train.tolist() == [True, False, True]
    told = " ".join(splits.notes)
    assert "2 of 3 test items stand in train too" in told
    assert "1 test items have labels that train has none of" in told
    assert "'c9'" in told
    assert "1 contents stand in train more than once with labels that disagree" in told


def test_what_valid_took_from_the_training_file_counts_as_seen(tmp_path: Path) -> None:
    write(tmp_path / "train.csv", texts(50))
    write(tmp_path / "test.csv", texts(50))
    splits = read_splits(tmp_path)
    assert splits.test_in_train is not None
    assert splits.test_in_train.all()


@pytest.mark.parametrize(
    ("names", "part"),
    [
        (["train_a.csv", "train_b.csv"], "Give one of them as the data"),
        (["train.csv", "valid.csv", "dev.csv"], "--valid"),
        (["train.csv", "test_1.csv", "test_2.csv"], "--test"),
        (["a.csv", "b.csv"], "no training file"),
        ([], "the folder is empty"),
    ],
)
def test_a_folder_whose_files_leave_it_open_is_refused(tmp_path: Path, names: list[str], part: str) -> None:
    for name in names:
        write(tmp_path / name, texts(20))
    with pytest.raises(InvalidData, match=part):
        read_splits(tmp_path)


def test_archive_names_of_files_are_known(tmp_path: Path) -> None:
    write(tmp_path / "Questions_TRAIN.csv", texts(20))
    write(tmp_path / "Questions_TEST.csv", texts(5))
    (tmp_path / "README.md").write_text("train and test")
    assert len(read_splits(tmp_path).test or ()) == 5


def test_the_only_file_of_a_folder_is_the_data(tmp_path: Path) -> None:
    write(tmp_path / "sms.csv", texts(20))
    assert len(read_splits(tmp_path).train) == 16


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([("a", "x")], "a single row"),
        ([("a", "x"), ("b", "x"), ("c", "x")], "every label is 'x'"),
        ([(f"t{i}", f"c{i}") for i in range(30)], "a label of its own"),
        ([(f"t{i}", i // 2 + 0.5) for i in range(100)], "looks like a quantity"),
        ([("a", "x"), ("b", "y")], "too few"),
    ],
)
def test_labels_that_are_no_classes_are_refused(tmp_path: Path, rows: list[tuple[Any, ...]], part: str) -> None:
    with pytest.raises(InvalidData, match=part):
        read_splits(write(tmp_path / "a.csv", rows))


def test_fractions_must_leave_something_to_train_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", texts(20))
    with pytest.raises(InvalidConfig, match="valid_fraction"):
        read_splits(path, valid_fraction=0)
    with pytest.raises(InvalidConfig, match="test_fraction"):
        read_splits(path, valid_fraction=0.5, test_fraction=0.5)
    assert read_splits(path, test_fraction=0).test is None


def test_one_long_sequence_is_cut_into_blocks_of_its_own_steps(tmp_path: Path) -> None:
    rows = [(t, t / 2, int(t % 97 > 50)) for t in range(2000)]
    options = ReadOptions(order_by="t", label="y")
    path, other = (write(tmp_path / name, rows, "t,v,y") for name in ("a.csv", "b.csv"))
    splits = read_splits(path, test=other, options=options)
    blocks = [*splits.train.items, *splits.valid.items]
    assert [len(block) for block in blocks] == [100] * 20
    assert len(splits.valid) == 2
    assert sorted(float(v) for block in blocks for v in block[:, 0]) == [t / 2 for t in range(2000)]
    for block, labels in zip(splits.train.items, splits.train.labels or (), strict=True):
        assert [str(int(2 * v % 97 > 50)) for v in block[:, 0]] == labels
    assert splits.test is not None
    assert [len(item) for item in splits.test.items] == [2000]
    assert "20 blocks of 100 consecutive steps" in splits.notes[0]
    alone = read_splits(path, options=options)
    assert [len(part) for part in parts(alone)] == [16, 2, 2]


@pytest.mark.parametrize("steps", [5, 40, 70, 3000])
def test_sequences_of_any_length_are_cut_without_losing_a_step(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "a.jsonl"
    records = ({"x": list(range(k, k + steps)), "y": [i % 2 for i in range(steps)]} for k in range(3))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    splits = read_splits(path)
    assert sum(len(item) for part in parts(splits) for item in part.items) == 3 * steps


def test_tags_of_every_kind_stay_in_train(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tags = [["O", *(f"T{int(k)}" for k in rng.geometric(0.3, 3))] for _ in range(80)]
    path = tmp_path / "a.jsonl"
    records = ({"tokens": [f"w{i}", "b", "c", "d"], "tags": row} for i, row in enumerate(tags))
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    splits = read_splits(path)
    assert frozenset().union(*splits.train.label_sets()) == {tag for row in tags for tag in row}


def test_sister_files_are_read_as_the_first_one_was(tmp_path: Path) -> None:
    body = [(f"some longer headline {i}", "ab"[i % 2]) for i in range(20)]
    write(tmp_path / "train.csv", body, "headline,topic")
    write(tmp_path / "test.csv", body[:1], "headline,topic")
    splits = read_splits(tmp_path)
    assert splits.test is not None
    assert splits.test.labels == ["a"]


def test_series_with_other_channels_in_the_test_file_are_refused(tmp_path: Path) -> None:
    for name, width in (("train.jsonl", 2), ("test.jsonl", 3)):
        rows = [json.dumps({"x": [[i] * width], "y": i % 2}) for i in range(12)]
        (tmp_path / name).write_text("\n".join(rows))
    with pytest.raises(InvalidData, match="3 channels where"):
        read_splits(tmp_path)


def test_a_split_knows_whether_its_validation_rows_were_taken_from_the_train_file(tmp_path: Path) -> None:
    body = [(f"some longer headline {i}", "ab"[i % 2]) for i in range(40)]
    train, other = tmp_path / "train.csv", tmp_path / "other.csv"
    for path in (train, other):
        write(path, body, "headline,topic")
    assert read_splits(train).divided
    assert read_splits(train, test=other).divided
    assert not read_splits(train, valid=other).divided
    assert not read_splits(train, valid=other, test=other).divided
    # It is said to be validation, though it be the same rows: they are not there twice to learn from.
    assert not read_splits(train, valid=train).divided
