"""What drift is measured against: histograms of held-out sequences, as the model reads and answers them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gatewise.drift import CONFIDENCE, UNKNOWN_RATE, DriftReference, Histogram, Observation, Observer, Source
from gatewise.errors import InvalidSequence
from gatewise.predictor import Predictor
from training.dataset import Dataset

# Below so many held-out rows chance hides most drift of what train can tell as well.
_TINY = 200
_MOST_ROWS = 5_000


def make_reference(predictor: Predictor, held_out: Dataset, train: Dataset, source: Source = "valid") -> DriftReference:
    """Count what the measures of held-out rows are; where these are few, lengths and readings are of train.

    Answers and unknown tokens are always those of held-out rows: the model and its vocabulary were made of train, so it
    is surer there, and knows every word.

    Args:
        predictor: a model that never learnt from the held-out rows.
        source: what these are.
    """
    observer = Observer(predictor)
    answered = [
        observer.observe(*result)
        for result in predictor.run_each(_some(held_out).items)
        if not isinstance(result, InvalidSequence)
    ]
    found: dict[str, tuple[Source, list[Observation]]] = dict.fromkeys(answered[0], (source, answered))
    if len(held_out) < _TINY:
        read = [observer.inputs(predictor.encode(item)) for item in _some(train).items]
        found |= {name: ("train", read) for name in read[0] if name != UNKNOWN_RATE}
    return DriftReference(histograms=_fitted(found, len(predictor.manifest.labels)))


def in_words(reference: DriftReference) -> str:
    """A line on where the reference is from."""
    of_answers = reference.histograms[CONFIDENCE]
    others = {h.sequences for h in reference.histograms.values() if h.source == "train"}
    also = f"; lengths and readings of {others.pop()} of train, since that is small" if others else ""
    return f"Drift is measured against {of_answers.sequences} rows of {of_answers.source}{also}"


def _fitted(found: Mapping[str, tuple[Source, list[Observation]]], num_classes: int) -> dict[str, Histogram]:
    return {
        name: Histogram.fit(name, [one[name] for one in observations], source, num_classes)
        for name, (source, observations) in found.items()
    }


def _some(rows: Dataset) -> Dataset:
    """At most so many rows, evenly spread."""
    return rows.take(np.linspace(0, len(rows) - 1, min(len(rows), _MOST_ROWS)).round().astype(int))
