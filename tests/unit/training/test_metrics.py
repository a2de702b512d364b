"""Figures against scikit-learn, and spans against cases worked by hand after the rules of CoNLL's evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from training.metrics import classification, is_bio, macro_f1, span_f1, spans

LABELS = ("ant", "bee", "cow", "dog")


def drawn(seed: int, rows: int = 200) -> tuple[list[str], np.ndarray]:
    rng = np.random.default_rng(seed)
    # A dog is never the truth, and an answer now and then.
    truth = [str(label) for label in rng.choice(LABELS[:3], size=rows, p=[0.7, 0.2, 0.1])]
    return truth, rng.dirichlet(np.ones(len(LABELS)), size=rows)


@pytest.mark.parametrize("seed", range(5))
def test_the_figures_are_those_of_scikit_learn(seed: int) -> None:
    truth, probabilities = drawn(seed)
    answers = [LABELS[k] for k in probabilities.argmax(axis=1)]
    figures = classification(truth, answers, probabilities, LABELS)
    assert figures == pytest.approx(
        {
            "accuracy": accuracy_score(truth, answers),
            "macro_f1": f1_score(truth, answers, average="macro", zero_division=0),
            "log_loss": log_loss(truth, probabilities, labels=list(LABELS)),
        },
        abs=1e-12,
    )


def test_a_label_unseen_in_training_is_wrong_and_has_the_smallest_probability() -> None:
    truth, probabilities = drawn(7)
    truth[3:6] = ["emu", "elk", "emu"]
    answers = [LABELS[k] for k in probabilities.argmax(axis=1)]
    # scikit-learn's way to say that the model gives these classes no probability: columns of zeros.
    widened = np.column_stack([probabilities, np.zeros((len(truth), 2))])
    figures = classification(truth, answers, probabilities, LABELS)
    assert figures == pytest.approx(
        {
            "accuracy": accuracy_score(truth, answers),
            "macro_f1": f1_score(truth, answers, average="macro", zero_division=0),
            "log_loss": log_loss(truth, widened, labels=[*LABELS, "elk", "emu"]),
        },
        abs=1e-12,
    )


def test_answers_count_as_they_are_given_though_others_be_likelier() -> None:
    truth, probabilities = drawn(3)
    answers = [str(label) for label in np.random.default_rng(0).choice(LABELS, size=len(truth))]
    figures = classification(truth, answers, probabilities, LABELS)
    assert figures["accuracy"] == pytest.approx(accuracy_score(truth, answers))
    assert figures["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro", zero_division=0))
    assert figures["log_loss"] == pytest.approx(log_loss(truth, probabilities, labels=list(LABELS)))


def test_a_certain_and_wrong_answer_has_a_finite_loss() -> None:
    figures = classification(["a"], ["b"], np.array([[0.0, 1.0]]), ["a", "b"])
    assert figures == {"accuracy": 0.0, "macro_f1": 0.0, "log_loss": pytest.approx(-np.log(np.finfo(float).eps))}


def test_macro_f1_leaves_out_classes_that_are_neither_expected_nor_answered() -> None:
    # Class 1: precision 1/2, recall 1; class 4: never found.
    assert macro_f1(np.array([1, 4]), np.array([1, 1])) == pytest.approx((2 / 3 + 0) / 2)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["O", "B-PER", "I-PER"], True),
        (["B-PER"], True),
        (["O", "B-a-b", "I-a-b"], True),
        (["O"], False),
        (["O", "I-PER"], False),
        (["O", "B-PER", "X"], False),
        (["O", "B-", "I-PER"], False),
        (["o", "b-per"], False),
        (["NOUN", "VERB"], False),
    ],
)
def test_bio_tags_are_known_by_their_names(labels: list[str], expected: bool) -> None:
    assert is_bio(labels) is expected


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O O", set()),
        ("B-P I-P O B-L", {("P", 0, 2), ("L", 3, 4)}),
        ("B-P B-P", {("P", 0, 1), ("P", 1, 2)}),
        ("B-P I-P I-P", {("P", 0, 3)}),
        # An I without its B begins a span: at the start, after O, and after another type.
        ("I-P I-P", {("P", 0, 2)}),
        ("O I-P", {("P", 1, 2)}),
        ("B-P I-L I-L", {("P", 0, 1), ("L", 1, 3)}),
        ("I-P B-P I-P", {("P", 0, 1), ("P", 1, 3)}),
        ("B-P O I-P", {("P", 0, 1), ("P", 2, 3)}),
        ("B-a-b I-a-b", {("a-b", 0, 2)}),
    ],
)
def test_spans_are_those_of_the_conll_evaluation(tags: str, expected: set[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == expected


def test_span_f1_counts_whole_spans_over_all_rows() -> None:
    truth = [["B-P", "I-P", "O", "B-L"], ["O", "B-P"], ["B-L", "I-L"]]
    # A span cut short, one right; one too many beside the right one; one of another type.
    answers = [["B-P", "O", "O", "B-L"], ["B-L", "B-P"], ["B-P", "I-P"]]
    # 2 hits, 4 expected, 5 answered: precision 2/5, recall 2/4.
    assert span_f1(truth, answers) == pytest.approx(2 * (2 / 5) * (2 / 4) / (2 / 5 + 2 / 4))


def test_nothing_to_find_and_nothing_found_is_right() -> None:
    assert span_f1([["O", "O"]], [["O", "O"]]) == 1.0
    assert span_f1([["O", "O"]], [["O", "B-P"]]) == 0.0
