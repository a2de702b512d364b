"""How far back a model must see: its accuracy with only the last k steps kept, k = 1, 2, 4, ...

T timesteps, K classes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.batch import Encoded
from gatewise.predictor import Predictor
from training.dataset import Dataset

_FEWEST_ROWS, _MOST_ROWS = 20, 500
# Steps that are read for all values of k together, so that this takes seconds.
_MOST_STEPS = 300_000
_BATCH = 64
# What may be lost for a range to be enough, where the rows would see less.
_LOSS = 0.01


@dataclass(frozen=True)
class Dependency:
    """Accuracy by the steps that are kept of the past.

    Attributes:
        full: accuracy with every step.
        range: the fewest steps that lose no more than a standard error of `full`, or 0.01; None where all are needed,
            and where the answers are no better than always the commonest label.
    """

    metric: str
    steps: tuple[int, ...]
    values: tuple[float, ...]
    full: float
    range: int | None
    sentence: str


@dataclass(frozen=True)
class _Question:
    """An item, and what is asked of it: its label, or with a label for each step that of `place`."""

    inputs: NDArray[Any]
    truth: str
    place: int

    @property
    def past(self) -> int:
        """Steps up to the one that is asked for."""
        return self.place + 1

    def last(self, k: int) -> NDArray[Any]:
        """Its features without what lies more than `k` steps back."""
        return self.inputs[max(0, self.past - k) :]


def measure_dependency(predictor: Predictor, valid: Dataset, window: int) -> Dependency | None:
    """Mask the past of validation rows, step by step less of it.

    A linear branch, which reads the whole sequence at once, is left out; with a label for each step the future stays.

    Args:
        window: steps of a piece of a per-step row, as training cut it.
    Returns:
        None where no row has more than one step.
    """
    questions = _questions(predictor, valid, window)
    longest = max((question.past for question in questions), default=1)
    if longest < 2:
        return None
    steps = tuple(2**i for i in range((longest - 1).bit_length()))
    values = [_accuracy(predictor, questions, k) for k in steps]
    full = _accuracy(predictor, questions, longest)
    allowed = max(_LOSS, float(np.sqrt(full * (1 - full) / len(questions))))
    enough = next((k for k, value in zip(steps, values, strict=True) if value >= full - allowed), None)
    commonest = max(Counter(question.truth for question in questions).values()) / len(questions)
    if full <= commonest + allowed:
        learnt_nothing = f"The answers ({full:.4f} right) are no better than always naming the commonest label"
        return Dependency("accuracy", steps, tuple(values), full, None, learnt_nothing)
    typical = int(np.median([question.past for question in questions]))
    return Dependency("accuracy", steps, tuple(values), full, enough, _sentence(enough, full, typical, longest))


def _sentence(enough: int | None, full: float, typical: int, longest: int) -> str:
    lengths = f"(half of the rows have {typical} or fewer, the longest {longest})"
    if enough is None:
        return f"All steps are needed {lengths}: fewer do not reach the network's accuracy of {full:.4f}"
    last = "The last step alone is" if enough == 1 else f"The last {enough} steps are"
    return f"{last} enough for the network's accuracy of {full:.4f} {lengths}"


def _questions(predictor: Predictor, valid: Dataset, window: int) -> list[_Question]:
    """As many as the time allows, spread evenly over the split."""
    assert valid.labels is not None
    if valid.task == "step":
        pieces = [min(len(row), window) for row in valid.labels]
        # For every k the whole future is read too.
        return list(_of_steps(predictor, valid, window, _affordable(max(pieces).bit_length() * float(np.mean(pieces)))))
    chosen = _spread(len(valid), _MOST_ROWS)
    inputs = [predictor.encode(valid.items[i]).inputs for i in chosen]
    # The sum of 1, 2, 4, ... and of the whole is at most thrice the whole.
    kept = _spread(len(chosen), _affordable(3 * float(np.mean([len(x) for x in inputs]))))
    return [_Question(inputs[i], valid.labels[chosen[i]], len(inputs[i]) - 1) for i in kept]


def _affordable(steps: float) -> int:
    """Rows that may be asked about where each takes this many steps."""
    return int(np.clip(_MOST_STEPS / steps, _FEWEST_ROWS, _MOST_ROWS))


def _spread(count: int, most: int) -> list[int]:
    """At most so many of `count` places, evenly over them."""
    places: list[int] = np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()
    return places


def _of_steps(predictor: Predictor, valid: Dataset, window: int, count: int) -> Iterator[_Question]:
    """Steps drawn from the whole split, each in its piece of a row."""
    assert valid.labels is not None
    ends = np.cumsum([len(row) for row in valid.labels])
    drawn = _spread(int(ends[-1]), count)
    rows = np.searchsorted(ends, drawn, side="right")
    encoded: dict[int, NDArray[Any]] = {}
    for row, step in zip(rows.tolist(), drawn, strict=True):
        t = step - (int(ends[row]) - len(valid.labels[row]))
        if row not in encoded:
            encoded = {row: predictor.encode(valid.items[row]).inputs}
        start = t // window * window
        if t < len(encoded[row]):
            yield _Question(encoded[row][start : start + window], valid.labels[row][t], t - start)


def _accuracy(predictor: Predictor, questions: Sequence[_Question], k: int) -> float:
    kept = [question.last(k) for question in questions]
    order = np.argsort([len(inputs) for inputs in kept], kind="stable")
    right = 0
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        for i, logits in zip(batch, predictor.logits([kept[i] for i in batch]), strict=True):
            classes, _ = predictor.decode(Encoded(kept[i]), logits)
            place = min(k, questions[i].past) - 1
            answer = predictor.manifest.labels[int(classes if logits.ndim == 1 else classes[place])]
            right += answer == questions[i].truth
    return right / len(questions)
