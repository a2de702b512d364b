"""A server among clients that leave, crawl, never read and come all at once, and with a model that breaks or hangs.

The server is a process of its own. Nothing here depends on how fast it is: where a test needs the model to be busy, the
engine of `faulty_service` waits until the test lets it go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.predictor import Predictor
from gatewise.timeseries import TimeSeriesEncoderConfig
from tests.artifacts import Made, make_series
from tests.fault.faulty_service import HOLD, POISON
from tests.live import (
    Client,
    CutShort,
    Reply,
    Server,
    Unanswered,
    assert_is_error,
    assert_predicts,
    clients,
    head,
    predict,
    serve,
    soon,
)

pytestmark = [pytest.mark.load, pytest.mark.timeout(600)]

FAULTY = "tests.fault.faulty_service:GatewiseService"
ENCODER = TimeSeriesEncoderConfig(channels=("price", "volume"), mean=(0.0, 0.0), scale=(1.0, 1.0))
# No request here is late or refused unless its test asks for it.
PATIENT = {"timeout_seconds": 300, "queue_seconds": 3600}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_series(tmp_path_factory.mktemp("artifact") / "model", encoder=ENCODER)


class Items:
    """Items of random lengths, and what the offline Predictor says of each."""

    def __init__(self, folder: Path, lengths: Any, **options: Any) -> None:
        random = np.random.default_rng(7)
        self.items = [random.normal(size=(length, 2)).round(3).tolist() for length in lengths]
        self.expected: list[Any] = list(Predictor.load(folder).predict(self.items, **options))
        self.requests = [predict([item]) for item in self.items]

    def __len__(self) -> int:
        return len(self.items)

    def assert_answers(self, replies: list[Reply]) -> None:
        """The replies are those of the items, one each, in their order."""
        for reply, expected in zip(replies, self.expected, strict=True):
            assert_predicts(reply, [expected])


class Hold:
    """The model's engine, busy until it is let go."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def is_held(self) -> bool:
        return (self._folder / "held").exists()

    def release(self) -> None:
        (self._folder / "released").touch()


@contextlib.asynccontextmanager
async def held(server: Server, tmp: Path) -> AsyncIterator[Hold]:
    """Keep the engine busy with a request of its own, which is answered when the block ends."""
    hold = Hold(tmp)
    async with clients(server.port, 1) as [client]:
        client.send(predict([[[HOLD, 0.0]]]))
        await soon(lambda: hold.is_held, "the engine to be held")
        try:
            yield hold
        finally:
            hold.release()
        assert (await client.reply()).status == 200
    (tmp / "held").unlink()
    (tmp / "released").unlink()


def serve_faulty(tmp: Path, made: Made, **settings: object) -> contextlib.AbstractContextManager[Server]:
    return serve(tmp, made.folder, FAULTY, **{**PATIENT, **settings}, FAULTY_FOLDER=tmp)


async def queued(server: Server, steps: int) -> None:
    """Wait until so many timesteps wait for the model."""
    await soon(lambda: server.metrics()["gatewise_queue_steps"] == steps, f"{steps} timesteps in the queue")


async def gather_replies(asked: list[Client]) -> list[Reply]:
    return list(await asyncio.gather(*(client.reply() for client in asked)))


def test_clients_that_leave_while_their_requests_queue_are_dropped_and_the_others_answered(
    made: Made, tmp_path: Path
) -> None:
    items = Items(made.folder, np.random.default_rng(1).integers(1, 60, size=40))

    async def test(server: Server) -> None:
        async with clients(server.port, 40) as staying, clients(server.port, 200) as leaving:
            async with held(server, tmp_path) as hold:
                for i, client in enumerate(leaving):
                    client.send(items.requests[i % 40])
                    client.leave()
                    if i % 5 == 0:
                        staying[i // 5].send(items.requests[i // 5])
                await soon(lambda: server.metrics().requests() == {499: 200}, "all that left to be noticed")
                await queued(server, sum(map(len, items.items)))
                assert server.is_ready()
                hold.release()
                items.assert_answers(await gather_replies(staying))
        await queued(server, 0)
        assert server.metrics().requests() == {200: 41, 499: 200}
        assert server.is_ready()

    with serve_faulty(tmp_path, made) as server:
        asyncio.run(test(server))


def test_clients_that_leave_at_any_moment_harm_nobody(made: Made, tmp_path: Path) -> None:
    items = Items(made.folder, np.random.default_rng(2).integers(1, 200, size=400))
    cuts = {"whole": 1.0, "half a body": 0.7, "half a head": 0.05, "reset": 1.0}

    async def stay(client: Client, first: int) -> None:
        for i in range(first, 400, 8):
            assert_predicts(await client.ask(items.requests[i]), [items.expected[i]])

    async def leave(server: Server, first: int) -> None:
        # Each of the four ways 50 times, over four tasks; none waits for anything but its connection.
        for i, (_, (how, share)) in zip(range(50), itertools.cycle(enumerate(cuts.items())), strict=False):
            request = items.requests[4 * i + first]
            async with clients(server.port, 1) as [client]:
                client.send(request[: int(len(request) * share)])
                if i % 3 == 0:
                    await asyncio.sleep(0.003 * (i % 7))
                if how == "reset":
                    client.reset()

    async def test(server: Server) -> None:
        async with clients(server.port, 8) as staying:
            stays = (stay(client, first) for first, client in enumerate(staying))
            await asyncio.gather(*stays, *(leave(server, first) for first in range(4)))
        await queued(server, 0)
        await soon(lambda: sum(server.metrics().requests().values()) >= 500, "every request to be over")
        statuses = server.metrics().requests()
        assert set(statuses) == {200, 499}
        # Half a body cannot be answered; half a head is no request yet; a reset one may never have arrived.
        assert statuses[499] >= 50
        assert statuses[200] >= 400
        assert server.is_ready()

    with serve(tmp_path, made.folder, **PATIENT) as server:
        asyncio.run(test(server))
