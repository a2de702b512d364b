"""What a comparator is: labelled data in, labels out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.accuracy.answers import Answers
from benchmarks.accuracy.sets import BenchmarkSet
from training.dataset import Dataset


class TooMuch(Exception):
    """The set is beyond what the method can do in hours; the message says by what."""


@dataclass(frozen=True)
class Answered:
    """What came of a fit.

    Attributes:
        answers: of each part that was asked, in order.
        parameters: numbers learnt; None where that says nothing.
        choice: what was chosen on validation, in words.
    """

    answers: list[Answers]
    parameters: int | None = None
    choice: str = ""


@dataclass(frozen=True)
class Comparator:
    """A method.

    Attributes:
        answer: (train, valid, parts, seed) -> answers of the parts; it learns from train and chooses on valid.
        takes: whether it is for a set.
        once: whether one seed tells all.
    """

    name: str
    answer: Callable[[Dataset, Dataset, Sequence[Dataset], int], Answered]
    takes: Callable[[BenchmarkSet], bool]
    once: bool = False


def texts(each: BenchmarkSet) -> bool:
    """Texts with one label each."""
    return each.kind == "text" and not each.per_step


def whole_series(each: BenchmarkSet) -> bool:
    """Series with one label each."""
    return each.kind == "series" and not each.per_step
