from __future__ import annotations

import asyncio
import signal
from types import FrameType

import pytest

from service import app, draining
from tests.unit.service.serving import serving


def test_the_signal_is_passed_on_late_and_answers_say_close_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    passed_on: list[int] = []

    def servers_own(number: int, frame: FrameType | None) -> None:
        passed_on.append(number)

    monkeypatch.setattr(draining, "NOTICE_SECONDS", 0.3)
    before = signal.signal(signal.SIGTERM, servers_own)

    async def test() -> None:
        async with serving(monkeypatch) as client:
            body = {"sequences": [[[1, 2]]]}
            assert "connection" not in (await client.post("/predict", json=body)).headers
            signal.raise_signal(signal.SIGTERM)
            answer = await client.post("/predict", json=body)
            assert (answer.status_code, answer.headers["connection"]) == (200, "close")
            assert not passed_on
            while not passed_on:
                await asyncio.sleep(0.01)
            assert passed_on == [signal.SIGTERM]

    try:
        asyncio.run(asyncio.wait_for(test(), 30))
    finally:
        signal.signal(signal.SIGTERM, before)
        app.runtime.drain = draining.Drain()
