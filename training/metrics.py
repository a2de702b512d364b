"""How good answers are, by the field's standard figures.

N rows (or steps), K classes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BIO_TAG = re.compile(r"O|[BI]-.+")
# Where the true label was never seen in training its probability is 0; the logarithm needs a floor.
SMALLEST = float(np.finfo(np.float64).eps)


def classification(
    truth: Sequence[str], answers: Sequence[str], probabilities: NDArray[np.float64], labels: Sequence[str]
) -> dict[str, float]:
    """Return accuracy, macro_f1 and log_loss.

    Args:
        truth: N true labels; one that is not in `labels` counts as answered wrongly, at the smallest probability.
        answers: N labels; with a chain of tags they need not be the likeliest ones.
        probabilities: (N, K).
        labels: K names, in the order of the columns.
    """
    index = {label: k for k, label in enumerate(labels)}
    # A label unseen in training gets an index of its own, which no answer can have.
    unseen = {label: len(labels) + u for u, label in enumerate(sorted(set(truth) - index.keys()))}
    expected = np.array([index[label] if label in index else unseen[label] for label in truth])
    answered = np.array([index[label] for label in answers])
    known = expected < len(labels)
    likelihood = np.where(known, probabilities[np.arange(len(truth)), np.where(known, expected, 0)], 0.0)
    return {
        "accuracy": float((expected == answered).mean()),
        "macro_f1": macro_f1(expected, answered),
        "log_loss": float(-np.log(np.clip(likelihood, SMALLEST, 1.0)).mean()),
    }


def macro_f1(expected: NDArray[np.int64], answered: NDArray[np.int64]) -> float:
    """Mean F1 of the classes that were expected or answered, (N,) indices each."""
    size = int(max(expected.max(), answered.max())) + 1
    hits = np.bincount(expected[expected == answered], minlength=size)
    total = np.bincount(expected, minlength=size) + np.bincount(answered, minlength=size)
    present = total > 0
    return float((2 * hits[present] / total[present]).mean())


def is_bio(labels: Sequence[str]) -> bool:
    """Whether labels mark spans: O, B-type and I-type, with at least one B."""
    return all(_BIO_TAG.fullmatch(label) for label in labels) and any(label.startswith("B-") for label in labels)


def spans(tags: Sequence[str]) -> set[tuple[str, int, int]]:
    """Return (type, first step, step after the last) of each span of BIO tags.

    An I that continues nothing of its type begins a span, as in the CoNLL evaluation.
    """
    found = set()
    start, kind = 0, ""
    for t, tag in enumerate([*tags, "O"]):
        prefix, _, tag_kind = tag.partition("-")
        if kind and (prefix != "I" or tag_kind != kind):
            found.add((kind, start, t))
            kind = ""
        if prefix in ("B", "I") and not kind:
            start, kind = t, tag_kind
    return found


def span_f1(truth: Sequence[Sequence[str]], answers: Sequence[Sequence[str]]) -> float:
    """Micro F1 of whole spans: a span counts where its type and both ends are right."""
    hits = expected = answered = 0
    for true_tags, tags in zip(truth, answers, strict=True):
        true_spans, found = spans(true_tags), spans(tags)
        hits += len(true_spans & found)
        expected += len(true_spans)
        answered += len(found)
    return 2 * hits / (expected + answered) if expected + answered else 1.0
