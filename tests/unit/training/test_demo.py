"""The demonstration data: how much there is, that it is the same each time, and that it is what its sources hold."""

from __future__ import annotations

import csv
import importlib.util
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from babel import Locale
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from gatewise.errors import MissingDependency
from training.demo import LANGUAGES, series_demo, text_demo, write_series_demo, write_text_demo
from training.readers import read


def test_the_names_are_thousands_in_twenty_languages() -> None:
    header, rows = text_demo()
    counts = Counter(label for _, label in rows)
    assert header == ("text", "label")
    assert 15_000 < len(rows) < 18_000
    assert set(counts) == set(LANGUAGES.values())
    assert len(counts) == 20
    assert min(counts.values()) > 500


def test_a_name_has_one_language_and_it_is_the_one_that_babel_has_it_in() -> None:
    _, rows = text_demo()
    found = dict(rows)
    assert len({text.casefold() for text in found}) == len(rows)
    assert found["Frankreich"] == "German"
    assert found["Países Bajos"] == "Spanish"
    assert "Portugal" not in found  # nearly all of them call it so
    finnish = Locale.parse("fi").territories["SE"]
    assert found[finnish] == "Finnish"


def test_the_text_file_is_the_same_each_time_and_reads_back(tmp_path: Path) -> None:
    first, second = write_text_demo(tmp_path / "first"), write_text_demo(tmp_path / "second")
    assert first.read_bytes() == second.read_bytes()
    with first.open(encoding="utf-8", newline="") as file:
        assert [tuple(row) for row in csv.reader(file)] == [("text", "label"), *text_demo()[1]]
    dataset = read(first)
    assert (dataset.kind, dataset.task, len(dataset)) == ("text", "sequence", len(text_demo()[1]))


def test_the_names_are_neither_trivial_nor_hopeless_for_a_linear_model() -> None:
    _, rows = text_demo()
    texts, labels = zip(*rows, strict=True)
    train, test, train_labels, test_labels = train_test_split(
        texts, labels, test_size=0.1, stratify=labels, random_state=0
    )
    model = make_pipeline(TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True), LinearSVC())
    assert 0.80 < model.fit(train, train_labels).score(test, test_labels) < 0.90


def test_the_series_are_the_official_split_of_japanese_vowels(tmp_path: Path) -> None:
    folder = write_series_demo(tmp_path / "vowels")
    train, test = read(folder / "train.ts"), read(folder / "test.ts")
    assert (len(train), len(test)) == (270, 370)
    assert train.kind == "series"
    assert {series.shape[1] for series in train.items} == {12}
    lengths = [len(series) for series in [*train.items, *test.items]]
    assert (min(lengths), max(lengths)) == (7, 29)
    assert Counter(train.labels) == {str(speaker): 30 for speaker in range(1, 10)}
    # The first reading of the first two channels, as the file has them.
    np.testing.assert_allclose(train.items[0][0, :2], [1.860936, -0.207383], rtol=1e-6)


def test_finding_the_series_does_not_import_aeon() -> None:
    loaded = "aeon" in sys.modules
    assert all(path.is_file() for path in series_demo())
    assert ("aeon" in sys.modules) == loaded


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'gatewise\[demo\]'"):
        series_demo()
    monkeypatch.setitem(sys.modules, "babel", None)
    with pytest.raises(MissingDependency, match="babel"):
        text_demo()
