"""A shadow: it waits for the champion to be idle, drops what it has no room for, and keeps what it found."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from gatewise.shadow import Comparison, Comparisons
from service.metrics import Metrics
from service.registry import LiveModel
from service.shadow import MAX_PENDING_BYTES, ShadowRun
from tests.live import soon
from tests.unit.service.fakes import FakePredictor

HIGH, LOW = [[1.0, 2.0]], [[-1.0, -2.0]]


def live(predictor: FakePredictor) -> LiveModel:
    return LiveModel(predictor, 100)  # type: ignore[arg-type]


class Contrary(FakePredictor):
    """Answers as the other fake does, but high instead of low."""

    def _of_one(self, inputs: Any) -> Any:
        return abs(super()._of_one(inputs))


class Shadowed:
    """A shadow of a fake champion by a fake challenger, and whether the champion is idle."""

    def __init__(self, folder: Path, challenger: FakePredictor) -> None:
        self.records = Comparisons(folder)
        self.batcher = SimpleNamespace(is_idle=True)
        self.champion = FakePredictor(version="v1")
        self.run = ShadowRun(live(self.champion), live(challenger), 1.0, self.batcher, self.records, Metrics())  # type: ignore[arg-type]

    def found(self) -> Comparison:
        [one] = self.records.list()
        return one


def within(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


def test_agreements_differences_and_refusals_are_kept(tmp_path: Path) -> None:
    async def test() -> None:
        shadowed = Shadowed(tmp_path, Contrary(version="v2"))
        shadowed.run.offer([HIGH, LOW], 10)
        shadowed.run.offer([HIGH, [[1.0]]], 10)  # the last has a channel too few
        await soon(lambda: sum(one.rows + one.failed for one in shadowed.records.list()) == 4, "four sequences")
        shadowed.run.close(wait=True)
        found = shadowed.found()
        assert (found.champion, found.challenger) == ("v1", "v2")
        assert (found.rows, found.agreed, found.failed, found.dropped) == (3, 2, 1, 0)
        assert found.differences == {"low": {"high": 1}}
        assert found.champion_seconds.count == found.challenger_seconds.count == 3

    within(test)


def test_nothing_runs_while_the_champion_is_busy_and_what_has_no_room_is_dropped(tmp_path: Path) -> None:
    async def test() -> None:
        shadowed = Shadowed(tmp_path, FakePredictor(version="v2"))
        shadowed.batcher.is_idle = False
        for _ in range(5):
            shadowed.run.offer([HIGH], MAX_PENDING_BYTES // 2)
        await asyncio.sleep(0.2)
        assert shadowed.champion.batches == []
        shadowed.batcher.is_idle = True
        await soon(lambda: bool(shadowed.records.list()) and shadowed.found().rows == 2, "what had room")
        shadowed.run.close(wait=True)
        assert (shadowed.found().rows, shadowed.found().dropped) == (2, 3)

    within(test)


def test_a_shadow_that_is_closed_keeps_what_it_found_and_runs_no_more(tmp_path: Path) -> None:
    async def test() -> None:
        shadowed = Shadowed(tmp_path, FakePredictor(version="v2"))
        shadowed.run.offer([HIGH] * 1000, 10)
        await soon(lambda: len(shadowed.champion.batches) > 3, "some of them")
        shadowed.run.close(wait=True)
        run = len(shadowed.champion.batches)
        assert 3 <= shadowed.found().rows <= run < 1000
        await asyncio.sleep(0.1)
        assert len(shadowed.champion.batches) == run

    within(test)


def test_the_share_that_is_drawn_is_the_sample(tmp_path: Path) -> None:
    async def test() -> None:
        shadowed = Shadowed(tmp_path, FakePredictor(version="v2"))
        shadowed.run._sample = 0.25
        shadowed.run._random.seed(7)
        drawn = sum(shadowed.run.draws() for _ in range(10_000))
        shadowed.run.close(wait=True)
        assert 2300 < drawn < 2700  # within five standard deviations

    within(test)
