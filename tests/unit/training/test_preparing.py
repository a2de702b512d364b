"""Labels in order, encoders fitted on train alone, rows encoded and cut, and the fingerprint that names a job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gatewise.errors import InvalidConfig, InvalidData
from gatewise.text import UNKNOWN_ID, TextEncoder
from gatewise.timeseries import TimeSeriesEncoder
from training.config import TrainingConfig
from training.data import IGNORED, EncodedDataset
from training.dataset import Dataset
from training.preparing import (
    check_valid,
    cut,
    encode,
    fingerprint,
    fit_encoder,
    label_order,
    make_forms,
    model_config,
)
from training.splits import Splits


def dataset(items: list[Any], labels: list[Any], kind: Any = "text", task: Any = "sequence") -> Dataset:
    channels = tuple(map(str, range(items[0].shape[1]))) if kind == "series" else None
    return Dataset(kind, task, items, labels, channels, None, "here.csv", np.arange(len(items)) + 2)


def series(*lengths: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(3, 2, size=(length, 2)).astype(np.float32) for length in lengths]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b", "a", "c", "a"], ("a", "b", "c")),
        (["10", "9", "2"], ("2", "9", "10")),
        (["1", "-1", "0"], ("-1", "0", "1")),
        (["01", "1", "2"], ("01", "1", "2")),
        (["10", "9", "x"], ("10", "9", "x")),
    ],
)
def test_labels_are_ordered_by_name_and_numbers_by_value(labels: list[str], expected: tuple[str, ...]) -> None:
    assert label_order(dataset(["x"] * len(labels), labels)) == expected


def test_labels_of_steps_are_ordered_alike() -> None:
    assert label_order(dataset([["x"] * 3, ["y"]], [["O", "B", "O"], ["A"]], task="step")) == ("A", "B", "O")


def test_one_class_alone_cannot_be_learnt() -> None:
    with pytest.raises(InvalidData, match="every row has the label 'a'"):
        label_order(dataset(["x", "y"], ["a", "a"]))


def test_a_validation_split_of_other_classes_is_refused() -> None:
    check_valid(dataset(["x", "y"], ["z", "b"]), ("a", "b"))
    with pytest.raises(InvalidData, match=r"here\.csv: none of its labels stands in train, which has 'a', 'b'"):
        check_valid(dataset(["x"], ["z"]), ("a", "b"))
    with pytest.raises(InvalidData, match="none of its labels"):
        check_valid(dataset([["x", "y"]], [["z", "z"]], task="step"), ("a", "b"))


def test_the_vocabulary_is_of_train_alone() -> None:
    encoder = fit_encoder(dataset(["red red blue"], ["a"]), TrainingConfig(min_count=2))
    assert isinstance(encoder, TextEncoder)
    forms = make_forms(encoder, TrainingConfig())
    rows = encode(dataset(["Red blue green"], ["a"]), encoder, ("a", "b"), forms)
    assert rows.inputs[0].tolist() == [2, UNKNOWN_ID, UNKNOWN_ID]


def test_with_character_n_grams_each_unknown_spelling_has_a_number_of_its_own() -> None:
    config = TrainingConfig(min_count=2, ngram_buckets=50)
    encoder = fit_encoder(dataset(["red red blue"], ["a"]), config)
    forms = make_forms(encoder, config)
    train = encode(dataset(["red red Blue", ""], ["a", "b"]), encoder, ("a", "b"), forms)
    valid = encode(dataset(["Red blue green"], ["a"]), encoder, ("a", "b"), forms)
    assert [row.tolist() for row in [*train.inputs, *valid.inputs]] == [[2, 2, 3], [UNKNOWN_ID], [2, 3, 4]]


def test_a_series_has_no_forms() -> None:
    assert make_forms(fit_encoder(dataset(series(4), ["a"], "series"), TrainingConfig()), TrainingConfig()) is None


def test_readings_are_standardized_by_train_alone() -> None:
    train, other = series(20, 30), series(9, seed=5)
    encoder = fit_encoder(dataset(train, ["a", "b"], "series"), TrainingConfig())
    rows = encode(dataset(other, ["a"], "series"), encoder, ("a", "b"), None)
    readings = np.concatenate(train).astype(np.float64)
    expected = (other[0] - readings.mean(axis=0)) / readings.std(axis=0)
    np.testing.assert_allclose(rows.inputs[0], expected, atol=1e-5)


def test_a_channel_that_was_never_read_is_no_obstacle() -> None:
    items = series(4, 5)
    for item in items:
        item[:, 1] = np.nan
    encoder = fit_encoder(dataset(items, ["a", "b"], "series"), TrainingConfig(differences=True))
    rows = encode(dataset(items, ["a", "b"], "series"), encoder, ("a", "b"), None)
    assert all(np.isfinite(row).all() for row in rows.inputs)


def test_a_label_that_training_never_saw_counts_in_no_loss() -> None:
    encoder = fit_encoder(dataset(["x y", "z"], ["a", "b"]), TrainingConfig())
    forms = make_forms(encoder, TrainingConfig())
    rows = encode(dataset(["x", "y", "z"], ["b", "new", "a"]), encoder, ("a", "b"), forms)
    assert list(rows.labels) == [1, IGNORED, 0]
    tokens = dataset([["x", "y"]], [["new", "b"]], task="step")
    encoder = fit_encoder(tokens, TrainingConfig(level="tokens"))
    rows = encode(tokens, encoder, ("a", "b"), make_forms(encoder, TrainingConfig()))
    assert rows.labels[0].tolist() == [IGNORED, 1]


def test_a_reading_missing_where_none_was_in_train_is_named_by_file_and_row() -> None:
    encoder = fit_encoder(dataset(series(5, 5), ["a", "b"], "series"), TrainingConfig())
    items = series(3, 3, 3)
    items[2][1, 0] = np.nan
    with pytest.raises(InvalidData, match=r"here\.csv, row 4.*at \[1, 0\]: a reading is missing") as error:
        encode(dataset(items, ["a", "b", "a"], "series"), encoder, ("a", "b"), None)
    assert error.value.row == 4


@pytest.mark.parametrize(
    ("differences", "missing", "input_size"), [(False, False, 2), (True, False, 4), (True, True, 6)]
)
def test_the_network_takes_what_the_encoder_gives(differences: bool, missing: bool, input_size: int) -> None:
    items = series(5, 6)
    if missing:
        items[0][2, 1] = np.nan
    data = dataset(items, ["a", "b"], "series")
    config = TrainingConfig(differences=differences, hidden_size=7, pooling=("max",), dense_dropout=0.25)
    encoder = fit_encoder(data, config)
    model = model_config(config, encoder, "gru", 2, data)
    assert isinstance(encoder, TimeSeriesEncoder)
    assert (model.input_size, model.vocab_size, model.embedding_dim) == (input_size, None, None)
    assert (model.cell, model.hidden_size, model.pooling, model.dense_dropout) == ("gru", 7, ("max",), 0.25)
    assert encode(data, encoder, ("a", "b"), None).inputs[0].shape == (5, input_size)


def test_a_text_network_has_a_row_for_each_entry_of_the_vocabulary() -> None:
    data = dataset(["red red blue blue", "red"], ["a", "b"])
    config = TrainingConfig(embedding_dim=9, ngram_buckets=70, pair_buckets=60)
    model = model_config(config, fit_encoder(data, config), "lstm", 2, data)
    assert (model.vocab_size, model.embedding_dim, model.input_size) == (4, 9, None)
    assert (model.ngram_buckets, model.pair_buckets) == (70, 60)


def test_long_rows_with_a_label_for_each_step_are_cut_into_consecutive_pieces() -> None:
    inputs = [np.arange(10), np.arange(3), np.arange(4)]
    labels = [values + 100 for values in inputs]
    rows = cut(EncodedDataset(inputs, labels), 4)
    assert [row.tolist() for row in rows.inputs] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9], [0, 1, 2], [0, 1, 2, 3]]
    assert all((label == row + 100).all() for row, label in zip(rows.inputs, rows.labels, strict=True))


def test_rows_that_fit_and_rows_with_one_label_are_left_whole() -> None:
    short = EncodedDataset([np.arange(4)], [np.arange(4)])
    assert cut(short, 4) is short
    whole = EncodedDataset([np.arange(9)], [1])
    assert cut(whole, 4) is whole


def test_equal_fingerprints_are_of_equal_configuration_and_data() -> None:
    def splits(train: Dataset) -> Splits:
        return Splits(train, dataset(["v"], ["a"]), None, {}, [], np.array([False]), None)

    base = dataset(["x", "y"], ["a", "b"])
    config = TrainingConfig()
    marks = [
        fingerprint(config, splits(base)),
        fingerprint(TrainingConfig(seed=1), splits(base)),
        fingerprint(config, splits(dataset(["x", "z"], ["a", "b"]))),
        fingerprint(config, splits(dataset(["x", "y"], ["b", "a"]))),
        fingerprint(config, splits(dataset(["y", "x"], ["b", "a"]))),
        fingerprint(config, splits(dataset(["x"], ["a"]))),
    ]
    assert len(set(marks)) == len(marks)
    # The same rows, divided elsewhere.
    moved = Splits(base.take([0]), base.take([1]), None, {}, [], np.array([False]), None)
    kept = Splits(base.take([0, 1]), base.take([]), None, {}, [], np.array([]), None)
    assert fingerprint(config, moved) != fingerprint(config, kept)
    # Where a file lies does not matter, nor what was said of it.
    assert fingerprint(config, splits(replace(base, source="there.csv"))) == marks[0]


def test_a_fingerprint_knows_every_reading() -> None:
    def mark(items: list[np.ndarray]) -> str:
        train = dataset(items, ["a", "b"], "series")
        return fingerprint(TrainingConfig(), Splits(train, train, None, {}, [], np.array([True]), None))

    items = series(3, 4)
    changed = [item.copy() for item in items]
    changed[1][2, 1] = np.nextafter(changed[1][2, 1], np.float32(9))
    assert mark(items) == mark([item.copy() for item in items])
    assert mark(items) != mark(changed)


PARTS = "stem_stride, branch_channels and a linear branch are for one label a sequence"


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("sequence", {"skip": True}, "skip and crf are for a label for each step"),
        ("sequence", {"crf": True}, "skip and crf are for a label for each step"),
        ("step", {"stem_stride": 2}, PARTS),
        ("step", {"branch_channels": (4,), "branch_kernels": (3,)}, PARTS),
        ("sequence", {"branch_channels": (4, 4), "branch_kernels": (3,)}, "need a number for each convolution"),
        ("sequence", {"branch_channels": (4,), "branch_kernels": (4,)}, "branch_kernels must be odd"),
    ],
)
def test_parts_that_do_not_go_together_are_a_wrong_setting(task: str, settings: dict[str, Any], message: str) -> None:
    items = series(5, 6)
    data = dataset(items, ["a", "b"] if task == "sequence" else [["a"] * 5, ["b"] * 6], kind="series", task=task)
    config = TrainingConfig(**settings)
    with pytest.raises(InvalidConfig, match=message) as error:
        model_config(config, fit_encoder(data, config), "gru", 2, data)
    assert "\n" not in error.value.message
