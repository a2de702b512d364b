"""Where a model errs: by class, by pair of classes, by length, and which labels may be wrong themselves.

N answers, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.answers import Answered
from training.report.contents import ClassFigures, Confusion, LengthGroup, Share

_SHOWN_CLASSES = 20
_CONFUSED_CLASSES = 12
_PAIRS = 12
_LENGTH_GROUPS = 6
_Z = 1.959964


def share(count: int, rows: int) -> Share:
    """`count` of `rows` with Wilson's 95 % interval; without figures where there are no rows."""
    if not rows:
        return Share(count=count, rows=rows, value=None, low=None, high=None)
    p, z2 = count / rows, _Z**2
    middle = p + z2 / (2 * rows)
    spread = _Z * math.sqrt(p * (1 - p) / rows + z2 / (4 * rows**2))
    low, high = ((middle + sign * spread) / (1 + z2 / rows) for sign in (-1, 1))
    return Share(count=count, rows=rows, value=p, low=max(0.0, low), high=min(1.0, high))


def class_figures(answered: Answered) -> list[ClassFigures]:
    """Precision, recall and F1 of each class, in the labels' order."""
    size = len(answered.labels)
    expected, answers = answered.expected, answered.answers
    hits = np.bincount(answers[answered.correct], minlength=size)
    support = np.bincount(expected[expected >= 0], minlength=size)
    given = np.bincount(answers, minlength=size)
    return [
        ClassFigures(
            label=label,
            precision=_ratio(hits[k], given[k]),
            recall=_ratio(hits[k], support[k]),
            f1=_ratio(2 * hits[k], support[k] + given[k]),
            support=int(support[k]),
        )
        for k, label in enumerate(answered.labels)
    ]


def confusion(answered: Answered) -> Confusion:
    """Answers by true and answered class; of many classes those with the most mistakes."""
    size, labels = len(answered.labels), answered.labels
    known = answered.expected >= 0
    flat = np.bincount(answered.expected[known] * size + answered.answers[known], minlength=size * size)
    counts = flat.reshape(size, size)
    wrong = counts - np.diag(np.diag(counts))
    shown = np.arange(size)
    if size > _SHOWN_CLASSES:
        involved = wrong.sum(axis=0) + wrong.sum(axis=1)
        shown = np.sort(np.argsort(-involved, kind="stable")[:_CONFUSED_CLASSES])
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [(int(place) // size, int(place) % size) for place in order]
    return Confusion(
        labels=[labels[k] for k in shown],
        counts=counts[np.ix_(shown, shown)].tolist(),
        left_out=size - len(shown),
        pairs=[(labels[a], labels[b], int(wrong[a, b])) for a, b in pairs if wrong[a, b]],
    )


def by_length(answered: Answered) -> list[LengthGroup]:
    """Right answers of sequences of similar length, in groups of about equal size, the shortest first."""
    lengths = answered.lengths
    inner = np.quantile(lengths, np.linspace(0, 1, _LENGTH_GROUPS + 1)[1:-1], method="inverted_cdf")
    groups = np.searchsorted(np.unique(inner), lengths, side="left")
    of_answer = groups[answered.places[:, 0]]
    found = []
    for group in np.unique(groups):
        inside, correct = lengths[groups == group], answered.correct[of_answer == group]
        found.append(
            LengthGroup(
                low=int(inside.min()),
                high=int(inside.max()),
                sequences=len(inside),
                correct=share(int(correct.sum()), len(correct)),
            )
        )
    return found


def confident_mistakes(answered: Answered, count: int) -> list[int]:
    """The wrong answers of the highest confidence: their places among all, the most confident first."""
    wrong = np.flatnonzero(~answered.correct)
    return [int(i) for i in wrong[np.argsort(-answered.confidence[wrong], kind="stable")][:count]]


def label_suspects(answered: Answered) -> list[int]:
    """The answers whose label may be wrong: their places among all, the likeliest wrong ones first.

    Confident learning (Northcutt, Jiang & Chuang 2021): an answer that differs from its label, and whose probability
    reaches the mean probability that the rows labelled as it have for it.

    Args:
        answered: by models that these rows did not train.
    """
    expected, answers = answered.expected, answered.answers
    thresholds = [_mean(answered.shares[expected == k, k]) for k in range(len(answered.labels))]
    is_suspect = (expected >= 0) & ~answered.correct & (answered.confidence >= np.array(thresholds)[answers])
    places = np.flatnonzero(is_suspect)
    margin = answered.confidence[places] - answered.likelihood[places]
    return [int(i) for i in places[np.argsort(-margin, kind="stable")]]


def answering_curve(answered: Answered, points: int = 60) -> list[tuple[float, float]]:
    """(share answered, precision) as the threshold falls, at about `points` of its values."""
    order = np.argsort(-answered.confidence, kind="stable")
    right = np.cumsum(answered.correct[order].astype(np.int64))
    falling, rows = answered.confidence[order], len(order)
    ends = np.flatnonzero(np.append(falling[1:] != falling[:-1], True))
    # The first few answers are all right or all wrong, and tell nothing.
    ends = ends[ends + 1 >= min(rows, 10)]
    chosen = ends[np.unique(np.linspace(0, len(ends) - 1, min(points, len(ends))).round().astype(int))]
    return [((int(i) + 1) / rows, int(right[i]) / (int(i) + 1)) for i in chosen]


def quantiles(lengths: Sequence[int]) -> tuple[int, int, int, int]:
    """Least, median, 95 % quantile and greatest."""
    at = np.quantile(lengths, [0, 0.5, 0.95, 1], method="inverted_cdf")
    return int(at[0]), int(at[1]), int(at[2]), int(at[3])


def _mean(values: NDArray[np.float64]) -> float:
    """The mean; above every probability where there are none, so that nothing reaches it."""
    return float(values.mean()) if len(values) else 2.0


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None
