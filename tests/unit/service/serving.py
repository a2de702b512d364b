"""Runs the whole service in this process, with a fake model, for `async with serving(...) as client`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from service import app, registry, runtime
from tests.unit.service.fakes import FakePredictor


@contextlib.asynccontextmanager
async def lifespan(asgi: Any) -> AsyncIterator[None]:
    """Start an ASGI application, and stop it, as a server does; a failed start raises what it says."""
    to_app: asyncio.Queue[Any] = asyncio.Queue()
    from_app: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.create_task(asgi(scope, to_app.get, from_app.put))
    await to_app.put({"type": "lifespan.startup"})
    started = await from_app.get()
    if started["type"] == "lifespan.startup.failed":
        with contextlib.suppress(BaseException):
            await task
        raise RuntimeError(started["message"])
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await from_app.get()
        await task


@contextlib.asynccontextmanager
async def serving(
    monkeypatch: pytest.MonkeyPatch, predictor: FakePredictor | None = None, **settings: object
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the started service.

    Args:
        predictor: the live model; a series model with two channels by default.
        settings: as GATEWISE_* have them, in lower case.
    """
    model = predictor or FakePredictor()
    monkeypatch.setattr(registry, "load_predictor", lambda settings: model)
    # The fake waits to be freed, which on the event loop would be for ever.
    monkeypatch.setattr(runtime, "_INLINE_SECONDS", 0.0)
    for name, value in settings.items():
        monkeypatch.setenv(f"GATEWISE_{name.upper()}", str(value))
    asgi = app.GatewiseService.to_asgi()
    transport = httpx.ASGITransport(app=asgi, client=("127.0.0.1", 1))
    async with lifespan(asgi), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        yield client
