"""The queue and its batches. Lengths are small, so that each expected batch can be worked out by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Batcher, BatchLimits, Job, run_batch
from service.errors import BodyTooLarge, EngineFailure, NotReady, QueueFull
from tests.unit.service.fakes import POISON, FakePredictor


def sequence(length: int, value: float = 1.0) -> np.ndarray[Any, Any]:
    """Readings of one channel whose logit is length * value."""
    return np.full((length, 1), value, dtype=np.float32)


def lengths(batch: list[Any]) -> list[int]:
    return [item.steps for item in batch]


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 20))  # type: ignore[arg-type]


async def hold(batcher: Batcher, engine: FakePredictor) -> Job:
    """Occupy the model until `engine.free` is set."""
    engine.free.clear()
    job = batcher.submit(engine, [sequence(1)])
    await asyncio.to_thread(engine.started.wait, 10)
    return job


def test_results_come_in_the_order_of_the_request_though_they_run_by_length() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(max_items=2))
        job = batcher.submit(engine, [sequence(n) for n in (9, 1, 8, 2)])
        assert [float(logits[1]) for logits in await job.future] == [9, 1, 8, 2]
        assert engine.batches == [[1, 2], [8, 9]]
        await batcher.close()

    run(test)


def test_the_next_batch_is_whatever_queued_while_the_last_ran() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits())
        first = await hold(batcher, engine)
        jobs = [batcher.submit(engine, [sequence(10)]) for _ in range(5)]
        engine.free.set()
        await asyncio.gather(first.future, *(job.future for job in jobs))
        assert engine.batches == [[1], [10] * 5]
        await batcher.close()

    run(test)


@pytest.mark.parametrize(("connections", "turns"), [(0, 1), (1, 2), (5, 6), (1000, 65)])
def test_a_batch_waits_while_connections_come_in_but_not_for_ever(connections: int, turns: int) -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(inline_seconds=60))
        await batcher.submit(engine, [sequence(3)]).future  # the first runs in the thread, and is measured
        job, taken = batcher.submit(engine, [sequence(4)]), 0
        while not job.future.done():
            if taken < connections:
                batcher.greet()
            taken += 1
            await asyncio.sleep(0)
        assert taken == turns
        await batcher.close()

    run(test)


def test_requests_of_one_turn_of_the_loop_start_together_and_a_lone_one_alone() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits())
        jobs = [batcher.submit(engine, [sequence(3)]) for _ in range(4)]
        await asyncio.gather(*(job.future for job in jobs))
        await batcher.submit(engine, [sequence(3)]).future
        assert engine.batches == [[3] * 4, [3]]
        await batcher.close()

    run(test)


@pytest.mark.parametrize(
    ("limits", "queued", "batches"),
    [
        (BatchLimits(max_items=3), [5] * 7, [[5] * 3, [5] * 3, [5]]),
        (BatchLimits(max_steps=100), [30] * 5, [[30] * 3, [30] * 2]),
        (BatchLimits(max_steps=100), [500], [[500]]),
        (BatchLimits(), [10, 100, 10, 100], [[10, 10], [100, 100]]),
        (BatchLimits(), [16, 15, 14, 13, 12], [[12, 13, 14, 15, 16]]),
        # 7 + 10 of 2 * 10 is 15 % padding; 5 + 10 would be exactly 25 %, 4 + 10 is 30 %.
        (BatchLimits(), [7, 10], [[7, 10]]),
        (BatchLimits(), [5, 10], [[5, 10]]),
        (BatchLimits(), [4, 10], [[4], [10]]),
    ],
)
def test_batches_keep_their_budgets_and_hold_similar_lengths(
    limits: BatchLimits, queued: list[int], batches: list[list[int]]
) -> None:
    async def test() -> None:
        engine, batcher = FakePredictor(), Batcher(limits)
        for length in queued:
            batcher.submit(engine, [sequence(length)])
        taken = []
        while batch := batcher._take():
            taken.append(sorted(lengths(batch)))
        assert taken == batches
        assert batcher.queued_steps == 0

    run(test)


def test_a_request_of_a_thousand_sequences_does_not_hold_up_one_that_comes_later() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(max_items=4))
        batcher.submit(engine, [sequence(10)] * 1000)
        for _ in range(5):
            assert len(batcher._take()) == 4
        single = batcher.submit(engine, [sequence(10)])
        assert single in [item.job for item in batcher._take()]

    run(test)


def test_two_large_requests_take_turns() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(max_items=4))
        first, second = (batcher.submit(engine, [sequence(10)] * 100) for _ in range(2))
        for _ in range(10):
            jobs = [item.job for item in batcher._take()]
            assert jobs.count(first) == jobs.count(second) == 2

    run(test)


def test_a_long_document_neither_goes_before_short_ones_nor_waits_for_ever() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(max_items=1))
        long = batcher.submit(engine, [sequence(200)])
        for _ in range(3):
            batcher.submit(engine, [sequence(10)])
        served = []
        while long.waiting:
            (item,) = batcher._take()
            served.append(item.steps)
            batcher.submit(engine, [sequence(10)])  # a backlog of short ones that never ends
        assert served[:3] == [10, 10, 10]
        # Four requests wait at any time, so the clock advances 10/4 for each short one: after 4 * (200 - 10) / 10 = 76
        # of them the long one is due before any that comes then, and it has waited for a quarter of the work.
        assert 70 <= len(served) <= 82

    run(test)


def test_what_has_waited_long_starts_every_other_batch() -> None:
    async def test() -> None:
        now = 0.0
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(max_items=1, max_wait_seconds=5), clock=lambda: now)
        batcher.submit(engine, [sequence(1000), sequence(1000)])
        now = 6.0
        for _ in range(4):
            batcher.submit(engine, [sequence(10)])
        assert [lengths(batcher._take()) for _ in range(6)] == [[1000], [10], [1000], [10], [10], [10]]

    run(test)


def test_an_abandoned_request_never_reaches_the_model_and_leaves_no_trace_in_the_queue() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits())
        first = await hold(batcher, engine)
        gone = batcher.submit(engine, [sequence(10)] * 3)
        stays = batcher.submit(engine, [sequence(10)])
        assert batcher.queued_steps == 40
        gone.abandon()
        assert batcher.queued_steps == 10
        assert gone.future.cancelled()
        engine.free.set()
        await asyncio.gather(first.future, stays.future)
        assert engine.batches == [[1], [10]]
        await batcher.close()

    run(test)


def test_a_request_abandoned_while_it_runs_harms_nobody() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits())
        running = await hold(batcher, engine)
        running.abandon(TimeoutError())
        after = batcher.submit(engine, [sequence(2)])
        engine.free.set()
        assert float((await after.future)[0][1]) == 2
        with pytest.raises(TimeoutError):
            await running.future
        await batcher.close()

    run(test)


def test_a_poisoned_item_fails_alone() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits())
        jobs = [batcher.submit(engine, [sequence(4, value)]) for value in (1.0, POISON, 2.0)]
        good, poisoned, other = [(await job.future)[0] for job in jobs]
        assert (float(good[1]), float(other[1])) == (4, 8)
        assert isinstance(poisoned, EngineFailure)
        assert engine.batches == [[4, 4, 4], [4], [4], [4]]
        await batcher.close()

    run(test)


def test_a_model_that_gives_too_few_results_is_asked_again_one_by_one() -> None:
    engine = FakePredictor()
    engine.short = True
    results = run_batch(engine, [sequence(n) for n in (3, 1, 2)])
    assert [float(logits[1]) for logits in results] == [3, 1, 2]


def test_a_model_that_gives_no_result_at_all_fails_the_item() -> None:
    class Silent:
        def logits(self, encoded: object) -> list[Any]:
            return []

    (result,) = run_batch(Silent(), [sequence(1)])
    assert isinstance(result, EngineFailure)


def test_a_full_queue_refuses_with_the_time_to_try_again_and_takes_work_once_it_drains() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(queue_steps=100))
        first = await hold(batcher, engine)
        second = batcher.submit(engine, [sequence(100)])
        with pytest.raises(QueueFull, match="100 timesteps wait") as full:
            batcher.submit(engine, [sequence(1)])
        assert 1 <= full.value.retry_after_seconds <= 60
        with pytest.raises(BodyTooLarge, match="101 timesteps together, and one request may have 100"):
            batcher.submit(engine, [sequence(101)])
        engine.free.set()
        await asyncio.gather(first.future, second.future)
        await batcher.submit(engine, [sequence(100)]).future
        await batcher.close()

    run(test)


def test_a_batch_that_hangs_on_the_event_loop_is_noticed_from_outside_it() -> None:
    async def test() -> None:
        engine = FakePredictor()
        limits = BatchLimits(inline_seconds=60, hang_seconds=0.2)
        batcher = Batcher(limits, on_hang=engine.free.set)
        await batcher.submit(engine, [sequence(1)]).future  # the first runs in the thread, and is measured
        engine.free.clear()
        # Nothing else than the look from outside sets the engine free before its own half minute is over.
        [result] = await asyncio.wait_for(batcher.submit(engine, [sequence(1)]).future, 20)
        assert result.tolist() == [0, 1]
        assert engine.free.is_set()
        await batcher.close()

    asyncio.run(test())


def test_a_wait_is_foretold_by_what_passes_between_batches_and_not_by_the_model_alone() -> None:
    async def test() -> None:
        now = 10.0
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(max_items=1), clock=lambda: now)
        for _ in range(2):
            batcher.submit(engine, [sequence(10)])
        for _ in range(2):
            batch = batcher._take()
            now += 1  # of which the model had a hundredth
            batcher._finish(batch, [np.zeros(2, dtype=np.float32)], 0.01)
        # A tenth of 1 s for 10 steps, twice.
        assert batcher._pace == pytest.approx(0.01 + 0.9 * 0.01, rel=1e-3)
        now += 60
        batcher.submit(engine, [sequence(10)])
        batcher._finish(batcher._take(), [np.zeros(2, dtype=np.float32)], 0.01)
        # Nothing waited in that minute.
        assert batcher._pace == pytest.approx(0.9 * 0.019 + 0.1 * 0.001, rel=1e-3)

    asyncio.run(test())


def test_a_request_that_would_wait_too_long_is_refused_and_larger_work_may_wait_longer() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(queue_seconds=0.2))
        batcher._pace = 0.01
        jobs = [await hold(batcher, engine), *(batcher.submit(engine, [sequence(2)]) for _ in range(10))]
        # Ten that wait go ahead with at most as many steps as the request has itself: 10 * 2 steps are 0.2 s.
        batcher.check_wait(2)
        jobs.append(batcher.submit(engine, [sequence(2)]))
        with pytest.raises(QueueFull):
            batcher.check_wait(2)
        # One step: the fair share of each of the eleven is a step too, 0.11 s.
        batcher.check_wait(1)
        # The model works 1 s for a hundred steps: to wait 0.22 s more is little.
        batcher.check_wait(100)
        engine.free.set()
        await asyncio.gather(*(job.future for job in jobs))
        batcher.check_wait(2)
        await batcher.close()

    run(test)


def test_closing_answers_what_is_queued_and_takes_nothing_new() -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(max_items=1))
        jobs = [await hold(batcher, engine), *(batcher.submit(engine, [sequence(2)]) for _ in range(3))]
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            batcher.submit(engine, [sequence(1)])
        engine.free.set()
        await closing
        assert [float(job.future.result()[0][1]) for job in jobs] == [1, 2, 2, 2]

    run(test)


def test_two_models_never_share_a_batch() -> None:
    async def test() -> None:
        old, new = FakePredictor(), FakePredictor(version="v2")
        batcher = Batcher(BatchLimits())
        jobs = [batcher.submit(engine, [sequence(5)]) for engine in (old, new, old, new)]
        await asyncio.gather(*(job.future for job in jobs))
        assert sum(map(len, old.batches)) == sum(map(len, new.batches)) == 2
        await batcher.close()

    run(test)


def test_a_model_that_never_returns_is_seen_in_the_running_time() -> None:
    async def test() -> None:
        now = 0.0
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(), clock=lambda: now)
        assert batcher.running_seconds == 0
        job = await hold(batcher, engine)
        now = 7.0
        assert batcher.running_seconds == 7
        engine.free.set()
        await job.future
        assert batcher.running_seconds == 0
        await batcher.close()

    run(test)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.booleans(), st.booleans()), max_size=25
    ),
    st.integers(1, 9),
)
def test_every_request_that_stays_gets_its_own_answers_whatever_else_happens(
    requests: list[tuple[list[int], bool, bool]], max_items: int
) -> None:
    async def test() -> None:
        engine = FakePredictor()
        batcher = Batcher(BatchLimits(max_items=max_items, max_steps=200))
        kept = []
        for number, (sizes, leaves, pauses) in enumerate(requests):
            job = batcher.submit(engine, [sequence(size, number) for size in sizes])
            if pauses:
                await asyncio.sleep(0)
            if leaves:
                job.abandon()
            else:
                kept.append((number, sizes, job))
        for number, sizes, job in kept:
            assert [float(logits[1]) for logits in await job.future] == [size * number for size in sizes]
        await batcher.close()
        assert batcher.queued_steps == 0

    run(test)


class Where:
    """A model that remembers which thread asked it."""

    def __init__(self) -> None:
        self.threads: list[str] = []

    def logits(self, encoded: Sequence[Any]) -> list[Any]:
        self.threads.append(threading.current_thread().name)
        return [np.zeros(2, np.float32) for _ in encoded]


def test_short_batches_run_on_the_event_loop_and_long_ones_on_the_thread() -> None:
    async def test() -> None:
        engine = Where()
        batcher = Batcher(BatchLimits(inline_seconds=0.01))
        # How long the first one takes is not known yet.
        await batcher.submit(engine, [sequence(2)]).future
        batcher._seconds_per_step = 0.001
        results = await batcher.submit(engine, [sequence(2), sequence(3)]).future
        assert [result.shape for result in results] == [(2,), (2,)]
        batcher._seconds_per_step = 0.001
        await batcher.submit(engine, [sequence(10)]).future
        await batcher.close()
        assert engine.threads == ["gatewise-model", threading.current_thread().name, "gatewise-model"]

    run(test)


def test_the_first_batch_of_another_model_runs_on_the_thread_for_it_may_be_slow() -> None:
    async def test() -> None:
        before, after = Where(), Where()
        batcher = Batcher(BatchLimits(inline_seconds=60.0))
        for engine in (before, before, after, after, before):
            await batcher.submit(engine, [sequence(2)]).future
        await batcher.close()
        here = threading.current_thread().name
        assert before.threads == ["gatewise-model", here, "gatewise-model"]
        assert after.threads == ["gatewise-model", here]

    run(test)


@pytest.mark.parametrize(("max_padding", "batches"), [(0.25, [[2], [4]]), (0.75, [[2, 4]])])
def test_the_padding_that_is_allowed_can_change_between_batches(max_padding: float, batches: list[list[int]]) -> None:
    async def test() -> None:
        engine = FakePredictor(channels=1)
        batcher = Batcher(BatchLimits(max_padding=0.0))
        batcher.set_padding(max_padding - 0.1)
        held = await hold(batcher, engine)
        batcher.set_padding(max_padding - 0.05)
        job = batcher.submit(engine, [sequence(2), sequence(4)])
        engine.free.set()
        await asyncio.gather(held.future, job.future)
        await batcher.close()
        assert engine.batches[1:] == batches

    run(test)
