"""Answers that their clients do not read: they are counted as memory held, and not waited for without end."""

from __future__ import annotations

import asyncio

from service.body import BodyReader
from service.deadlines import Deadlines

LOOK_SECONDS = 1.0


class Unread:
    """What a connection has to send and its client does not take, from the transport's high-water mark on.

    Args:
        timeout_seconds: the connection is ended when nothing was taken for so long.
    """

    def __init__(
        self, transport: asyncio.WriteTransport, bodies: BodyReader, deadlines: Deadlines, timeout_seconds: float
    ) -> None:
        self._transport, self._bodies, self._deadlines = transport, bodies, deadlines
        self._timeout = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._size = transport.get_write_buffer_size()
        bodies.hold(self._size)
        self._taken_at = self._loop.time()
        self._deadline = deadlines.at(self._next_look(), self._look)

    def end(self) -> None:
        """It has been read, or the connection is lost."""
        self._deadline.cancel()
        self._bodies.release(self._size)
        self._size = 0

    def _look(self) -> None:
        left = self._transport.get_write_buffer_size()
        if left != self._size:
            self._bodies.release(self._size - left)
            self._size, self._taken_at = left, self._loop.time()
        if self._loop.time() - self._taken_at >= self._timeout:
            self._transport.abort()
        else:
            self._deadline = self._deadlines.at(self._next_look(), self._look)

    def _next_look(self) -> float:
        return self._loop.time() + min(LOOK_SECONDS, self._timeout)
