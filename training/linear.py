"""Multinomial logistic regression for the linear branches."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits


def fit_linear(
    features: Any, truth: NDArray[np.int64], num_classes: int, strength: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Weights (columns, K) and biases (K,) of a logistic regression; a class without a row is never likely.

    Args:
        features: (N, columns), sparse or dense.
        truth: (N,) class indices.
        strength: how freely it is fitted, C of scikit-learn.
    """
    known, places = np.unique(truth, return_inverse=True)
    if len(known) == num_classes:
        return _fit(features, truth, strength, seed)
    weight, bias = np.zeros((features.shape[1], num_classes)), np.zeros(num_classes, dtype=np.float32)
    if len(known) > 1:
        weight[:, known], bias[known] = _fit(features, places, strength, seed)
    unknown = np.setdiff1d(np.arange(num_classes), known)
    # As odds, less than one row in all that there are.
    bias[unknown] = bias[known].min() - np.log(len(truth) + 1)
    return weight, bias


def _fit(
    features: Any, truth: NDArray[np.int64], strength: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    two = truth.max() == 1
    # For two classes a dual solver is many times faster on what is sparse.
    solver = "liblinear" if two and sparse.issparse(features) else "lbfgs"
    model = LogisticRegression(C=strength, solver=solver, max_iter=100, tol=1e-3, random_state=seed)
    # The vectors are too short to share: on a busy machine a second thread made a fit six times longer.
    # Validation judges what a hundred iterations give; that more would move it further is no news to the user.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(features, truth)
    if two:
        # One score for the second class; halves of it either way are the same odds.
        return np.stack([-model.coef_[0], model.coef_[0]], axis=1) / 2, _pair(model.intercept_[0] / 2)
    return model.coef_.T, model.intercept_.astype(np.float32)


def _pair(value: float) -> NDArray[np.float32]:
    return np.array([-value, value], dtype=np.float32)
