"""How far back a model must see, where the model is made so that this is known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gatewise.batch import Encoded
from training import dependency
from training.dataset import Dataset
from training.dependency import measure_dependency

LABELS = ("down", "up")


class Remembers:
    """Answers by the sign of the reading `delay` steps before; `down` where it cannot see it."""

    def __init__(self, delay: int, task: str) -> None:
        self.delay = delay
        self.task = task
        self.manifest = SimpleNamespace(labels=LABELS)
        self.read = 0

    def encode(self, item: Any) -> Encoded:
        return Encoded(item)

    def logits(self, encoded: list[Any]) -> list[Any]:
        self.read += sum(map(len, encoded))
        rows = []
        for inputs in encoded:
            seen = np.concatenate([np.full(self.delay, -1.0), inputs[:, 0]])[: len(inputs)]
            logits = np.stack([-seen, seen], axis=1)
            rows.append(logits if self.task == "step" else logits[-1])
        return rows

    def decode(self, encoded: Encoded, logits: Any) -> Any:
        return logits.argmax(axis=-1), None


def made(delay: int, task: Any, rows: int = 200, steps: tuple[int, int] = (12, 30)) -> Dataset:
    rng = np.random.default_rng(0)
    items = [rng.normal(size=(n, 1)) for n in rng.integers(*steps, size=rows)]
    labels: list[Any] = []
    for item in items:
        past = np.concatenate([np.full(delay, -1.0), item[:, 0]])[: len(item)]
        names = [LABELS[int(value > 0)] for value in past]
        labels.append(names if task == "step" else names[-1])
    return Dataset("series", task, items, labels, ("0",), None, "made.npz", np.arange(rows))


@pytest.mark.parametrize("task", ["sequence", "step"])
@pytest.mark.parametrize(("delay", "enough"), [(0, 1), (1, 2), (3, 4), (4, 8), (7, 8)])
def test_the_range_is_the_first_power_of_two_that_holds_what_the_answer_hangs_on(
    task: str, delay: int, enough: int
) -> None:
    found = measure_dependency(Remembers(delay, task), made(delay, task), 512)  # type: ignore[arg-type]
    assert found is not None
    assert (found.range, found.full) == (enough, 1.0)
    assert found.steps == (1, 2, 4, 8, 16)
    for k, value in zip(found.steps, found.values, strict=True):
        assert (value == 1.0) == (k > delay)
        assert k > delay or 0.3 < value < 0.8
    assert found.sentence.startswith(
        "The last step alone is enough" if enough == 1 else f"The last {enough} steps are enough"
    )


def test_where_the_first_step_decides_all_steps_are_needed() -> None:
    data = made(19, "sequence", steps=(20, 21))
    found = measure_dependency(Remembers(19, "sequence"), data, 512)  # type: ignore[arg-type]
    assert found is not None
    assert found.range is None
    assert found.sentence.startswith("All steps are needed (half of the rows have 20 or fewer, the longest 20)")


def test_a_model_that_has_learnt_nothing_has_no_range() -> None:
    # It answers by what is 9 steps back, and the labels hang on the last step.
    found = measure_dependency(Remembers(9, "sequence"), made(0, "sequence"), 512)  # type: ignore[arg-type]
    assert found is not None
    assert found.range is None
    assert "no better than always naming the commonest label" in found.sentence


def test_sequences_of_one_step_have_no_past() -> None:
    data = made(0, "sequence", steps=(1, 2))
    assert measure_dependency(Remembers(0, "sequence"), data, 512) is None  # type: ignore[arg-type]


def test_a_step_is_asked_for_in_its_piece_of_a_long_row() -> None:
    model = Remembers(3, "step")
    found = measure_dependency(model, made(3, "step", rows=2, steps=(90, 91)), 8)  # type: ignore[arg-type]
    assert found is not None
    # What lies before the piece is not seen, as in training.
    assert found.steps == (1, 2, 4)
    assert found.full < 1.0
    assert found.range == 4


@pytest.mark.parametrize("task", ["sequence", "step"])
def test_many_and_long_rows_are_sampled(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependency, "_MOST_STEPS", 20_000)
    model = Remembers(1, task)
    assert measure_dependency(model, made(1, task, rows=1000, steps=(100, 120)), 512) is not None  # type: ignore[arg-type]
    assert 5_000 < model.read <= 20_000
