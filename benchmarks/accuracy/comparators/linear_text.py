"""Linear classifiers over words and pairs of words: the methods that short networks are rarely better than.

N texts, V n-grams, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.svm import LinearSVC

from benchmarks.accuracy.comparators.interface import Answered, Comparator, texts
from training.dataset import Dataset

# A character of a script without spaces, a word, or a sign: "!" and "?" tell much of a text.
_UNSPACED = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
WORD = rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]"
_COSTS = (0.1, 0.3, 1.0, 3.0, 10.0)


def _tfidf_svm(train: Dataset, valid: Dataset, parts: Sequence[Dataset], seed: int) -> Answered:
    """TF-IDF of words and pairs, linear SVM (Joachims 1998)."""
    vectorizer = TfidfVectorizer(token_pattern=WORD, ngram_range=(1, 2), sublinear_tf=True)
    x = vectorizer.fit_transform(train.items)
    svm, choice = _best(
        lambda cost: LinearSVC(C=cost, random_state=seed).fit(x, train.labels),
        valid,
        vectorizer.transform(valid.items),
    )
    answers = [svm.predict(vectorizer.transform(part.items)).tolist() for part in parts]
    return Answered(answers, parameters=int(svm.coef_.size + svm.intercept_.size), choice=choice)


class NaiveBayesWeighted(LogisticRegression):
    """Logistic regression of one class against the rest, over n-grams weighted by their log-count ratio."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> NaiveBayesWeighted:
        """Learn the ratios (V,), then the regression."""
        inside, outside = (np.asarray(X[np.flatnonzero(y == k)].sum(axis=0)).ravel() + 1.0 for k in (1, 0))
        self.ratio_ = np.log(inside / inside.sum()) - np.log(outside / outside.sum())
        super().fit(X @ sparse.diags(self.ratio_), y)
        return self

    def decision_function(self, X: Any) -> Any:
        """Scores (N,)."""
        return super().decision_function(X @ sparse.diags(self.ratio_))

    def predict_proba(self, X: Any) -> Any:
        """Probabilities (N, 2)."""
        return super().predict_proba(X @ sparse.diags(self.ratio_))


def _nb_logistic(train: Dataset, valid: Dataset, parts: Sequence[Dataset], seed: int) -> Answered:
    """Naive-Bayes weighted logistic regression (Wang & Manning 2012)."""
    vectorizer = CountVectorizer(token_pattern=WORD, ngram_range=(1, 2), binary=True)
    x = vectorizer.fit_transform(train.items).astype(np.float64).tocsr()

    def fit(cost: float) -> OneVsRestClassifier:
        one = NaiveBayesWeighted(C=cost, solver="liblinear", dual=True, max_iter=1000, random_state=seed)
        return OneVsRestClassifier(one).fit(x, train.labels)

    model, choice = _best(fit, valid, vectorizer.transform(valid.items))
    answers = [model.predict(vectorizer.transform(part.items)).tolist() for part in parts]
    return Answered(answers, parameters=sum(one.coef_.size + 1 for one in model.estimators_), choice=choice)


def _best(fit: Callable[[float], Any], valid: Dataset, x: Any, costs: Iterable[float] = _COSTS) -> tuple[Any, str]:
    """The model of the cost that is best on validation, the smallest among equals."""
    best, best_score, best_cost = None, -1.0, 0.0
    for cost in costs:
        model = fit(cost)
        score = float(np.mean(model.predict(x) == np.asarray(valid.labels)))
        if score > best_score:
            best, best_score, best_cost = model, score, cost
    return best, f"C {best_cost:g}"


TFIDF_SVM = Comparator("tfidf-svm", _tfidf_svm, takes=texts)
NB_LOGISTIC = Comparator("nb-logistic", _nb_logistic, takes=texts)
