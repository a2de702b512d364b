"""The real service with an engine that breaks or waits, for `bentoml serve` of tests.fault.faulty_service."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.batch import Batch
from gatewise.engines import Engine
from gatewise.predictor import Predictor
from service import registry
from service.app import GatewiseService

POISON = -666.0  # the engine raises on a batch that holds it
HOLD = -777.0  # the engine waits on a batch that holds it: from FAULTY_FOLDER/held to FAULTY_FOLDER/released
# So long that the batch runs on the model's own thread: a short one runs on the event loop, which must go on here.
HOLD_STEPS = 20_000
LONGEST_HOLD_SECONDS = 240.0

__all__ = ["GatewiseService"]


class FaultyEngine:
    """Another engine, but for the batches that say otherwise."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.name, self.device, self.max_rows = engine.name, engine.device, engine.max_rows
        self._engine, self._folder = engine, folder

    def run(self, batch: Batch) -> NDArray[np.float32]:
        if (batch.inputs == HOLD).any():
            self._hold()
        if (batch.inputs == POISON).any():
            raise RuntimeError("poisoned")
        return self._engine.run(batch)

    def _hold(self) -> None:
        until = time.monotonic() + LONGEST_HOLD_SECONDS
        (self._folder / "held").touch()
        while not (self._folder / "released").exists() and time.monotonic() < until:
            time.sleep(0.02)


def _load(settings: Any) -> Predictor:
    predictor = _real(settings)
    # The tests import this module too, for its numbers; in their process the service stays as it is.
    if folder := os.environ.get("FAULTY_FOLDER"):
        predictor.engine = FaultyEngine(predictor.engine, Path(folder))
    return predictor


_real = registry.load_predictor
registry.load_predictor = _load
