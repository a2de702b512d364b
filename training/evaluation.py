"""Scores of a Predictor on labelled items: the same road from raw item to answer that the service takes.

N rows, T timesteps, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.predictor import Predictor
from training.answers import Answered, answer_all
from training.dataset import Dataset
from training.metrics import classification, is_bio, span_f1
from training.tallies import Tally, tally_all


@dataclass
class Scores:
    """What came of scoring labelled items.

    Attributes:
        metrics: accuracy, macro_f1, log_loss; span_f1 where the tags are BIO.
        rows: items scored.
        correct: for each item whether the answer was right (per step: the share of its steps).
        tallies: the same metrics, as functions of what each item adds to them.
        unseen: labels that training never saw, with their number; they count as answered wrongly.
    """

    metrics: dict[str, float]
    rows: int
    correct: NDArray[np.float64]
    tallies: dict[str, Tally] = field(default_factory=dict)
    unseen: dict[str, int] = field(default_factory=dict)


def score(
    predictor: Predictor, pieces: Iterable[Dataset], *, progress: Callable[[int], None] = lambda rows: None
) -> Scores:
    """Answer every item and compare with its label.

    Args:
        pieces: labelled data, in pieces so that a long file need not be held.
        progress: told how many rows are done, after each piece.
    Raises:
        InvalidData: an item is not what the model takes, named by file and row; or there is none.
    """
    return scores_of(answer_all(predictor, pieces, progress=progress))


def scores_of(answered: Answered) -> Scores:
    """Compare answers with their labels."""
    answers = [[answered.labels[k] for k in row] for row in answered.classes]
    per_step = answered.task == "step"
    return _compare(answered.truth, answers, answered.probabilities, answered.labels, per_step)


def _compare(
    truth: list[list[str]],
    answers: list[list[str]],
    probabilities: list[NDArray[np.float64]],
    labels: tuple[str, ...],
    per_step: bool,
) -> Scores:
    flat: list[Any] = [label for row in truth for label in row]
    metrics = classification(flat, [label for row in answers for label in row], np.concatenate(probabilities), labels)
    if per_step and is_bio(labels):
        metrics["span_f1"] = span_f1(truth, answers)
    known = set(labels)
    unseen = [label for label in flat if label not in known]
    correct = [np.mean([a == b for a, b in zip(*pair, strict=True)]) for pair in zip(truth, answers, strict=True)]
    tallies = tally_all(truth, answers, probabilities, labels, per_step=per_step)
    counts = {label: unseen.count(label) for label in sorted(set(unseen))}
    return Scores(metrics, len(truth), np.array(correct), tallies, counts)
