"""A challenger's answers to a sample of the requests, which nobody is given: how they compare with the champion's.

A request that is drawn leaves a copy of its sequences here once it has been answered. They are run when the worker has
nothing else to do, one sequence at a time, through the champion and the challenger alike, so that both are timed in the
same way. What finds no room is dropped: the champion waits for nothing here but a sequence that has just begun.

Short ones run on the event loop. In a thread they would fight it for Python's lock, and it would wait longer for that
than they take. And they take a tenth of the worker's time at most, since a core that seems idle may be another's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from gatewise.errors import GatewiseError
from gatewise.shadow import Comparison, Comparisons
from service.batching import Batcher
from service.payload import encode_one
from service.registry import LiveModel

if TYPE_CHECKING:
    from service.metrics import Metrics

logger = logging.getLogger("gatewise.service")

P = ParamSpec("P")
R = TypeVar("R")

MAX_PENDING_BYTES = 4 * 1024 * 1024
_IDLE_SECONDS = 0.002
_REST = 9.0  # times as long as it worked
_SAVE_SECONDS = 1.0
# What takes longer leaves the event loop.
_INLINE_SECONDS = 0.002
_INLINE_STEPS = 512


class ShadowRun:
    """One pair of models, as long as both stay what they are.

    Args:
        sample: share of the requests that are drawn.
        batcher: of the champion; the shadow runs while it is idle.
        records: where the comparison is kept.
    """

    def __init__(
        self,
        champion: LiveModel,
        challenger: LiveModel,
        sample: float,
        batcher: Batcher,
        records: Comparisons,
        metrics: Metrics,
    ) -> None:
        self.champion = champion
        self._challenger, self._sample, self._batcher = challenger, sample, batcher
        self._records, self._metrics = records, metrics
        self._random = random.Random()
        self._found = self._nothing()
        self._copies: asyncio.Queue[tuple[list[Any], int]] = asyncio.Queue()
        self._pending_bytes = 0
        self._seconds_per_step: dict[bool, float] = {}  # of the champion, and not of it
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gatewise-shadow")
        self._tasks = [asyncio.create_task(work()) for work in (self._compare_for_ever, self._save_for_ever)]

    def draws(self) -> bool:
        """Whether a request is one of the sample."""
        return self._random.random() < self._sample

    def offer(self, sequences: list[Any], size: int) -> None:
        """Take the sequences of a request that has been answered, or drop them.

        Args:
            size: bytes of its body.
        """
        if self._pending_bytes and self._pending_bytes + size > MAX_PENDING_BYTES:
            self._found.dropped += 1
            self._metrics.count_shadow_dropped()
            return
        self._pending_bytes += size
        self._copies.put_nowait((sequences, size))

    def close(self, *, wait: bool = False) -> None:
        """Compare no more; what was found is kept.

        Args:
            wait: until it is.
        """
        for task in self._tasks:
            task.cancel()
        self._save()
        self._thread.shutdown(wait=wait)

    async def _compare_for_ever(self) -> None:
        while True:
            sequences, size = await self._copies.get()
            for item in sequences:
                await self._compare(item)
            self._pending_bytes -= size

    async def _compare(self, item: Any) -> None:
        # In turns, so that neither always finds the cache as the other left it.
        order = [True, False] if self._found.rows % 2 else [False, True]
        try:
            answers = {is_champion: await self._run(item, is_champion=is_champion) for is_champion in order}
        except Exception as error:
            if not isinstance(error, GatewiseError):
                logger.warning("the shadow broke on a sequence: %r", error)
            self._found.failed += 1
            self._metrics.count_shadow("failed")
            return
        (labels, seconds), (shadow_labels, shadow_seconds) = answers[True], answers[False]
        agree = self._found.add(labels, shadow_labels)
        self._found.champion_seconds.add(seconds)
        self._found.challenger_seconds.add(shadow_seconds)
        self._metrics.count_shadow("agreed" if agree else "differed", seconds, shadow_seconds)

    async def _run(self, item: Any, *, is_champion: bool) -> tuple[list[str], float]:
        """The labels of a sequence, and the seconds of the network for it alone."""
        while not self._batcher.is_idle:
            await asyncio.sleep(_IDLE_SECONDS)
        started = time.perf_counter()
        model = self.champion if is_champion else self._challenger
        encoded = await self._do(len(item) <= _INLINE_STEPS, encode_one, model, item, ())
        steps = len(encoded.inputs)
        is_short = steps * self._seconds_per_step.get(is_champion, 1.0) < _INLINE_SECONDS
        logits, seconds = await self._do(is_short, _timed, model, encoded.inputs)
        self._seconds_per_step[is_champion] = seconds / steps
        fields = vars(await self._do(steps <= _INLINE_STEPS, model.predictor.answer, encoded, logits))
        await asyncio.sleep(max(_IDLE_SECONDS, _REST * (time.perf_counter() - started)))
        return [fields["label"]] if "label" in fields else list(fields["labels"]), seconds

    async def _do(self, is_short: bool, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        if is_short:
            return work(*args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))

    async def _save_for_ever(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            self._save()

    def _save(self) -> None:
        found, self._found = self._found, self._nothing()
        if found != self._nothing():
            self._thread.submit(self._keep, found)

    def _keep(self, found: Comparison) -> None:
        try:
            self._records.add(found)
        except (OSError, GatewiseError) as error:
            logger.warning("what the shadow found in the last second is lost: %s", error)

    def _nothing(self) -> Comparison:
        return Comparison(champion=self.champion.identity["version"], challenger=self._challenger.identity["version"])


def _timed(model: LiveModel, inputs: Any) -> tuple[Any, float]:
    started = time.perf_counter()
    logits = model.predictor.logits([inputs])[0]
    return logits, time.perf_counter() - started
