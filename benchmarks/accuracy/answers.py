"""Scores of answered labels, the same for every comparator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.dataset import Dataset
from training.metrics import is_bio, macro_f1, span_f1

Answers = Sequence[Any]
"""A label for each item, or with a label for each step a list of them."""


def scores(data: Dataset, answers: Answers) -> dict[str, float]:
    """Accuracy and macro_f1; span_f1 where the tags are BIO."""
    assert data.labels is not None
    truth, answered = _flat(data.labels), _flat(answers)
    index = {label: k for k, label in enumerate(sorted(set(truth) | set(answered)))}
    expected, given = (np.array([index[label] for label in labels]) for labels in (truth, answered))
    found = {"accuracy": float((expected == given).mean()), "macro_f1": macro_f1(expected, given)}
    if data.task == "step" and is_bio(sorted(set(truth))):
        found["span_f1"] = span_f1(data.labels, answers)
    return found


def _flat(labels: Answers) -> list[str]:
    return [label for row in labels for label in ([row] if isinstance(row, str) else row)]
