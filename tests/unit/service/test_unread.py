"""Answers that are not read, on a transport whose buffer the test fills and empties."""

from __future__ import annotations

import asyncio
from typing import Any

from service.body import BodyReader
from service.deadlines import Deadlines
from service.unread import Unread


class FakeTransport:
    def __init__(self, size: int) -> None:
        self.size = size
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        return self.size

    def abort(self) -> None:
        self.aborted.set()


def watch(size: int, timeout: float) -> tuple[Any, BodyReader, Unread]:
    deadlines = Deadlines()
    bodies = BodyReader(1000, 1000, deadlines)
    transport: Any = FakeTransport(size)
    return transport, bodies, Unread(transport, bodies, deadlines, timeout)


def test_what_is_unread_counts_as_held_until_the_end_and_leaves_no_room_for_bodies() -> None:
    async def run() -> None:
        _, bodies, unread = watch(700, 60)
        assert bodies.pending_bytes == 700
        assert bodies.has_room(300)
        assert not bodies.has_room(301)
        unread.end()
        assert bodies.pending_bytes == 0

    asyncio.run(run())


def test_a_client_that_takes_nothing_for_the_whole_time_is_cut_off() -> None:
    async def run() -> None:
        transport, bodies, unread = watch(700, 0.05)
        await asyncio.wait_for(transport.aborted.wait(), 30)
        unread.end()
        assert bodies.pending_bytes == 0

    asyncio.run(run())


def test_a_slow_client_is_borne_with_while_it_reads() -> None:
    async def run() -> None:
        transport, bodies, unread = watch(700, 0.3)
        for left in range(600, 0, -100):
            transport.size = left
            await asyncio.sleep(0.15)
            assert not transport.aborted.is_set()
        assert 100 <= bodies.pending_bytes < 700
        unread.end()
        assert bodies.pending_bytes == 0

    asyncio.run(run())
