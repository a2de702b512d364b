"""How long a finished artifact takes, by the engine that will serve it, on this device, at the data's own lengths."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import ModelConfig
from gatewise.cells import from_weights
from gatewise.predictor import Predictor

# One candidate is timed for about a second in all.
_SECONDS = 0.25
_REPEATS, _FEWEST_REPEATS = 30, 3
_BATCH, _FEWEST_ITEMS, _MOST_ITEMS = 32, 4, 256
_STEPS = 200


@dataclass(frozen=True)
class Latency:
    """Times from raw item to answer, in milliseconds; medians.

    Those of the onnx engine, which has one thread, are of that thread's CPU: the wall time of a machine that does
    nothing else, whatever else this one does.

    Attributes:
        single_ms: one sequence of median length, alone in its batch.
        single_p95_length_ms: one as long as the 95th percentile.
        batched_ms: a batch of `batch_size`, of similar lengths; the mean over lengths as the data has them.
        per_second: sequences, in such batches.
        step_ms: one timestep of the recurrent layers in numpy, as a stream runs them; None where the model needs the
            sequence's end, as every bidirectional one does.
    """

    engine: str
    device: str
    single_ms: float
    single_p95_length_ms: float
    batched_ms: float
    batch_size: int
    per_second: float
    step_ms: float | None


def measure_latency(predictor: Predictor, weights: Mapping[str, NDArray[np.float32]], items: Sequence[Any]) -> Latency:
    """Time a model on items whose lengths are the data's.

    Args:
        weights: the model's, by the names of `gatewise.architecture`.
    """
    order = np.argsort([len(item) for item in items], kind="stable")
    median = items[order[int(0.5 * (len(order) - 1))]]
    clock = _clock(predictor)
    predictor.predict([median])
    single = _median_seconds(lambda: predictor.predict([median]), clock)
    count = min(int(np.clip(_SECONDS / _FEWEST_REPEATS / single, _FEWEST_ITEMS, _MOST_ITEMS)), len(items))
    sample = [items[order[i]] for i in np.linspace(0, len(order) - 1, count).round().astype(int)]
    size = min(_BATCH, count)
    seconds = _median_seconds(lambda: predictor.predict_each(sample, batch_size=size), clock)
    return Latency(
        engine=predictor.engine_name,
        device=predictor.engine.device,
        single_ms=1000 * single,
        single_p95_length_ms=measure_long(predictor, items),
        batched_ms=1000 * seconds * size / count,
        batch_size=size,
        per_second=count / seconds,
        step_ms=_step_ms(predictor.manifest.model, weights) if predictor.manifest.model.can_stream else None,
    )


def measure_long(predictor: Predictor, items: Sequence[Any]) -> float:
    """Milliseconds of one sequence alone that is as long as the 95th percentile of the items; the median."""
    lengths = [len(item) for item in items]
    long = items[int(np.argsort(lengths, kind="stable")[int(0.95 * (len(lengths) - 1))])]
    predictor.predict([long])
    return 1000 * _median_seconds(lambda: predictor.predict([long]), _clock(predictor))


def _clock(predictor: Predictor) -> Callable[[], float]:
    return time.thread_time if predictor.engine_name == "onnx" else time.perf_counter


def _step_ms(model: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> float:
    """Median milliseconds of one timestep through every recurrent layer of a model that reads left to right."""
    prefixes = [f"recurrent.{layer}.{model.directions[0]}" for layer in range(model.num_layers)]
    cells = [from_weights(model.cell, weights, prefix, model.reset_after) for prefix in prefixes]
    x = np.random.default_rng(0).normal(size=(1, model.recurrent_input_size)).astype(np.float32)
    states = [cell.initial_state(1) for cell in cells]

    def step() -> None:
        h = x
        for i, cell in enumerate(cells):
            states[i], _ = cell.step(h, states[i])
            h = states[i].h

    return 1000 * _median_seconds(step, time.thread_time, _STEPS)


def _median_seconds(call: Callable[[], Any], clock: Callable[[], float], repeats: int = _REPEATS) -> float:
    """Median time of a call, over as many as the time allows."""
    times: list[float] = []
    while len(times) < _FEWEST_REPEATS or (len(times) < repeats and sum(times) < _SECONDS):
        started = clock()
        call()
        times.append(clock() - started)
    return float(np.median(times))
