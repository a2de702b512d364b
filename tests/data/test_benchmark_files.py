"""The readers on real data sets, in the forms that users have; the counts are those that the sources state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from training.readers import ReadOptions, read, stream
from training.splits import read_splits

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the benchmark data sets are not beside the repository")

# file, items, classes, channels (None for text), timesteps (None where they differ)
FILES = [
    ("trec/train.csv.gz", 5452, 6, None, None),
    ("trec/test.csv.gz", 500, 6, None, None),
    ("sst2/train_phrases.csv.gz", 77662, 2, None, None),
    ("sst2/train_sentences.csv.gz", 6920, 2, None, None),
    ("sst2/valid.csv.gz", 872, 2, None, None),
    ("sst2/test.csv.gz", 1821, 2, None, None),
    ("imdb/train.jsonl.gz", 25000, 2, None, None),
    ("imdb/test.jsonl.gz", 25000, 2, None, None),
    ("chnsenticorp/train.tsv.gz", 9600, 2, None, None),
    ("chnsenticorp/valid.tsv.gz", 1200, 2, None, None),
    ("chnsenticorp/test.tsv.gz", 1200, 2, None, None),
    ("snips/train.jsonl.gz", 13084, 7, None, None),
    ("snips/valid.jsonl.gz", 700, 7, None, None),
    ("snips/test.jsonl.gz", 700, 7, None, None),
    ("sms_spam/sms.csv", 5574, 2, None, None),
    ("JapaneseVowels/JapaneseVowels_TRAIN.ts.gz", 270, 9, 12, None),
    ("JapaneseVowels/JapaneseVowels_TEST.ts.gz", 370, 9, 12, None),
    ("NATOPS/NATOPS_TRAIN.ts.gz", 180, 6, 24, 51),
    ("NATOPS/NATOPS_TEST.ts.gz", 180, 6, 24, 51),
    ("PenDigits/train.parquet", 7494, 10, 2, 8),
    ("PenDigits/test.parquet", 3498, 10, 2, 8),
    ("uci_har_subset/train.parquet", 2400, 6, 9, 128),
    ("uci_har_subset/test.parquet", 950, 6, 9, 128),
    ("mnist_rows/train.npz", 60000, 10, 28, 28),
    ("mnist_rows/test.npz", 10000, 10, 28, 28),
    ("GunPoint/GunPoint_TRAIN.ts.gz", 50, 2, 1, 150),
    ("GunPoint/GunPoint_TEST.ts.gz", 150, 2, 1, 150),
    ("ArrowHead/ArrowHead_TRAIN.ts.gz", 36, 3, 1, 251),
    ("ArrowHead/ArrowHead_TEST.ts.gz", 175, 3, 1, 251),
    ("OSULeaf/OSULeaf_TRAIN.ts.gz", 200, 6, 1, 427),
    ("OSULeaf/OSULeaf_TEST.ts.gz", 242, 6, 1, 427),
    ("ACSF1/ACSF1_TRAIN.ts.gz", 100, 10, 1, 1460),
    ("ACSF1/ACSF1_TEST.ts.gz", 100, 10, 1, 1460),
    ("BasicMotions/BasicMotions_TRAIN.ts.gz", 40, 4, 6, 100),
    ("BasicMotions/BasicMotions_TEST.ts.gz", 40, 4, 6, 100),
]


@pytest.mark.parametrize(("name", "items", "classes", "channels", "steps"), FILES)
def test_every_data_set_is_read_without_options(
    name: str, items: int, classes: int, channels: int | None, steps: int | None
) -> None:
    dataset = read(DATA / name)
    assert (dataset.task, len(dataset), len(set(dataset.labels or ()))) == ("sequence", items, classes)
    if channels is None:
        assert dataset.kind == "text"
    else:
        assert dataset.channels == tuple(map(str, range(channels)))
        assert {item.shape[1] for item in dataset.items} == {channels}
        assert steps is None or {len(item) for item in dataset.items} == {steps}
        assert all(np.isfinite(item).all() for item in dataset.items)


def test_japanese_vowels_keep_their_unequal_lengths() -> None:
    lengths = {len(item) for name in ("TRAIN", "TEST") for item in _vowels(name)}
    assert (min(lengths), max(lengths)) == (7, 29)


def _vowels(name: str) -> list[np.ndarray]:
    return read(DATA / "JapaneseVowels" / f"JapaneseVowels_{name}.ts.gz").items


@pytest.mark.parametrize(
    ("folder", "train", "valid", "test", "classes"),
    [("ud_english_ewt", 12544, 2001, 2077, 17), ("snips", 13084, 700, 700, 72)],
)
def test_tags_of_each_token_are_read(folder: str, train: int, valid: int, test: int, classes: int) -> None:
    splits = read_splits(DATA / folder, options=ReadOptions(task="step"))
    assert (len(splits.train), len(splits.valid), len(splits.test or ())) == (train, valid, test)
    assert len(frozenset().union(*splits.train.label_sets())) == classes


@pytest.mark.parametrize(("name", "minutes"), [("train", 8143), ("test_1", 2665), ("test_2", 9752)])
def test_occupancy_is_one_sequence_of_minutes(name: str, minutes: int) -> None:
    dataset = read(DATA / "occupancy" / f"{name}.csv.gz", ReadOptions(order_by="date", label="Occupancy"))
    assert dataset.channels == ("Temperature", "Humidity", "Light", "CO2", "HumidityRatio")
    assert [item.shape for item in dataset.items] == [(minutes, 5)]
    assert dataset.labels is not None
    assert set(dataset.labels[0]) == {"0", "1"}


@pytest.mark.parametrize(("folder", "both"), [("chnsenticorp", 331), ("imdb", 123), ("snips", 23), ("trec", 10)])
def test_known_duplicates_of_test_and_train_are_counted(folder: str, both: int) -> None:
    splits = read_splits(DATA / folder)
    assert splits.test_in_train is not None
    assert int(splits.test_in_train.sum()) == both


@pytest.mark.parametrize("name", ["trec/train.csv.gz", "PenDigits/test.parquet", "NATOPS/NATOPS_TEST.ts.gz"])
def test_a_stream_of_a_real_file_gives_what_reading_it_gives(name: str) -> None:
    whole, pieces = read(DATA / name), list(stream(DATA / name, labelled=True, rows=300))
    assert [label for piece in pieces for label in piece.labels or ()] == whole.labels
    for a, b in zip((item for piece in pieces for item in piece.items), whole.items, strict=True):
        np.testing.assert_array_equal(a, b)
