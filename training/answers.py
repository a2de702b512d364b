"""Labelled sequences and what a Predictor answered them: what every figure of a model is made of.

N answers (of sequences, or of their steps), T timesteps, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import Task
from gatewise.errors import InvalidData, InvalidSequence
from gatewise.predictor import Predictor
from training.dataset import Dataset


@dataclass(frozen=True, eq=False)
class Answered:
    """Sequences with their labels and answers; the properties are flat, a row for each answer.

    Attributes:
        labels: the K classes.
        truth: the labels of each sequence: one, or T of them.
        classes: the answered classes of each, (1,) or (T,) indices.
        probabilities: of each, calibrated, (1, K) or (T, K).
        lengths: timesteps that the model read of each, int64.
    """

    labels: tuple[str, ...]
    task: Task
    truth: list[list[str]]
    classes: list[NDArray[np.int64]]
    probabilities: list[NDArray[np.float64]]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.truth)

    def take(self, indices: Iterable[int]) -> Answered:
        """The sequences at `indices`, in that order."""
        chosen = [int(i) for i in indices]
        return Answered(
            labels=self.labels,
            task=self.task,
            truth=[self.truth[i] for i in chosen],
            classes=[self.classes[i] for i in chosen],
            probabilities=[self.probabilities[i] for i in chosen],
            lengths=self.lengths[chosen],
        )

    @cached_property
    def expected(self) -> NDArray[np.int64]:
        """The true class of each answer, (N,); -1 where training never saw the label."""
        index = {label: k for k, label in enumerate(self.labels)}
        return np.array([index.get(label, -1) for row in self.truth for label in row], dtype=np.int64)

    @cached_property
    def answers(self) -> NDArray[np.int64]:
        """The answered classes, (N,)."""
        return np.concatenate(self.classes)

    @cached_property
    def shares(self) -> NDArray[np.float64]:
        """The probabilities, (N, K)."""
        return np.concatenate(self.probabilities)

    @cached_property
    def confidence(self) -> NDArray[np.float64]:
        """The probability of each answer, (N,)."""
        return _picked(self.shares, self.answers)

    @cached_property
    def likelihood(self) -> NDArray[np.float64]:
        """The probability of each true label, (N,); 0 where training never saw it."""
        return np.where(self.expected < 0, 0.0, _picked(self.shares, np.maximum(self.expected, 0)))

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each answer is right, (N,)."""
        right: NDArray[np.bool_] = self.expected == self.answers
        return right

    @cached_property
    def places(self) -> NDArray[np.int64]:
        """The sequence that each answer is of, and the step in it, (N, 2)."""
        return np.array([(i, t) for i, row in enumerate(self.truth) for t in range(len(row))], dtype=np.int64)


def answer_all(
    predictor: Predictor, pieces: Iterable[Dataset], *, progress: Callable[[int], None] = lambda rows: None
) -> Answered:
    """Answer every item.

    Args:
        pieces: labelled data, in pieces so that a long file need not be held.
        progress: told how many rows are done, after each piece.
    Raises:
        InvalidData: an item is not what the model takes, named by file and row; or there is none.
    """
    truth: list[list[str]] = []
    classes: list[NDArray[np.int64]] = []
    probabilities: list[NDArray[np.float64]] = []
    lengths: list[int] = []
    for piece in pieces:
        assert piece.labels is not None
        for i, (result, labels) in enumerate(zip(predictor.run_each(piece.items), piece.labels, strict=True)):
            if isinstance(result, InvalidSequence):
                raise refused(piece, i, result)
            answer, p = predictor.decode(*result)
            classes.append(np.atleast_1d(answer))
            probabilities.append(np.atleast_2d(p))
            truth.append([labels] if isinstance(labels, str) else list(labels))
            lengths.append(len(result[0].inputs))
        progress(len(truth))
    if not truth:
        raise InvalidData("there are no rows to score")
    manifest = predictor.manifest
    return Answered(manifest.labels, manifest.task, truth, classes, probabilities, np.array(lengths))


def joined(parts: Iterable[Answered]) -> Answered:
    """The answers of several parts, one after the other; there is at least one part."""
    first, *others = parts
    every = [first, *others]
    return Answered(
        labels=first.labels,
        task=first.task,
        truth=[row for part in every for row in part.truth],
        classes=[row for part in every for row in part.classes],
        probabilities=[row for part in every for row in part.probabilities],
        lengths=np.concatenate([part.lengths for part in every]),
    )


def refused(piece: Dataset, index: int, error: InvalidSequence) -> InvalidData:
    """The error of an item that breaks the model's input contract, named by file and row."""
    place = "" if len(error.loc) < 2 else f" at {list(error.loc[1:])}"
    return InvalidData(
        f"the model does not take it{place}: {error.message}", path=piece.source, row=int(piece.rows[index])
    )


def _picked(shares: NDArray[np.float64], classes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The entry of each row (N, K) that its class (N,) names."""
    chosen: NDArray[np.float64] = shares[np.arange(len(shares)), classes]
    return chosen
