"""What training puts into the artifact for drift: of which rows, and that it is the model's own answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.drift import Observer
from gatewise.predictor import Predictor
from tests.artifacts import make_series, make_text
from training.dataset import Dataset
from training.drift import in_words, make_reference


def rows_of(kind: Any, items: list[Any]) -> Dataset:
    return Dataset(kind, "sequence", items, ["up"] * len(items), None, None, "rows", np.arange(len(items)))


def series(rows: int, length: int, seed: int) -> Dataset:
    random = np.random.default_rng(seed)
    return rows_of("series", [random.normal(size=(length + i % 7, 2)) for i in range(rows)])


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    return Predictor.load(make_series(tmp_path / "artifact").folder)


def test_the_reference_is_of_the_validation_rows(predictor: Predictor) -> None:
    valid = series(240, length=5, seed=1)
    reference = make_reference(predictor, valid, series(10, length=15, seed=2))
    assert {(h.source, h.sequences) for h in reference.histograms.values()} == {("valid", 240)}
    assert set(reference.histograms) == {"length", "channel:price", "channel:volume", "label", "confidence"}
    lengths = reference.histograms["length"]
    assert lengths.edges == (4.5, 5.5, 6.5, 7.5, 8.5, 9.5, 10.5, 11.5)
    np.testing.assert_allclose(lengths.shares, [0, 35 / 240, 35 / 240, *[34 / 240] * 5, 0])
    answers = predictor.predict(valid.items)
    labels = [vars(answer)["label"] for answer in answers]
    expected = [labels.count(label) / 240 for label in predictor.manifest.labels]
    np.testing.assert_allclose(reference.histograms["label"].shares, expected)
    assert in_words(reference) == "Drift is measured against 240 rows of valid"


def test_the_reference_names_the_test_rows_where_it_is_of_them(predictor: Predictor) -> None:
    reference = make_reference(predictor, series(240, length=5, seed=1), series(9, length=5, seed=2), "test")
    assert {h.source for h in reference.histograms.values()} == {"test"}
    assert in_words(reference) == "Drift is measured against 240 rows of test"


def test_its_own_rows_show_no_drift(predictor: Predictor) -> None:
    valid = series(240, length=5, seed=1)
    reference, observer = make_reference(predictor, valid, valid), Observer(predictor)
    found = [observer.observe(*result) for result in predictor.run_each(valid.items) if isinstance(result, tuple)]
    drift = reference.compare(reference.count(found), len(found))
    assert drift.state == "none"
    assert max(one.psi for one in drift.measures.values()) < 1e-5


def test_where_validation_is_tiny_lengths_and_readings_are_of_train(predictor: Predictor) -> None:
    reference = make_reference(predictor, series(30, length=5, seed=1), series(300, length=15, seed=2))
    sources = {name: (h.source, h.sequences) for name, h in reference.histograms.items()}
    of_train = {"length", "channel:price", "channel:volume"}
    assert sources == {name: ("train", 300) if name in of_train else ("valid", 30) for name in sources}
    told = in_words(reference)
    assert told.endswith("30 rows of valid; lengths and readings of 300 of train, since that is small")


def test_unknown_words_are_never_counted_on_the_rows_that_made_the_vocabulary(tmp_path: Path) -> None:
    predictor = Predictor.load(make_text(tmp_path / "artifact").folder)
    reference = make_reference(
        predictor, rows_of("text", ["the zebra", "a cat", "a dog"]), rows_of("text", ["the moon"] * 50)
    )
    rates = reference.histograms["unknown_rate"]
    assert (rates.source, rates.sequences) == ("valid", 3)
    assert rates.bin_names(()) == ["below -0.25", "-0.25 to 0.25", "0.25 to 0.75", "0.75 or more"]
    np.testing.assert_allclose(rates.shares, [0, 2 / 3, 1 / 3, 0])
