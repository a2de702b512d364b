"""A logistic regression over the readings of each step, which knows nothing of the steps around it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.accuracy.comparators.interface import Answered, Comparator
from training.dataset import Dataset


def _answer(train: Dataset, valid: Dataset, parts: Sequence[Dataset], seed: int) -> Answered:
    assert train.labels is not None
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(np.nan_to_num(np.concatenate(train.items)), list(chain.from_iterable(train.labels)))
    answers = [[model.predict(np.nan_to_num(item)).tolist() for item in part.items] for part in parts]
    return Answered(answers, parameters=int(model[-1].coef_.size + model[-1].intercept_.size))


STEP_LOGISTIC = Comparator("step-logistic", _answer, takes=lambda each: each.kind == "series" and each.per_step)
