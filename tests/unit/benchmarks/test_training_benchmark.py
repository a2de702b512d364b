"""The data and the tables of the training benchmark, against what they should be by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.training.cases import SERIES_CLASSES, VOCABULARY, series, texts, write
from benchmarks.training.loading import measure, short_texts
from benchmarks.training.report import overheads, ratios, steady_rate, whole_rate, write_report


def row(*epochs: float, sequences: int = 100, fit: float | None = None) -> dict[str, Any]:
    return {
        "sequences": sequences,
        **{"epoch_cpu_seconds": list(epochs), "fit_cpu_seconds": sum(epochs) if fit is None else fit},
        **{"peak_mb": 200.0, "before_mb": 100.0, "accuracy": 0.9, "parameters": 5},
    }


def test_a_steady_rate_leaves_the_first_epoch_out_and_a_whole_one_does_not() -> None:
    assert steady_rate(row(6.0, 1.0, 3.0)) == 200 / 4
    assert whole_rate(row(6.0, 1.0, 3.0, fit=12.0)) == 300 / 12
    assert steady_rate(row(4.0)) == 100 / 4


def test_ratios_are_of_the_same_round() -> None:
    ours, theirs = [row(9, 1.0), row(9, 2.0)], [row(9, 3.0), row(9, 6.0)]
    assert ratios(ours, theirs, steady_rate) == [3.0, 3.0]


def test_overhead_is_what_lightning_adds_to_a_bare_step() -> None:
    assert overheads([row(9, 1.05)], [row(9, 1.0)]) == [pytest.approx(0.05)]


def test_the_report_says_which_goals_are_met(tmp_path: Path) -> None:
    fast, slow = [row(9, 1.0)], [row(9, 2.0)]
    shared = {"machine": {"cpu": "x"}, "commit": "abc", "shape": {"rounds": 1}}
    products = [{**row(9, 0.5), "accuracy": None, "parameters": None}]
    cells = {
        "lstm": {"Gatewise": fast, "Keras": slow, "products alone": products},
        "gru": {"Gatewise": fast, "Keras": slow},
    }
    (tmp_path / "cells.json").write_text(json.dumps(shared | {"rows": cells}))
    overhead = {"series": {"lstm": {"Gatewise": [row(9, 1.04)], "bare loop": fast}}}
    (tmp_path / "overhead.json").write_text(json.dumps(shared | {"rows": overhead}))
    encode = {"texts_per_cpu_second": 99_999.0, "seconds": 10.0, "growth_mb": 1.0, "bytes_a_text": 1.0}
    loading = [dict.fromkeys(("read", "encode one by one", "encode and hold"), encode)]
    (tmp_path / "loading.json").write_text(json.dumps(shared | {"rows": loading}))
    write_report(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "Goal 3 times Keras: not met, 2.00." in text
    assert "| products alone | 200.0 | 4.00 | 21.1 | 1.16 | 200 | - | - |" in text
    assert "Goal 1.5 times Keras: met, 2.00." in text
    assert "| series LSTM | 96.2 | 100.0 | 4.0% | met |" in text
    assert "| encode one by one | 99,999 | 10.0 | 1 MB more after the first tenth | not met |" in text


def test_a_step_of_a_series_has_the_channel_with_the_largest_decaying_sum() -> None:
    part = series(3, seed=0)
    for i, t in ((0, 0), (1, 5), (2, 127)):
        decay = 0.8 ** np.arange(t, -1, -1)[:, None]
        sums = (decay * part.inputs[i, : t + 1, :SERIES_CLASSES].astype(float)).sum(axis=0)
        assert part.labels[i, t] == sums.argmax()


def test_texts_have_their_lengths_and_more_words_of_their_topic_than_of_another() -> None:
    part = texts(400, seed=0)
    assert part.lengths.min() >= 5
    assert part.lengths.max() <= 200
    assert (part.inputs.min(), part.inputs.max()) >= (2, 2)
    assert part.inputs.max() < VOCABULARY
    rows = np.split(part.inputs, np.cumsum(part.lengths)[:-1])
    long = [(row, label) for row, label in zip(rows, part.labels, strict=True) if len(row) > 60]
    hits = [np.bincount((row - 2) % 4, minlength=4).argmax() == label for row, label in long]
    assert np.mean(hits) > 0.8


def test_train_and_held_out_differ_and_a_seed_gives_both_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.npz", "series", 4, 2, seed=3)
    a, b = (np.load(tmp_path / f"{name}.npz") for name in ("a", "b"))
    np.testing.assert_array_equal(a["train_inputs"], b["train_inputs"])
    assert len(a["held_out_labels"]) == 2
    assert not np.array_equal(a["train_inputs"][:2], a["held_out_inputs"])


def test_short_texts_are_encoded_whole(tmp_path: Path) -> None:
    count = 300
    found = measure(count, tmp_path)
    assert set(found) == {"read", "encode one by one", "encode and hold"}
    # A token for each word and one for the stop.
    words = sum(len(text.split()) for text, _ in short_texts(count))
    assert found["encode and hold"]["tokens"] == words
