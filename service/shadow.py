"""A challenger's answers to a sample of the requests, which nobody is given: how they compare with the champion's.

A request that is drawn leaves a copy of its sequences here once it has been answered. A thread runs them when the
worker has nothing else to do, one sequence at a time, through the champion and the challenger alike, so that both are
timed in the same way. What finds the thread busy is dropped: the champion waits for nothing here.
"""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from gatewise.errors import GatewiseError
from gatewise.shadow import Comparison, Comparisons
from service.batching import Batcher
from service.payload import encode_one
from service.registry import LiveModel

if TYPE_CHECKING:
    from service.metrics import Metrics

logger = logging.getLogger("gatewise.service")

MAX_PENDING_BYTES = 4 * 1024 * 1024
_IDLE_SECONDS = 0.002
_SAVE_SECONDS = 1.0


class ShadowRun:
    """One pair of models, as long as both stay what they are.

    Args:
        sample: share of the requests that are drawn.
        batcher: of the champion; the thread runs while it is idle.
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
        self._save_at = 0.0
        self._copies: queue.SimpleQueue[tuple[list[Any], int]] = queue.SimpleQueue()
        self._lock = threading.Lock()  # of what the event loop and the thread both change
        self._pending_bytes = self._dropped = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gatewise-shadow", daemon=True)
        self._thread.start()

    def draws(self) -> bool:
        """Whether a request is one of the sample."""
        return self._random.random() < self._sample

    def offer(self, sequences: list[Any], size: int) -> None:
        """Take the sequences of a request that has been answered, or drop them.

        Args:
            size: bytes of its body.
        """
        with self._lock:
            if self._pending_bytes and self._pending_bytes + size > MAX_PENDING_BYTES:
                self._dropped += 1
                return
            self._pending_bytes += size
        self._copies.put((sequences, size))

    def close(self, timeout_seconds: float | None = None) -> None:
        """Compare no more; what was found is kept.

        Args:
            timeout_seconds: how long to wait for that; not at all by default.
        """
        self._ended.set()
        if timeout_seconds is not None:
            self._thread.join(timeout_seconds)

    # The rest runs in the thread.

    def _work(self) -> None:
        while not self._ended.is_set():
            self._work_once()
            if time.monotonic() > self._save_at:
                self._save()
        self._save()

    def _work_once(self) -> None:
        try:
            sequences, size = self._copies.get(timeout=_SAVE_SECONDS / 2)
        except queue.Empty:
            return
        for item in sequences:
            if self._ended.is_set():
                break
            self._compare(item)
        with self._lock:
            self._pending_bytes -= size

    def _compare(self, item: Any) -> None:
        # In turns, so that neither always finds the cache as the other left it.
        order = [self.champion, self._challenger]
        if self._found.rows % 2:
            order.reverse()
        answers = {}
        try:
            for model in order:
                answers[model is self.champion] = self._run(model, item)
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

    def _run(self, model: LiveModel, item: Any) -> tuple[list[str], float]:
        """The labels of a sequence, and the seconds of the network for it alone."""
        while not self._batcher.is_idle and not self._ended.wait(_IDLE_SECONDS):
            pass
        encoded = encode_one(model, item, ())
        started = time.perf_counter()
        logits = model.predictor.logits([encoded.inputs])[0]
        seconds = time.perf_counter() - started
        fields = vars(model.predictor.answer(encoded, logits))
        return [fields["label"]] if "label" in fields else list(fields["labels"]), seconds

    def _save(self) -> None:
        with self._lock:
            self._found.dropped, self._dropped = self._dropped, 0
        found, self._found = self._found, self._nothing()
        self._save_at = time.monotonic() + _SAVE_SECONDS
        if found == self._nothing():
            return
        self._metrics.count_shadow_dropped(found.dropped)
        try:
            self._records.add(found)
        except (OSError, GatewiseError) as error:
            logger.warning("what the shadow found in the last second is lost: %s", error)

    def _nothing(self) -> Comparison:
        return Comparison(champion=self.champion.identity["version"], challenger=self._challenger.identity["version"])
