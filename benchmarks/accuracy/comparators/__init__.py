"""The field's simple, strong methods, on the very splits that Gatewise has."""

from __future__ import annotations

from benchmarks.accuracy.comparators import fasttext, frequent, linear_text, series, steps
from benchmarks.accuracy.comparators.interface import Comparator

COMPARATORS: dict[str, Comparator] = {
    each.name: each
    for each in (
        frequent.MAJORITY,
        frequent.TAG_MAJORITY,
        linear_text.TFIDF_SVM,
        linear_text.NB_LOGISTIC,
        fasttext.FASTTEXT,
        series.MINIROCKET,
        series.DTW,
        steps.STEP_LOGISTIC,
    )
}
