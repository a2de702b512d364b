"""Deadlines of many requests on one timer: a timer for each costs more than parsing a small request does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# How late a deadline may be noticed, in seconds.
RESOLUTION = 0.02


class Deadline:
    """A time by the loop's clock, and what is called once it has passed; `cancel` when it no longer matters."""

    __slots__ = ("_owner", "callback", "when")

    def __init__(self, owner: Deadlines, when: float, callback: Callable[[], object]) -> None:
        self._owner, self.when, self.callback = owner, when, callback

    def cancel(self) -> None:
        """Forget it; twice does no harm."""
        self._owner._waiting.pop(self, None)


class Deadlines:
    """All deadlines of one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[Deadline, None] = {}
        self._is_ticking = False

    def at(self, when: float, callback: Callable[[], object]) -> Deadline:
        """Call back once the loop's clock has passed `when`, by up to RESOLUTION seconds later."""
        deadline = Deadline(self, when, callback)
        self._waiting[deadline] = None
        if not self._is_ticking:
            self._is_ticking = True
            self._loop.call_later(RESOLUTION, self._tick)
        return deadline

    @contextmanager
    def limit(self, when: float) -> Iterator[None]:
        """Raise TimeoutError in the body once `when` has passed, as `asyncio.timeout_at` does."""
        task = asyncio.current_task()
        assert task is not None
        has_expired = False

        def expire() -> None:
            nonlocal has_expired
            has_expired = True
            task.cancel()

        deadline = self.at(when, expire)
        try:
            yield
        except asyncio.CancelledError:
            # Somebody else may have cancelled the task too; that goes on.
            if has_expired and not task.uncancel():
                raise TimeoutError from None
            raise
        finally:
            deadline.cancel()

    def _tick(self) -> None:
        now = self._loop.time()
        due = [deadline for deadline in self._waiting if deadline.when <= now]
        for deadline in due:
            # One that is due may have been cancelled by another's callback.
            if deadline in self._waiting:
                del self._waiting[deadline]
                deadline.callback()
        self._is_ticking = bool(self._waiting)
        if self._is_ticking:
            self._loop.call_later(RESOLUTION, self._tick)
