"""The window of the last sequences: what it forgets, what it holds, and how it is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.artifact import DRIFT, restate
from gatewise.drift import DriftReference, Histogram, Observation
from gatewise.predictor import Predictor
from service.drift import SAMPLE, DriftWatch, Window
from tests.artifacts import make_series

HALVES = Histogram(edges=(10.0,), shares=(0.5, 0.5), sequences=100_000, source="valid")
REFERENCE = DriftReference(histograms={"length": HALVES})


def of_length(*lengths: int) -> list[Observation]:
    return [{"length": np.array([float(length)])} for length in lengths]


def test_the_window_holds_the_last_sequences_and_forgets_the_others() -> None:
    window = Window(REFERENCE, sequences=1_000, seconds=1e9)
    for now in range(500):
        window.add(of_length(1, 1, 1, 1), now)
        window.forget(now)
    assert window.compare().measures["length"].now == [1, 0]
    assert window.compare().state == "major"
    for now in range(500, 750):
        window.add(of_length(1, 99, 1, 99), now)
        window.forget(now)
    assert window.compare().measures["length"].now == [0.5, 0.5]
    assert window.compare().state == "none"
    assert 940 < window.sequences <= 1_000


def test_what_is_too_old_is_forgotten_though_nothing_comes() -> None:
    window = Window(REFERENCE, sequences=1_000, seconds=60)
    window.add(of_length(*[1] * 300), now=0)
    window.add(of_length(*[99] * 300), now=50)
    assert not window.forget(now=60)
    assert window.forget(now=61)
    assert window.compare().measures["length"].now == [0, 1]
    assert window.forget(now=111)
    assert window.compare().state == "unknown"
    assert window.compare().measures == {}


@pytest.mark.parametrize("interval", [0.0, 0.01, 1.0, 100.0])
def test_the_memory_of_a_window_is_bounded(interval: float) -> None:
    window = Window(REFERENCE, sequences=1_000, seconds=600)
    most = 0
    for turn in range(20_000):
        window.add(of_length(1), turn * interval)
        window.forget(turn * interval)
        most = max(most, window.blocks)
    assert 1 < most <= 42


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    made = make_series(tmp_path / "made")
    restate(made.folder, tmp_path / "artifact", files={DRIFT: REFERENCE.model_dump_json().encode()})
    return Predictor.load(tmp_path / "artifact")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def asked(predictor: Predictor, lengths: list[int]) -> list[tuple[Any, Any]]:
    results = predictor.run_each([np.zeros((length, 2)) for length in lengths])
    return [result for result in results if isinstance(result, tuple)]


def test_a_watch_looks_at_few_of_many_sequences_and_at_all_of_few(predictor: Predictor) -> None:
    watch = DriftWatch(predictor, REFERENCE, 1_000, 60.0, Clock())
    [one] = asked(predictor, [3])
    for count, expected in ((3, 3), (SAMPLE, SAMPLE), (5_000, SAMPLE)):
        before = watch.drift.sequences
        for place, _ in watch.draw(count):
            watch.take(place, *one)
        assert watch.turn()
        assert watch.drift.sequences == before + expected
    assert not watch.turn()


def test_every_sequence_of_an_interval_is_as_likely_to_be_looked_at(predictor: Predictor) -> None:
    watch = DriftWatch(predictor, REFERENCE, 1_000, 60.0, Clock())
    watch._random.seed(0)
    drawn = np.zeros(40)
    for _ in range(4_000):
        sample = {}
        # Four requests of ten sequences.
        for request in range(4):
            sample.update((place, 10 * request + i) for place, i in watch.draw(10))
        drawn[list(sample.values())] += 1
        watch.turn()
    # 800 each, with a deviation of 25.
    assert drawn.sum() == 4_000 * SAMPLE
    assert abs(drawn - 800).max() < 5 * 25


def test_a_watch_tells_drift_and_forgets_it(predictor: Predictor) -> None:
    clock = Clock()
    watch = DriftWatch(predictor, REFERENCE, 1_000, 60.0, clock)
    assert watch.drift.state == "unknown"
    [long] = asked(predictor, [20])
    for turn in range(60):
        clock.now = turn * 0.5
        for place, _ in watch.draw(SAMPLE):
            watch.take(place, *long)
        watch.turn()
    assert (watch.drift.state, watch.drift.sequences) == ("major", 60 * SAMPLE)
    clock.now = 200.0
    assert watch.turn()
    assert (watch.drift.state, watch.drift.sequences) == ("unknown", 0)
