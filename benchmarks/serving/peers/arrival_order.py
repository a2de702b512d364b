"""Gatewise with one thing taken away: batches take what came first, whatever its length, and are padded as one."""

from typing import Any

import service.runtime
from gatewise.engines import OnnxEngine
from service.batching import Batcher


class ArrivalOrder(Batcher):
    """Takes the oldest items, up to `max_items`."""

    def _take(self) -> list[Any]:
        batch: list[Any] = []
        steps = 0
        while self._arrivals and len(batch) < self._limits.max_items:
            item = self._arrivals.popleft()
            if not item.gone:
                item.gone = True
                batch.append(item)
                steps += item.steps
        if batch:
            self._account(batch, steps)
        return batch


OnnxEngine.max_rows = None
service.runtime.Batcher = ArrivalOrder  # type: ignore[misc]

from service.app import GatewiseService  # noqa: E402, F401
