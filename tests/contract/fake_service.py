"""The real service with a fake model, for `bentoml serve tests.contract.fake_service:GatewiseService`."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from service import registry, runtime
from service.app import GatewiseService
from tests.unit.service.fakes import FakePredictor

SLOW = -777.0  # a batch that holds it takes a second and a half

__all__ = ["GatewiseService"]


class SlowPredictor(FakePredictor):
    """A fake model that can be told to take its time."""

    def logits(self, encoded: Sequence[Any]) -> list[Any]:
        if any((inputs == SLOW).any() for inputs in encoded):
            time.sleep(1.5)
        return super().logits(encoded)


def _load(settings: Any) -> Any:
    if settings.model is None:
        return _real(settings)
    kind, task, channels = os.environ.get("FAKE_MODEL", "series,sequence,2").split(",")
    return SlowPredictor(kind, task, int(channels))


# These models take time that no earlier batch foretold; on the event loop they would stop it.
runtime._INLINE_SECONDS = 0.0
_real = registry.load_predictor
registry.load_predictor = _load
