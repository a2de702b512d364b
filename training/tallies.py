"""Metrics as functions of sums over rows, so that a resample of the rows is one matrix product.

N rows, M sums, R resamples, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from training.metrics import SMALLEST, is_bio, spans

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Tally:
    """A metric of N rows.

    Attributes:
        sums: what each row adds, sparse (N, M).
        figure: the metric of sums (R, M), as (R,).
    """

    sums: Any
    figure: Callable[[Floats], Floats]

    @property
    def rows(self) -> int:
        """N."""
        return int(self.sums.shape[0])

    @property
    def value(self) -> float:
        """The metric of all rows."""
        return float(self.of(np.ones((1, self.rows)))[0])

    def of(self, counts: Floats) -> Floats:
        """The metric where the rows stand as often as `counts` (R, N) says, (R,)."""
        return self.figure((self.sums.T @ counts.T).T)


def tally_all(
    truth: Sequence[Sequence[str]],
    answers: Sequence[Sequence[str]],
    probabilities: Sequence[Floats],
    labels: Sequence[str],
    *,
    per_step: bool,
) -> dict[str, Tally]:
    """Accuracy, macro_f1 and log_loss, and span_f1 where the tags are BIO.

    Args:
        truth, answers: for each of N rows its labels, one or one for each step.
        probabilities: for each row (steps, K).
        labels: K names, in the order of the columns.
    """
    steps = np.array([len(row) for row in truth])
    row_of = np.repeat(np.arange(len(truth)), steps)
    # A label that training never saw is a class of its own, which no answer can have. In the order of their names, the
    # classes of two models that have the same ones stand in the same columns.
    classes = {name: k for k, name in enumerate(sorted({*labels, *chain.from_iterable(truth)}))}
    expected, answered = (np.array([classes[name] for name in chain.from_iterable(rows)]) for rows in (truth, answers))
    place = {name: k for k, name in enumerate(labels)}
    column = np.array([place.get(name, -1) for name in chain.from_iterable(truth)])
    p = np.where(column >= 0, np.concatenate(list(probabilities))[np.arange(len(column)), column], 0.0)
    hits = (expected == answered).astype(np.float64)
    tallies = {
        "accuracy": mean_of(np.bincount(row_of, hits, len(truth)), steps),
        "macro_f1": _macro_f1(row_of, expected, answered, len(truth), len(classes)),
        "log_loss": mean_of(np.bincount(row_of, -np.log(np.clip(p, SMALLEST, 1.0)), len(truth)), steps),
    }
    if per_step and is_bio(labels):
        tallies["span_f1"] = _span_f1(truth, answers)
    return tallies


def mean_of(total: NDArray[Any], count: NDArray[Any]) -> Tally:
    """A mean over steps, of the rows' totals and counts, (N,) each."""
    return Tally(csr_array(np.column_stack([total, count])), lambda sums: sums[:, 0] / sums[:, 1])


def pooled(tallies: Sequence[Tally]) -> Tally:
    """The metric of several answers to the same rows, such as those of several seeds, taken together."""
    if len(tallies) == 1:
        return tallies[0]
    return Tally(sum(tally.sums for tally in tallies) / len(tallies), tallies[0].figure)


def _macro_f1(row_of: NDArray[Any], expected: NDArray[Any], answered: NDArray[Any], rows: int, classes: int) -> Tally:
    """Mean F1 of the classes that stand among the labels or the answers of a resample."""
    right = expected == answered
    places = np.concatenate([row_of[right], row_of, row_of])
    columns = np.concatenate([expected[right], classes + expected, classes + answered])
    sums = csr_array((np.ones(len(places)), (places, columns)), shape=(rows, 2 * classes))

    def figure(totals: Floats) -> Floats:
        hits, named = totals[:, :classes], totals[:, classes:]
        f1 = np.divide(2 * hits, named, out=np.zeros_like(hits), where=named > 0)
        return np.asarray(f1.sum(axis=1) / np.maximum((named > 0).sum(axis=1), 1))

    return Tally(sums, figure)


def _span_f1(truth: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> Tally:
    pairs = [(spans(expected), spans(answered)) for expected, answered in zip(truth, answers, strict=True)]
    sums = np.array([[len(a & b), len(a) + len(b)] for a, b in pairs], dtype=np.float64)

    def figure(totals: Floats) -> Floats:
        return np.divide(2 * totals[:, 0], totals[:, 1], out=np.ones(len(totals)), where=totals[:, 1] > 0)

    return Tally(csr_array(sums), figure)
