"""The queue between requests and the model, and the batches that are taken from it.

Continuous: the next batch is whatever queued while the last one ran; nothing ever waits for company. Three rules:

Fair. Each request is a flow of its own with a virtual clock, as in weighted fair queueing (Demers, Keshav & Shenker
1989): an item is due at its request's clock plus the timesteps it asks for, and the common clock advances by the
timesteps served, shared among the requests that wait. So one request of a thousand sequences and a thousand of one
sequence get the same share each, and a long document neither goes before short ones that came with it nor waits for
ever. Every other batch starts with the oldest request once that has waited `max_wait_seconds`.

Of similar length. The item that is due first starts a batch; the rest of it are those due first among the lengths
nearest to it, while the padding stays under `max_padding` and the batch under its budgets.

Separate. An answer depends on no batch-mate: when the model fails on a batch, its items run again one by one, and
only what fails alone fails.

All methods run on the event loop, except `run_batch`: a batch that takes long runs on the model's own thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import logging
import math
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from service.errors import BodyTooLarge, EngineFailure, NotReady, QueueFull

logger = logging.getLogger("gatewise.service")

Result = NDArray[np.float32] | EngineFailure
_BUCKETS_PER_DOUBLING = 4
# A request may wait this many times as long as the model needs for it, where that is more than `queue_seconds`.
_WAIT_PER_WORK = 10
# How often the model's thread looks whether a batch on the event loop hangs.
_LOOK_SECONDS = 5.0
# Turns of the loop, some milliseconds at most, in which new connections are accepted before a batch.
_MOST_TURNS = 64


class Runs(Protocol):
    """What the batcher needs of a Predictor."""

    def logits(self, encoded: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Run one batch; logits for each sequence, in the order given."""
        ...


@dataclass(frozen=True)
class BatchLimits:
    """How much waits and how much runs at once; a step is one timestep of one sequence."""

    queue_steps: int = 1_000_000
    queue_seconds: float = 0.15
    inline_seconds: float = 0.0
    max_items: int = 32
    max_steps: int = 32_768
    max_padding: float = 0.25
    max_wait_seconds: float = 5.0
    hang_seconds: float = math.inf


class BatchReport(NamedTuple):
    """What a batch was, for the metrics."""

    items: int
    steps: int
    padded_steps: int
    seconds: float
    failures: int


class Observer(Protocol):
    """Who is told what happens in the queue."""

    def count_batch(self, report: BatchReport) -> None: ...
    def observe_wait(self, seconds: float) -> None: ...
    def set_queue(self, steps: int) -> None: ...


class Job:
    """The items of one request; `future` has their results in the request's order once the last is there."""

    __slots__ = ("_batcher", "engine", "future", "items", "left", "results", "submitted", "waiting")

    def __init__(self, batcher: Batcher, engine: Runs, inputs: Sequence[NDArray[Any]], submitted: float) -> None:
        self._batcher = batcher
        self.engine = engine
        self.future: asyncio.Future[list[Result]] = asyncio.get_running_loop().create_future()
        self.items = [_Item(self, index, array) for index, array in enumerate(inputs)]
        self.results: list[Any] = [None] * len(inputs)
        self.left = self.waiting = len(inputs)
        self.submitted = submitted

    def abandon(self, error: Exception | None = None) -> None:
        """Nobody waits for the answer any more: what still queues is dropped, and what runs is not looked at.

        Args:
            error: what the future raises, where somebody does look.
        """
        if not self.future.done():
            if error is None:
                self.future.cancel()
            else:
                self.future.set_exception(error)
        self._batcher._drop(self)


class _Item:
    __slots__ = ("due", "gone", "index", "inputs", "job", "order", "steps")

    def __init__(self, job: Job, index: int, inputs: NDArray[Any]) -> None:
        self.job = job
        self.index = index
        self.inputs: NDArray[Any] | None = inputs
        self.steps = max(1, len(inputs))
        self.gone = False  # taken into a batch, or dropped
        self.due = 0.0
        self.order = 0

    def __lt__(self, other: _Item) -> bool:
        return (self.due, self.order) < (other.due, other.order)


class Batcher:
    """The queue, and the one thread that runs the model."""

    def __init__(
        self,
        limits: BatchLimits,
        observer: Observer | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_hang: Callable[[], object] | None = None,
    ) -> None:
        self._limits = limits
        self._on_hang = on_hang or _end_process
        self._observer = observer
        self._clock = clock
        self._buckets: dict[int, list[_Item]] = {}
        self._arrivals: deque[_Item] = deque()
        self._virtual = 0.0
        self._waiting_jobs = 0
        self._order = 0
        self._last_was_aged = False
        self._seconds_per_step = 1e-5  # of the model
        self._pace = 1e-5  # seconds for each step from batch to batch, with all that is done between them
        self._finished_at = clock()
        self._measured: weakref.ref[Runs] | None = None  # the model whose pace is known
        self._running: list[_Item] = []
        self._running_since: float | None = None
        self._is_scheduled = self._is_on_loop = False
        self._has_greeted = False
        self._turns = 0
        self._is_closing = False
        self._drained = asyncio.Event()
        self._tasks: queue.SimpleQueue[list[_Item] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        # A daemon: a model that never returns must not keep the process from ending.
        self._thread = threading.Thread(target=self._work, name="gatewise-model", daemon=True)
        self._thread.start()
        self.queued_steps = 0

    @property
    def running_seconds(self) -> float:
        """How long the batch that runs now has run."""
        return 0.0 if self._running_since is None else self._clock() - self._running_since

    def greet(self) -> None:
        """A connection has come: let another come in before the next batch.

        libuv accepts one in a turn of the loop. Were each turn a batch, most of a crowd would wait unseen, for seconds,
        and could not even be refused.
        """
        self._has_greeted = True

    def submit(self, engine: Runs, inputs: Sequence[NDArray[Any]]) -> Job:
        """Queue the encoded items of one request, at least one.

        Raises:
            NotReady: the batcher is closing.
            BodyTooLarge: they are more than the queue holds at all.
            QueueFull: they do not fit beside what waits.
        """
        steps = sum(max(1, len(array)) for array in inputs)
        self._admit(steps)
        job = Job(self, engine, inputs, self._clock())
        due = self._virtual
        # The order inside a request is free, since all its answers go out together: by length, for close batches.
        for item in sorted(job.items, key=_steps):
            due += item.steps
            item.due = due
            item.order = self._order
            self._order += 1
            heapq.heappush(self._buckets.setdefault(_bucket(item.steps), []), item)
            self._arrivals.append(item)
        self._waiting_jobs += 1
        self._set_queued(self.queued_steps + steps)
        self._schedule()
        return job

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return not self._running and not self.queued_steps

    def set_padding(self, max_padding: float) -> None:
        """Allow so much padding from the next batch on: it depends on the model."""
        self._limits = replace(self._limits, max_padding=max_padding)

    async def close(self, timeout_seconds: float = 30.0) -> None:
        """Answer what is queued, take nothing new, and end the thread."""
        self._is_closing = True
        if self._running or self.queued_steps:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._drained.wait(), timeout_seconds)
        self._tasks.put(None)
        if not self._running:
            await asyncio.to_thread(self._thread.join, timeout_seconds)

    def check_wait(self, steps: int) -> None:
        """Refuse a request that would wait too long, by the timesteps that it asks for in all.

        How long is known from what waits already: the queue is fair, so none that came before goes ahead by more than
        this request itself asks for.

        Raises:
            NotReady: the batcher is closing.
            QueueFull: it would wait too long.
        """
        if self._is_closing:
            raise NotReady("the service is stopping")
        wait = min(self.queued_steps, self._waiting_jobs * steps) * self._pace
        if wait > max(self._limits.queue_seconds, _WAIT_PER_WORK * steps * self._pace):
            raise self._queue_full()

    def _admit(self, steps: int) -> None:
        self.check_wait(steps)
        limit = self._limits.queue_steps
        if steps > limit:
            raise BodyTooLarge(
                f"the sequences have {steps} timesteps together, and one request may have {limit}; split it"
            )
        if self.queued_steps + steps > limit:
            raise self._queue_full()

    def _queue_full(self) -> QueueFull:
        wait = self.queued_steps * self._pace
        return QueueFull(
            f"{self.queued_steps} timesteps wait for the model already; try again later",
            retry_after_seconds=min(60, max(1, math.ceil(wait))),
        )

    def _schedule(self) -> None:
        # One turn of the loop later, so that requests which arrived in the same turn start together.
        if not (self._is_scheduled or self._running):
            self._is_scheduled = True
            self._loop.call_soon(self._start_next)

    def _start_next(self) -> None:
        self._is_scheduled = False
        if self._running:
            return
        if self._has_greeted and self._turns < _MOST_TURNS:
            self._has_greeted = False
            self._turns += 1
            self._schedule()
            return
        self._turns = 0
        batch = self._take()
        if batch:
            self._running, self._running_since = batch, self._clock()
            if self._is_short(batch):
                self._is_on_loop = True
                self._finish(batch, *_timed(batch))
                self._is_on_loop = False
            else:
                self._tasks.put(batch)
        elif self._is_closing:
            self._drained.set()

    def _is_short(self, batch: list[_Item]) -> bool:
        """Whether the batch runs here: to pass it to the thread and back costs more than the loop's short rest."""
        if self._measured is None or self._measured() is not batch[0].job.engine:
            return False  # another model, which may be a hundred times as slow
        padded = len(batch) * max(map(_steps, batch))
        return padded * self._seconds_per_step < self._limits.inline_seconds

    def _take(self) -> list[_Item]:
        seed = self._aged() or self._due_first()
        if seed is None:
            return []
        batch = [seed]
        seed.gone = True
        shape = _Shape(seed.steps)
        middle = _bucket(seed.steps)
        # Nearest lengths first, within two doublings of the seed on either side.
        for bucket in sorted(self._buckets, key=lambda b: abs(b - middle)):
            if abs(bucket - middle) > 2 * _BUCKETS_PER_DOUBLING or len(batch) == self._limits.max_items:
                break
            self._fill(batch, shape, bucket)
        self._account(batch, shape.steps)
        return batch

    def _fill(self, batch: list[_Item], shape: _Shape, bucket: int) -> None:
        engine = batch[0].job.engine
        while len(batch) < self._limits.max_items and (item := self._top(bucket)) is not None:
            # Two models never share a batch: one may have become live while the other's requests still wait.
            if item.job.engine is not engine or not shape.takes(item.steps, len(batch), self._limits):
                return
            shape.add(item.steps)
            item.gone = True
            batch.append(item)

    def _account(self, batch: list[_Item], steps: int) -> None:
        self._virtual += steps / max(1, self._waiting_jobs)
        now = self._clock()
        for item in batch:
            item.job.waiting -= 1
            if not item.job.waiting:
                self._waiting_jobs -= 1
                if self._observer:
                    self._observer.observe_wait(now - item.job.submitted)
        self._set_queued(self.queued_steps - steps)

    def _top(self, bucket: int) -> _Item | None:
        heap = self._buckets.get(bucket)
        while heap and heap[0].gone:
            heapq.heappop(heap)
        if heap:
            return heap[0]
        self._buckets.pop(bucket, None)
        return None

    def _due_first(self) -> _Item | None:
        tops = [self._top(bucket) for bucket in list(self._buckets)]
        return min((item for item in tops if item is not None), default=None)

    def _aged(self) -> _Item | None:
        while self._arrivals and self._arrivals[0].gone:
            self._arrivals.popleft()
        oldest = self._arrivals[0] if self._arrivals else None
        is_aged = oldest is not None and self._clock() - oldest.job.submitted > self._limits.max_wait_seconds
        # Every other batch only: else one old request of a thousand items would hold up all that came after it.
        self._last_was_aged = is_aged and not self._last_was_aged
        return oldest if self._last_was_aged else None

    def _drop(self, job: Job) -> None:
        if not job.waiting:
            return
        dropped = 0
        for item in job.items:
            if not item.gone:
                item.gone, item.inputs = True, None
                dropped += item.steps
        job.waiting = 0
        job.items.clear()
        self._waiting_jobs -= 1
        self._set_queued(self.queued_steps - dropped)

    def _set_queued(self, steps: int) -> None:
        self.queued_steps = steps
        if self._observer:
            self._observer.set_queue(steps)

    def _work(self) -> None:
        while self._work_once():
            pass

    def _work_once(self) -> bool:
        # A function of its own, so that while the thread waits it holds no batch, and with it a model that has left.
        batch = self._next_task()
        if batch is None:
            return False
        results, seconds = _timed(batch)
        # RuntimeError: the loop has closed, and nobody waits for the answer.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish, batch, results, seconds)
        return True

    def _next_task(self) -> list[_Item] | None:
        while True:
            try:
                return self._tasks.get(timeout=min(_LOOK_SECONDS, self._limits.hang_seconds))
            except queue.Empty:
                # A batch in this thread that hangs leaves the event loop to say so by its probes; one there does not.
                if self._is_on_loop and self.running_seconds > self._limits.hang_seconds:
                    self._on_hang()

    def _finish(self, batch: list[_Item], results: list[Result], seconds: float) -> None:
        self._running, self._running_since = [], None
        # After what has arrived meanwhile, and before the answers are worded: a thread works while the loop does that.
        self._schedule()
        failures = 0
        for item, result in zip(batch, results, strict=True):
            item.inputs = None
            failures += isinstance(result, EngineFailure)
            job = item.job
            job.results[item.index] = result
            job.left -= 1
            if not job.left:
                # A job and its items hold each other, and through them a model that has left, until the collector runs.
                job.items.clear()
                if not job.future.done():
                    job.future.set_result(job.results)
        self._report(batch, seconds, failures)

    def _report(self, batch: list[_Item], seconds: float, failures: int) -> None:
        steps = sum(item.steps for item in batch)
        padded = len(batch) * max(item.steps for item in batch)
        engine = batch[0].job.engine
        if self._measured is None or self._measured() is not engine:
            # What another model took says nothing of this one.
            self._measured, self._seconds_per_step = weakref.ref(engine), seconds / steps
        self._seconds_per_step += 0.1 * (seconds / steps - self._seconds_per_step)
        # A batch that waited for the one before waited for reading, wording and refusing too.
        now, before = self._clock(), self._finished_at
        whole = now - before if min(item.job.submitted for item in batch) <= before else seconds
        self._pace += 0.1 * (whole / steps - self._pace)
        self._finished_at = now
        if self._observer:
            self._observer.count_batch(BatchReport(len(batch), steps, padded, seconds, failures))


def _end_process() -> None:
    logger.critical("the model hangs on the event loop, where nobody is answered; this worker ends, for another")
    os._exit(1)


def _timed(batch: list[_Item]) -> tuple[list[Result], float]:
    started = time.perf_counter()
    results = run_batch(batch[0].job.engine, [item.inputs for item in batch])  # type: ignore[misc]
    return results, time.perf_counter() - started


class _Shape:
    """The real and the padded size of a batch as it grows."""

    __slots__ = ("longest", "steps")

    def __init__(self, steps: int) -> None:
        self.longest = self.steps = steps

    def takes(self, steps: int, items: int, limits: BatchLimits) -> bool:
        padded = max(self.longest, steps) * (items + 1)
        return padded <= limits.max_steps and self.steps + steps >= (1 - limits.max_padding) * padded

    def add(self, steps: int) -> None:
        self.longest = max(self.longest, steps)
        self.steps += steps


def run_batch(engine: Runs, inputs: Sequence[NDArray[Any]]) -> list[Result]:
    """Run a batch; where it fails as a whole, run its items one by one, so that only what fails alone fails."""
    try:
        return list(_checked(engine, inputs))
    except Exception as error:
        if len(inputs) == 1:
            logger.error("the model failed on a sequence of %d timesteps", len(inputs[0]), exc_info=error)
            return [EngineFailure("the model failed on this sequence; the server's log says how")]
        logger.warning("the model failed on a batch of %d, which now runs one by one: %r", len(inputs), error)
    return [result for array in inputs for result in run_batch(engine, [array])]


def _checked(engine: Runs, inputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
    logits = engine.logits(inputs)
    # A short list would hand one caller's answer to another.
    if len(logits) != len(inputs):
        raise EngineFailure(f"the model gave {len(logits)} results for {len(inputs)} sequences")
    return logits


def _bucket(steps: int) -> int:
    return int(math.log2(steps) * _BUCKETS_PER_DOUBLING)


def _steps(item: _Item) -> int:
    return item.steps
