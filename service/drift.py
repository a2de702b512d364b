"""The sequences of the last while, in counts: what `GET /model` and the metrics say of drift.

Of each half second a few sequences are looked at, drawn by chance with equal probability (Vitter 1985, algorithm R), so
that the cost is bounded whatever the load. Each worker has a window of its own.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gatewise.drift import NOTHING_SEEN, Observer

if TYPE_CHECKING:
    from gatewise.batch import Encoded
    from gatewise.drift import Array, Drift, DriftReference, Observation
    from gatewise.predictor import Predictor

SAMPLE = 8
_BLOCKS = 20


@dataclass
class _Block:
    began: float
    sequences: int
    counts: Array


class Window:
    """Counts of the last sequences, in blocks that are forgotten whole: about a twentieth of the window at a time.

    Args:
        sequences: how many it holds at most.
        seconds: how old they are at most.
    """

    def __init__(self, reference: DriftReference, sequences: int, seconds: float) -> None:
        self._reference, self._most, self._seconds = reference, sequences, seconds
        self._blocks: deque[_Block] = deque()

    @property
    def sequences(self) -> int:
        """How many it holds."""
        return sum(block.sequences for block in self._blocks)

    @property
    def blocks(self) -> int:
        """How many arrays of counts it holds: never more than forty and two."""
        return len(self._blocks)

    def add(self, observations: list[Observation], now: float) -> None:
        """Count sequences, at least one, that came at `now`, in seconds of one clock."""
        counts = self._reference.count(observations)
        newest = self._blocks[-1] if self._blocks else None
        if newest is None or self._is_whole(newest, now):
            self._blocks.append(_Block(now, len(observations), counts))
        else:
            newest.sequences += len(observations)
            newest.counts += counts

    def forget(self, now: float) -> bool:
        """Let go of what is too old or too much; whether there was any."""
        before = len(self._blocks)
        while self._blocks and (now - self._blocks[0].began > self._seconds or self.sequences > self._most):
            self._blocks.popleft()
        return len(self._blocks) < before

    def compare(self) -> Drift:
        """What the window shows."""
        if not self._blocks:
            return NOTHING_SEEN
        return self._reference.compare(np.add.reduce([block.counts for block in self._blocks]), self.sequences)

    def _is_whole(self, block: _Block, now: float) -> bool:
        return block.sequences >= self._most / _BLOCKS or now - block.began >= self._seconds / _BLOCKS


class DriftWatch:
    """Draws sequences from those that a model answered, and keeps the window of them."""

    def __init__(
        self,
        predictor: Predictor,
        reference: DriftReference,
        sequences: int,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._observer = Observer(predictor)
        self._window = Window(reference, sequences, seconds)
        self._clock = clock
        self._random = random.Random()
        self._passed = 0
        self._drawn: dict[int, Observation] = {}
        self.drift = self._window.compare()

    def draw(self, count: int) -> Iterator[tuple[int, int]]:
        """Of `count` sequences just answered, those to `take`: the place of each in the sample, and its index."""
        for i in range(count):
            self._passed += 1
            place = self._passed - 1 if self._passed <= SAMPLE else int(self._random.random() * self._passed)
            if place < SAMPLE:
                yield place, i

    def take(self, place: int, encoded: Encoded, logits: Any) -> None:
        """Look at a drawn sequence; it costs as much as wording its answer, and is done after that has gone out."""
        self._drawn[place] = self._observer.observe(encoded, logits)

    def turn(self) -> bool:
        """Move the window on, by what was drawn since the last time; whether `drift` may have changed."""
        drawn, self._drawn, self._passed = [*self._drawn.values()], {}, 0
        now = self._clock()
        if drawn:
            self._window.add(drawn, now)
        changed = self._window.forget(now) or bool(drawn)
        if changed:
            self.drift = self._window.compare()
        return changed
