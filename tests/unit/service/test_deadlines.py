from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from service.deadlines import Deadlines


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))  # type: ignore[arg-type]


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_deadline_calls_back_once_and_a_cancelled_one_never() -> None:
    async def test() -> None:
        deadlines, called = Deadlines(), []
        deadlines.at(now() + 0.05, lambda: called.append("first"))
        deadlines.at(now() + 0.05, lambda: called.append("cancelled")).cancel()
        later = deadlines.at(now() + 30, lambda: called.append("later"))
        while not called:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        assert called == ["first"]
        later.cancel()
        later.cancel()
        # The timer rests when nothing waits, and starts again.
        await asyncio.sleep(0.1)
        deadlines.at(now(), lambda: called.append("again"))
        while len(called) < 2:
            await asyncio.sleep(0.01)
        assert called == ["first", "again"]

    run(test)


def test_one_that_another_cancels_as_both_are_due_is_not_called() -> None:
    async def test() -> None:
        deadlines, called = Deadlines(), []
        when = now() + 0.02
        deadlines.at(when, lambda: second.cancel())
        second = deadlines.at(when, lambda: called.append("second"))
        deadlines.at(when, lambda: called.append("third"))
        while not called:
            await asyncio.sleep(0.01)
        assert called == ["third"]

    run(test)


def test_a_limit_turns_into_a_timeout_and_leaves_the_task_as_it_was() -> None:
    async def test() -> None:
        deadlines = Deadlines()
        with pytest.raises(TimeoutError), deadlines.limit(now() + 0.03):
            await asyncio.sleep(20)
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling()
        with deadlines.limit(now() + 20):
            await asyncio.sleep(0)

    run(test)


def test_a_cancellation_from_outside_goes_on() -> None:
    async def test() -> None:
        deadlines = Deadlines()

        async def limited() -> None:
            with deadlines.limit(now() + 20):
                await asyncio.sleep(20)

        task = asyncio.create_task(limited())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test)
