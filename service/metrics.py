"""Every metric of the service, its labels and its unit.

    gatewise_http_requests_total{route,status}   requests answered; 499: the client left first
    gatewise_http_request_seconds{route}         seconds from the first byte read to the last written
    gatewise_queue_wait_seconds                  seconds that a request's items waited for the model, the last to start
    gatewise_queue_steps                         timesteps waiting now
    gatewise_batch_items                         sequences in a batch
    gatewise_batch_padding_ratio                 share of padding in a batch, were it padded as one; 0 to 1
    gatewise_engine_seconds                      seconds of the model for a batch
    gatewise_engine_failures_total               items that the model broke on
    gatewise_predictions_total{label}            predictions by label; a per-step model counts its steps
    gatewise_prediction_confidence               confidence of a sequence's prediction; mean over its steps
    gatewise_model_info{name,version,kind,task,engine}  1 for the model that is live, 0 for one that was
    gatewise_model_switches_total{result}        versions that took over (done), or could not (failed), in any worker
    gatewise_model_behind                        1 while a worker cannot follow the pointer, else 0
    gatewise_store_failures_total                times that the shared store could not be asked
    gatewise_shadow_sequences_total{result}      sequences that a shadow agreed or differed on, or failed on
    gatewise_shadow_engine_seconds{model}        seconds of champion and challenger for one of these sequences, alone
    gatewise_shadow_dropped_total                sampled requests that found the shadow busy
    gatewise_drift_psi{measure}                  population stability index of a measure; NaN while there is none
    gatewise_drift_state{state}                  1 for the state of drift, of unknown, none, moderate and major; else 0
    gatewise_drift_sequences                     sequences in the window that these are of

Of drift each worker has a window of its own, told by `pid` where there are several. `route` is one of the service's own
routes, or `other`: a scanner cannot make new ones. prometheus_client is imported when `Metrics` is made and not before:
it looks for PROMETHEUS_MULTIPROC_DIR once, at its import.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from gatewise.drift import State

if TYPE_CHECKING:
    from gatewise.drift import Drift
    from service.batching import BatchReport

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_ITEMS = (1, 2, 4, 8, 16, 32, 64, 128)
_RATIOS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75)
_SWITCHES = ("done", "failed")
_CONFIDENCES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """The metrics of one worker; `render` gives those of all workers together."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self._registry = registry = CollectorRegistry()

        def counter(name: str, what: str, labels: tuple[str, ...] = ()) -> Counter:
            return Counter(f"gatewise_{name}", what, labels, registry=registry)

        def histogram(name: str, what: str, buckets: tuple[float, ...], labels: tuple[str, ...] = ()) -> Histogram:
            return Histogram(f"gatewise_{name}", what, labels, buckets=buckets, registry=registry)

        self._requests = counter("http_requests_total", "Requests answered.", ("route", "status"))
        self._request_seconds = histogram("http_request_seconds", "Time to answer.", _SECONDS, ("route",))
        self._queue_wait = histogram("queue_wait_seconds", "Wait of a request's items for the model.", _SECONDS)
        self._queue_steps = Gauge(
            "gatewise_queue_steps", "Timesteps waiting now.", registry=registry, multiprocess_mode="livesum"
        )
        self._batch_items = histogram("batch_items", "Sequences in a batch.", _ITEMS)
        self._padding = histogram("batch_padding_ratio", "Share of padding in a batch.", _RATIOS)
        self._engine_seconds = histogram("engine_seconds", "The model's time for a batch.", _SECONDS)
        self._failures = counter("engine_failures_total", "Items that the model broke on.")
        self._predictions = counter("predictions_total", "Predictions by label.", ("label",))
        self._confidence = histogram("prediction_confidence", "Confidence of a prediction.", _CONFIDENCES)
        self._model_info = Gauge(
            "gatewise_model_info",
            "1 for the live model.",
            ("name", "version", "kind", "task", "engine"),
            registry=registry,
            multiprocess_mode="livemax",
        )

        self._switches = counter("model_switches_total", "Switches of the live model.", ("result",))
        # From zero: of a counter that begins at its first failure, Prometheus sees no increase.
        for result in _SWITCHES:
            self._switches.labels(result)
        self._behind = Gauge(
            "gatewise_model_behind",
            "1 while the pointer cannot be followed.",
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._store_failures = counter("store_failures_total", "Times that the shared store could not be asked.")
        self._shadow = counter("shadow_sequences_total", "Sequences of a shadow.", ("result",))
        self._shadow_seconds = histogram(
            "shadow_engine_seconds", "The network's time for a sequence.", _SECONDS, ("model",)
        )
        self._shadow_dropped = counter("shadow_dropped_total", "Requests that found the shadow busy.")

        def of_worker(name: str, what: str, labels: tuple[str, ...] = ()) -> Gauge:
            return Gauge(f"gatewise_drift_{name}", what, labels, registry=registry, multiprocess_mode="liveall")

        self._drift_psi = of_worker("psi", "Population stability index.", ("measure",))
        self._drift_state = of_worker("state", "1 for the state of drift.", ("state",))
        self._drift_sequences = of_worker("sequences", "Sequences in the window of drift.")
        self._drift_measures: set[str] = set()
        # Counting goes to plain numbers and from there, twice a second, to files that the workers share.
        self._tallies: dict[tuple[Any, tuple[str, ...]], _Count | _Spread] = {}
        self._queued = 0

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """One request has been answered."""
        self._count(self._requests, route, str(status)).add(1)
        self._spread(self._request_seconds, route).add(seconds)

    def count_batch(self, report: BatchReport) -> None:
        """One batch has run."""
        self._spread(self._batch_items).add(report.items)
        self._spread(self._padding).add(1 - report.steps / report.padded_steps)
        self._spread(self._engine_seconds).add(report.seconds)
        if report.failures:
            self._failures.inc(report.failures)

    def observe_wait(self, seconds: float) -> None:
        """The last item of a request has gone to the model."""
        self._spread(self._queue_wait).add(seconds)

    def set_queue(self, steps: int) -> None:
        """The queue has changed."""
        self._queued = steps

    def count_predictions(self, labels: Tally[str], confidences: list[float]) -> None:
        """A request's predictions have been made."""
        for label, count in labels.items():
            self._count(self._predictions, label).add(count)
        spread = self._spread(self._confidence)
        for confidence in confidences:
            spread.add(confidence)

    def flush(self) -> None:
        """Hand over what was counted since the last time."""
        self._queue_steps.set(self._queued)
        for tally in self._tallies.values():
            tally.flush()

    def set_model(self, card: Mapping[str, Any], is_live: bool = True) -> None:
        """A model has become live, or has ceased to be."""
        names = (card["name"], card["version"], card["kind"], card["task"], card["engine"])
        self._model_info.labels(*names).set(1 if is_live else 0)

    def count_switch(self, *, is_done: bool) -> None:
        """Another version has become live, or could not be used."""
        self._switches.labels("done" if is_done else "failed").inc()

    def set_behind(self, is_behind: bool) -> None:
        """The pointer was followed, or could not be."""
        self._behind.set(is_behind)

    def count_store_failure(self) -> None:
        """The shared store could not be asked; from any thread."""
        self._store_failures.inc()

    def count_shadow(self, result: str, champion: float | None = None, challenger: float | None = None) -> None:
        """A shadow has run a sequence, in so many seconds."""
        self._shadow.labels(result).inc()
        if champion is not None and challenger is not None:
            self._shadow_seconds.labels("champion").observe(champion)
            self._shadow_seconds.labels("challenger").observe(challenger)

    def count_shadow_dropped(self) -> None:
        """A request found the shadow busy."""
        self._shadow_dropped.inc()

    def set_drift(self, drift: Drift) -> None:
        """The live model's window has moved, or another model has become live."""
        # Prometheus's files of several workers forget no label.
        self._drift_measures |= set(drift.measures)
        for measure in self._drift_measures:
            found = drift.measures.get(measure)
            self._drift_psi.labels(measure).set(found.psi if found else math.nan)
        for state in get_args(State):
            self._drift_state.labels(state).set(state == drift.state)
        self._drift_sequences.set(drift.sequences)

    def render(self) -> bytes:
        """All workers' metrics in Prometheus's text format, up to their last `flush`."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)

    def _count(self, metric: Any, *labels: str) -> _Count:
        return self._tally(_Count, metric, labels)

    def _spread(self, metric: Any, *labels: str) -> _Spread:
        return self._tally(_Spread, metric, labels)

    def _tally(self, kind: type[TallyT], metric: Any, labels: tuple[str, ...]) -> TallyT:
        tally = self._tallies.get((metric, labels))
        if tally is None:
            tally = self._tallies[metric, labels] = kind(metric.labels(*labels) if labels else metric)
        return tally  # type: ignore[return-value]


class _Count:
    """What a counter has not been told yet."""

    def __init__(self, counter: Any) -> None:
        self._counter = counter
        self._pending = 0

    def add(self, amount: int) -> None:
        self._pending += amount

    def flush(self) -> None:
        if self._pending:
            self._counter.inc(self._pending)
            self._pending = 0


class _Spread:
    """What a histogram has not been told yet, by bucket."""

    def __init__(self, histogram: Any) -> None:
        # The library has no public way to tell a histogram of many values at once, and one by one, each into a file
        # that workers share, they cost a tenth of a request.
        self._buckets, self._sum = histogram._buckets, histogram._sum
        self._bounds = histogram._upper_bounds
        self._pending = [0] * len(self._bounds)
        self._total = 0.0

    def add(self, value: float) -> None:
        self._pending[bisect_left(self._bounds, value)] += 1
        self._total += value

    def flush(self) -> None:
        for i, count in enumerate(self._pending):
            if count:
                self._buckets[i].inc(count)
                self._pending[i] = 0
        if self._total:
            self._sum.inc(self._total)
            self._total = 0.0


TallyT = TypeVar("TallyT", _Count, _Spread)
