"""Scores of a Predictor on labelled items: the same road from raw item to answer that the service takes.

N rows, T timesteps, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InvalidData, InvalidSequence
from gatewise.predictor import Predictor
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
    answers: list[list[str]] = []
    probabilities: list[NDArray[np.float64]] = []
    truth: list[list[str]] = []
    done = 0
    for piece in pieces:
        assert piece.labels is not None
        for i, result in enumerate(predictor.run_each(piece.items)):
            if isinstance(result, InvalidSequence):
                place = "" if len(result.loc) < 2 else f" at {list(result.loc[1:])}"
                raise InvalidData(
                    f"the model does not take it{place}: {result.message}", path=piece.source, row=piece.rows[i]
                )
            classes, p = predictor.decode(*result)
            answers.append([predictor.manifest.labels[k] for k in np.atleast_1d(classes)])
            probabilities.append(np.atleast_2d(p))
            truth.append([piece.labels[i]] if isinstance(piece.labels[i], str) else list(piece.labels[i]))
        done += len(piece)
        progress(done)
    if not truth:
        raise InvalidData("there are no rows to score")
    return _compare(truth, answers, probabilities, predictor.manifest.labels, predictor.manifest.task == "step")


def refused(piece: Dataset, index: int, error: InvalidSequence) -> InvalidData:
    """The error of an item that breaks the model's input contract, named by file and row."""
    place = "" if len(error.loc) < 2 else f" at {list(error.loc[1:])}"
    return InvalidData(
        f"the model does not take it{place}: {error.message}", path=piece.source, row=int(piece.rows[index])
    )


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
