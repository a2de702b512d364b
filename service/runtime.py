"""What a worker holds while it serves, and the way of one request through it."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import orjson

from gatewise.drift import NOTHING_SEEN
from service import feedback, payload, registry
from service.admin import Admin
from service.batching import Batcher, BatchLimits, Job, Result
from service.body import BodyReader, Receive
from service.deadlines import Deadlines
from service.draining import Drain
from service.errors import ClientLeft, NotReady, TimedOut
from service.feedback import Feedback
from service.metrics import Metrics
from service.payload import Answer, PredictRequest, Read
from service.registry import LiveModel, ModelRegistry
from service.settings import ServiceSettings, load_settings
from service.shadow import ShadowRun
from service.switching import Switch, followed
from service.tracing import Tracer
from service.traffic import Traffic

if TYPE_CHECKING:
    from gatewise.batch import Encoded
    from gatewise.predictor import Predictor

logger = logging.getLogger("gatewise.service")

P = ParamSpec("P")
R = TypeVar("R")

# Work beyond these sizes leaves the event loop: about a millisecond of parsing, encoding or wording.
INLINE_BYTES = 64 * 1024
# A word that the vocabulary lacks costs as much as a hundred numbers: its n-grams are looked up one by one.
INLINE_TEXT_BYTES = 4 * 1024
INLINE_PREDICTIONS = 32
INLINE_STEPS = 512
# Batches that the model does in less run on the event loop itself.
_INLINE_SECONDS = 0.02
_METRICS_SECONDS = 0.5
# Most requests are answered sooner than this, and are spared the watch for a client that leaves.
_PATIENCE_SECONDS = 0.1


@dataclass(slots=True)
class Asked:
    """A request that has been read; with its job, one that is queued."""

    model: LiveModel
    encoded: list[Encoded]
    request: PredictRequest
    size: int
    copied: list[Any] | None = None  # its sequences, for the shadow
    job: Job = field(init=False)

    @property
    def steps(self) -> int:
        """Timesteps of all its sequences."""
        return sum(len(one.inputs) for one in self.encoded)

    @property
    def is_short(self) -> bool:
        """Whether its answer is worded within about a millisecond."""
        has_labels = len(self.encoded) if self.model.card["task"] == "sequence" else self.steps
        return len(self.encoded) <= INLINE_PREDICTIONS and has_labels <= INLINE_STEPS

    def time_out(self) -> None:
        """Answer that it took too long."""
        self.job.abandon(_timed_out())


class Runtime:
    """One worker's state; empty until `open`, and again after `close`."""

    def __init__(self) -> None:
        self.registry = ModelRegistry()
        self.settings: ServiceSettings | None = None
        self.metrics: Metrics | None = None
        self.traffic = Traffic()
        self.drain = Drain()
        self.tracer: Tracer | None = None
        self.bodies: BodyReader
        self.deadlines: Deadlines
        self.feedback: Feedback
        self.switch: Switch | None = None
        self.admin: Admin | None = None
        self.shadow: ShadowRun | None = None
        self._batcher: Batcher | None = None
        self._encoder: ThreadPoolExecutor | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._steps_per_byte = 0.0

    @staticmethod
    def check() -> None:
        """Load the configured model once and let it go, so that a start which must fail fails before a worker runs.

        On the CPU, whatever the device: this process only watches the workers afterwards, and must hold nothing of a
        GPU's memory.

        Raises:
            GatewiseError: a setting is wrong, or the model cannot be used.
        """
        settings = load_settings()
        check_device(settings)
        feedback.check(settings)
        if settings.engine != "onnx" and settings.device is not None:
            engine = settings.engine if settings.device == "cpu" else "torch"
            settings = settings.model_copy(update={"device": None, "engine": engine})
        registry.load_live(settings)

    async def open(self) -> None:
        """Read the settings, load the model, start the queue."""
        settings = load_settings()
        model = await asyncio.to_thread(registry.load_live, settings)
        self.settings = settings
        self.metrics = Metrics()
        self.tracer = Tracer(settings.trace_sample)
        self.deadlines = Deadlines()
        self.bodies = BodyReader(settings.max_body_bytes, settings.max_pending_bytes, self.deadlines)
        self.feedback = Feedback(settings)
        self.admin = Admin(settings) if settings.admin_token else None
        limits = BatchLimits(
            queue_steps=settings.queue_steps,
            queue_seconds=settings.queue_seconds,
            max_items=settings.max_batch_items or _batch_items(settings.device),
            max_steps=settings.max_batch_steps,
            inline_seconds=_INLINE_SECONDS if settings.device in (None, "cpu") else 0.0,
            max_wait_seconds=min(5.0, settings.timeout_seconds / 4),
            hang_seconds=_hang_seconds(settings),
        )
        self._batcher = Batcher(limits, self.metrics)
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="gatewise-encode")
        self._flusher = asyncio.create_task(self._flush_metrics())
        self.make_live(model)
        if followed(settings):
            self.switch = Switch(settings, self.registry, self.metrics, self.make_live, self.make_shadow)
        logger.info("%(name)s:%(version)s is served by %(engine)s on %(device)s", model.card)
        self.drain = Drain()
        self.drain.watch()
        # What is here now stays: the collector, which every request's lists call on, need not walk it again and again.
        gc.collect()
        gc.freeze()

    async def close(self) -> None:
        """Answer what is queued, then let everything go."""
        if self.switch:
            self.switch.close()
        if self.shadow:
            self.shadow.close(wait=True)
            self.shadow = None
        if self._batcher and self.settings:
            await self._batcher.close(self.settings.timeout_seconds)
        if self._encoder:
            self._encoder.shutdown(wait=False, cancel_futures=True)
            self.feedback.close()
        self.registry.switch(None)
        gc.unfreeze()
        self.traffic.flush()
        if self._flusher and self.metrics:
            self._flusher.cancel()
            self.metrics.flush()
        self._batcher = self._encoder = self.switch = None

    def make_live(self, model: LiveModel) -> None:
        """Send new requests to this model; those that another has already stay with it."""
        before = self.registry.switch(model)
        if self._batcher:
            self._batcher.set_padding(_padding(model.predictor))
        if self.metrics:
            if before:
                self.metrics.set_model(before.card, is_live=False)
            self.metrics.set_model(model.card)
            self.metrics.set_drift(model.watch.drift if model.watch else NOTHING_SEEN)

    def make_shadow(self, model: LiveModel | None, sample: float) -> None:
        """Let a model answer a share of the requests once more, beside the live one; None ends that."""
        if self.shadow:
            self.shadow.close()
            self.shadow = None
        if model and self.switch and self.metrics:
            live, records = self.registry.live, self.switch.comparisons
            self.shadow = ShadowRun(live, model, sample, self._queue(), records, self.metrics)

    def state(self) -> bytes:
        """What `GET /readyz` says: the live model, and why it may not be the one that should be live.

        Raises:
            NotReady: no model is live.
        """
        model = self.registry.live.identity
        return orjson.dumps({"ready": True, "model": model, "detail": self.switch.problem if self.switch else None})

    @property
    def timeout_seconds(self) -> float:
        """A request's whole time.

        Raises:
            NotReady: the service has not started.
        """
        if self.settings is None:
            raise NotReady("the service is starting")
        return self.settings.timeout_seconds

    @property
    def is_alive(self) -> bool:
        """False when the model has been busy with one batch for so long that it will never return."""
        if self._batcher is None or self.settings is None:
            return True
        return self._batcher.running_seconds < _hang_seconds(self.settings)

    def admit(self, body_bytes: int) -> None:
        """Refuse a request before its body is read, where requests of its size would wait too long by now.

        Raises:
            QueueFull: they would.
        """
        self._queue().check_wait(int(body_bytes * self._steps_per_byte))

    async def predict(
        self, body: bytes | bytearray, receive: Receive, deadline: float, *, read: Read = payload.read_json
    ) -> Answer:
        """Answer the body of `POST /predict`, or of another route by its own way of reading.

        Args:
            receive: of the request, read to its end: it tells when the client leaves.
            deadline: by the loop's clock.
        Raises:
            GatewiseError: `errors.STATUS` says which.
        """
        if self._is_inline(len(body)):
            asked = self._read(body, read)
        else:
            asked = await self._in_thread(deadline, self._read, body, read)
        # Not kept while the items wait: the next request parses into memory that is still in the cache.
        del body
        self._submit(asked)
        results = await _results(asked, receive, deadline, self.deadlines)
        if asked.is_short:
            return self.word(asked, results)
        answer = await self._in_thread(None, self._word, asked, results)
        return self._counted(asked, results, answer)

    def greet(self) -> None:
        """A connection has come."""
        if self._batcher:
            self._batcher.greet()

    def takes_at_once(self, body_bytes: int) -> bool:
        """Whether a body of this size may be given to `ask_at_once`."""
        return self.registry.is_ready and self._is_inline(body_bytes) and self.bodies.has_room(body_bytes)

    def ask_at_once(self, body: bytes | bytearray) -> Asked | None:
        """Read a small JSON body and queue its items, to be ended by `end`; None where the answer is long to word.

        Raises:
            GatewiseError: as `admit` and `predict`.
        """
        self.admit(len(body))
        asked = self._read(body, payload.read_json)
        if not asked.is_short:
            return None
        self._submit(asked)
        self.bodies.hold(asked.size)
        return asked

    def end(self, asked: Asked) -> None:
        """Let go of what `ask_at_once` took."""
        self.bodies.release(asked.size)

    def word(self, asked: Asked, results: list[Result]) -> Answer:
        """Word a request's answer, and count its predictions."""
        return self._counted(asked, results, self._word(asked, results))

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count an answer, for the metrics and the log."""
        if self.metrics:
            self.metrics.count_request(route, status, seconds)
            self.traffic.count(status, seconds)

    def _is_inline(self, body_bytes: int) -> bool:
        return body_bytes <= (INLINE_BYTES if self.registry.live.card["kind"] == "series" else INLINE_TEXT_BYTES)

    def _read(self, body: bytes | bytearray, read: Read) -> Asked:
        assert self.settings is not None
        model = self.registry.live
        request = read(body, model, self.settings.max_sequences)
        encoded = payload.encode(model, request.sequences)
        copied = list(request.sequences) if self.shadow is not None and self.shadow.draws() else None
        # Not kept while the items wait: they are many times as large as what is encoded of them.
        request.sequences.clear()
        return Asked(model, encoded, request, len(body), copied)

    def _submit(self, asked: Asked) -> None:
        inputs = [one.inputs for one in asked.encoded]
        self._steps_per_byte += 0.05 * (sum(map(len, inputs)) / asked.size - self._steps_per_byte)
        asked.job = self._queue().submit(asked.model.predictor, inputs)

    @staticmethod
    def _word(asked: Asked, results: list[Result]) -> Answer:
        return payload.answer(asked.model, asked.encoded, results, asked.request)

    def _counted(self, asked: Asked, results: list[Result], answer: Answer) -> Answer:
        if self.metrics:
            self.metrics.count_predictions(answer.labels, answer.confidences)
        if watch := asked.model.watch:
            for place, i in watch.draw(len(results)):
                self._after_answer(asked, watch.take, place, asked.encoded[i], results[i])
        if asked.copied is not None and self.shadow is not None and self.shadow.champion is asked.model:
            self.shadow.offer(asked.copied, asked.size)
        return answer

    def _after_answer(self, asked: Asked, work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Do what an answer need not wait for; where that is long, in the thread."""
        if asked.is_short or self._encoder is None:
            asyncio.get_running_loop().call_soon(lambda: work(*args, **kwargs))
        else:
            self._encoder.submit(work, *args, **kwargs)

    async def _flush_metrics(self) -> None:
        while self.metrics:
            await asyncio.sleep(_METRICS_SECONDS)
            self._tell_drift()
            self.metrics.flush()

    def _tell_drift(self) -> None:
        watch = self.registry.live.watch if self.registry.is_ready else None
        if watch and watch.turn() and self.metrics:
            self.metrics.set_drift(watch.drift)

    async def _in_thread(self, deadline: float | None, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if self._encoder is None:
            raise NotReady("the service is stopping")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                return await loop.run_in_executor(self._encoder, lambda: work(*args, **kwargs))
        except TimeoutError:
            raise _timed_out() from None

    def _queue(self) -> Batcher:
        if self._batcher is None:
            raise NotReady("the service is stopping")
        return self._batcher


def check_device(settings: ServiceSettings) -> None:
    """Raise InvalidConfig where torch has no such device, without taking any of its memory."""
    if settings.device not in (None, "cpu") and settings.engine != "onnx":
        from gatewise import torch_engine

        torch_engine.check_device(settings.device)


def _hang_seconds(settings: ServiceSettings) -> float:
    return 60 + 2 * settings.timeout_seconds


def _padding(predictor: Predictor) -> float:
    # An engine that runs a batch in parts of near length pads little of a batch of unlike ones, and the fewer batches
    # there are, the sooner the last of those that came together is answered.
    return 0.25 if predictor.engine.max_rows is None else 0.75


def _batch_items(device: str | None) -> int:
    # A CPU gains little from more; a GPU needs many sequences to be busy.
    return 32 if device in (None, "cpu") else 256


async def _results(asked: Asked, receive: Receive, deadline: float, deadlines: Deadlines) -> list[Result]:
    loop = asyncio.get_running_loop()
    job = asked.job
    watches: list[asyncio.Task[None]] = []

    def lose_patience() -> None:
        watches.append(loop.create_task(_watch(job, receive, deadline)))

    timer = deadlines.at(min(deadline, loop.time() + _PATIENCE_SECONDS), lose_patience)
    try:
        return await job.future
    finally:
        timer.cancel()
        for watch in watches:
            watch.cancel()
        job.abandon()


async def _watch(job: Job, receive: Receive, deadline: float) -> None:
    try:
        async with asyncio.timeout_at(deadline):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        job.abandon(_timed_out())
    else:
        job.abandon(ClientLeft("the client left before its answer was ready"))


def _timed_out() -> TimedOut:
    return TimedOut("the answer was not ready in time; send fewer or shorter sequences, or try again later")
