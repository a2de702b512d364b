"""Gatewise with a clock in every part: when it ends it writes the CPU time of each, without the parts inside it."""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gatewise.predictor import Predictor
from service import payload
from service.app import GatewiseService
from service.batching import Batcher
from service.metrics import Metrics
from service.runtime import Runtime

__all__ = ["GatewiseService"]

PARTS: dict[str, list[tuple[Any, str]]] = {
    "read the JSON": [(payload, "read_json")],
    "check and encode": [(payload, "encode")],
    "queue and batches": [(Batcher, "submit"), (Batcher, "_take"), (Batcher, "_finish")],
    "the network": [(Predictor, "logits")],
    "word the answer": [(payload, "answer")],
    "count": [
        (Metrics, name) for name in ("count_request", "count_batch", "count_predictions", "observe_wait", "set_queue")
    ],
}
spent: Counter[str] = Counter()
requests = 0


class _Inside(threading.local):
    """Of the part that a thread runs, and of those around it: nanoseconds of the parts within."""

    def __init__(self) -> None:
        self.spent = [0]


_inside = _Inside()


def _timed(part: str, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        global requests
        requests += part == "read the JSON"
        _inside.spent.append(0)
        started = time.thread_time_ns()
        try:
            return function(*args, **kwargs)
        finally:
            whole = time.thread_time_ns() - started
            spent[part] += whole - _inside.spent.pop()
            _inside.spent[-1] += whole

    return run


_real_close = Runtime.close


async def _close(runtime: Runtime) -> None:
    await _real_close(runtime)
    parts = {part: nanoseconds / requests / 1e6 for part, nanoseconds in spent.items()} if requests else {}
    if parts:
        Path(os.environ["BENCH_WORK"], "parts.json").write_text(json.dumps(parts))


for _part, _places in PARTS.items():
    for _owner, _name in _places:
        setattr(_owner, _name, _timed(_part, getattr(_owner, _name)))
Runtime.close = _close  # type: ignore[method-assign]
