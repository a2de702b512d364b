"""The comparators that are ours, on data small enough to know the answers of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import sparse

from benchmarks.accuracy.comparators import COMPARATORS
from benchmarks.accuracy.comparators.interface import TooMuch
from benchmarks.accuracy.comparators.linear_text import NaiveBayesWeighted
from training.dataset import Dataset


def dataset(items: list[Any], labels: list[Any], kind: Any = "text", task: Any = "sequence") -> Dataset:
    return Dataset(kind, task, items, labels, None, None, "x", np.arange(len(items)))


def answers(name: str, train: Dataset, part: Dataset) -> list[Any]:
    return list(COMPARATORS[name].answer(train, train, [part], 0).answers[0])


def test_the_majority_is_of_rows_and_of_steps() -> None:
    assert answers("majority", dataset(["a", "b", "c"], ["x", "y", "y"]), dataset(["d"], ["x"])) == ["y"]
    tags = dataset([["a", "b", "c"]], [["x", "y", "y"]], task="step")
    assert answers("majority", tags, dataset([["d", "e"]], [["x", "x"]], task="step")) == [["y", "y"]]


def test_a_word_has_its_own_commonest_tag_then_its_lower_cases_then_that_of_all() -> None:
    train = dataset([["May", "may", "may", "go", "go"]], [["N", "V", "V", "A", "A"]], task="step")
    part = dataset([["May", "may", "MAY", "unseen"]], [["N"] * 4], task="step")
    # Of all words V and A are as common, and V comes first.
    assert answers("tag-majority", train, part) == [["N", "V", "V", "V"]]


@pytest.mark.parametrize("name", ["tfidf-svm", "nb-logistic"])
def test_linear_classifiers_tell_words_of_three_classes_apart_in_every_script(name: str) -> None:
    words = {"good": ["fine", "很好"], "bad": ["awful", "很坏"], "odd": ["weird !", "奇怪"]}
    items = [f"it is {word} {i}" for i in range(6) for found in words.values() for word in found]
    labels = [label for _ in range(6) for label, found in words.items() for _ in found]
    part = dataset(["so awful", "fine", "weird", "好"], ["bad", "good", "odd", "good"])
    assert answers(name, dataset(items, labels), part) == part.labels


def test_naive_bayes_weights_are_ratios_of_smoothed_counts() -> None:
    x = sparse.csr_matrix(np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]))
    model = NaiveBayesWeighted(solver="liblinear").fit(x, np.array([1, 1, 0]))
    # Counts and one: inside 3 and 2 of 5, outside 1 and 2 of 3.
    np.testing.assert_allclose(model.ratio_, np.log([3 / 5, 2 / 5]) - np.log([1 / 3, 2 / 3]))


def test_the_logistic_regression_answers_each_step() -> None:
    readings = np.array([[-1.0], [1.0], [-2.0], [2.0]], dtype=np.float32)
    train = dataset([readings] * 5, [["0", "1", "0", "1"]] * 5, kind="series", task="step")
    part = dataset([readings[::-1]], [["1", "0", "1", "0"]], kind="series", task="step")
    assert answers("step-logistic", train, part) == part.labels


def test_time_warping_of_days_is_refused_with_its_size() -> None:
    item = np.zeros((1000, 50), dtype=np.float32)
    many = dataset([item] * 500, ["a"] * 500, kind="series")
    with pytest.raises(TooMuch, match="cells of warping matrices"):
        answers("dtw-1nn", many, many)


def test_a_ridge_of_too_many_rows_is_refused_with_their_number() -> None:
    many = dataset([np.zeros((9, 1), dtype=np.float32)] * 20_001, ["a"] * 20_001, kind="series")
    with pytest.raises(TooMuch, match="20,001 rows"):
        answers("minirocket", many, many)
