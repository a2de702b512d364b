"""A server among clients that leave, crawl, never read and come all at once, and with a model that breaks or hangs.

The server is a process of its own. Nothing here depends on how fast it is: where a test needs the model to be busy, the
engine of `faulty_service` waits until the test lets it go on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.predictor import Predictor
from gatewise.timeseries import TimeSeriesEncoderConfig
from tests.artifacts import Made, make_series
from tests.fault.faulty_service import HOLD, HOLD_STEPS, POISON
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
HOLDING = predict([[[HOLD, 0.0]] * HOLD_STEPS])


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
        client.send(HOLDING)
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
        async with (
            clients(server.port, 40) as staying,
            clients(server.port, 200) as leaving,
            held(server, tmp_path) as hold,
        ):
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

    async def stay(client: Client, first: int) -> None:
        for i in range(first, 400, 8):
            assert_predicts(await client.ask(items.requests[i]), [items.expected[i]])

    async def leave(server: Server) -> None:
        for i in range(200):
            whole = items.requests[i]
            sent = (whole, whole[:-10], whole[:40], whole)[i % 4]  # half a body, half a head
            async with clients(server.port, 1) as [client]:
                client.send(sent)
                await asyncio.sleep(0.002 * (i % 3))
                if i % 4 == 3:
                    client.reset()

    async def test(server: Server) -> None:
        async with clients(server.port, 8) as staying:
            await asyncio.gather(leave(server), *(stay(client, first) for first, client in enumerate(staying)))
        # Half a head is no request yet, and what a reset sent may never have arrived; the other two are known.
        await soon(lambda: sum(server.metrics().requests().values()) >= 500, "every request to be over")
        await queued(server, 0)
        statuses = server.metrics().requests()
        assert set(statuses) == {200, 499}
        assert statuses[200] >= 400
        assert statuses[499] >= 50  # half a body has no answer
        assert server.is_ready()

    with serve(tmp_path, made.folder, **PATIENT) as server:
        asyncio.run(test(server))


def test_a_poisoned_item_fails_its_own_request_and_nothing_else_of_its_batch(made: Made, tmp_path: Path) -> None:
    items = Items(made.folder, [7] * 12)

    async def test(server: Server) -> None:
        async with clients(server.port, 12) as asking, clients(server.port, 2) as poisoned:
            async with held(server, tmp_path) as hold:
                for client, request in zip(asking[:6], items.requests, strict=False):
                    client.send(request)
                poisoned[0].send(predict([[[POISON, 0.0]] * 7]))
                poisoned[1].send(predict([items.items[0], [[0.0, POISON]] * 7, items.items[1]]))
                for client, request in zip(asking[6:], items.requests[6:], strict=True):
                    client.send(request)
                await queued(server, 16 * 7)
                hold.release()
                items.assert_answers(await gather_replies(asking))
                first, second = await gather_replies(poisoned)
            assert_is_error(first, 500, "internal")
            assert_is_error(second, 500, "internal")
            assert first.json()["details"][0]["loc"] == ["sequences", 0]
            assert second.json()["details"][0]["loc"] == ["sequences", 1]
            # The connection is as good as before.
            assert_predicts(await poisoned[0].ask(items.requests[0]), [items.expected[0]])
        metrics = server.metrics()
        assert metrics["gatewise_engine_failures_total"] == 2
        # What was held, the sixteen together, the last one.
        assert (metrics["gatewise_batch_items_count"], metrics["gatewise_batch_items_sum"]) == (3, 18)
        assert metrics.requests() == {200: 14, 500: 2}
        assert server.is_ready()

    with serve_faulty(tmp_path, made) as server:
        asyncio.run(test(server))
    assert "RuntimeError: poisoned" in server.log.read_text()


LONG = 3000  # timesteps; ten of them are more than HOLD_STEPS


@pytest.mark.parametrize(
    ("settings", "admitted"),
    [
        ({"queue_steps": 10 * LONG}, 10),
        # Ten times its own work a request may always wait, and how long that is follows from what was measured.
        ({"queue_seconds": 1e-9}, None),
    ],
)
def test_what_does_not_fit_the_queue_is_refused_at_once_and_taken_when_it_has_drained(
    settings: dict[str, Any], admitted: int | None, made: Made, tmp_path: Path
) -> None:
    items = Items(made.folder, [LONG] * 40)

    async def test(server: Server) -> None:
        async with clients(server.port, 40) as asking:
            async with held(server, tmp_path) as hold:
                for client, request in zip(asking, items.requests, strict=True):
                    client.send(request)
                replies = [asyncio.create_task(client.reply()) for client in asking]
                await soon(lambda: taken(server) + sum(reply.done() for reply in replies) == 40, "all to be decided")
                # The model is held: who has an answer now did not wait for it.
                refused = [i for i, reply in enumerate(replies) if reply.done()]
                for i in refused:
                    assert_is_error(replies[i].result(), 429, "queue_full")
                    assert int(replies[i].result().headers["retry-after"]) >= 1
                assert 0 < len(refused) < 40
                assert admitted is None or len(refused) == 40 - admitted
                hold.release()
                for i, reply in enumerate(await asyncio.gather(*replies)):
                    if i not in refused:
                        assert_predicts(reply, [items.expected[i]])
            # On the connections of those that were refused, one after the other.
            for i in refused:
                assert_predicts(await asking[i].ask(items.requests[i]), [items.expected[i]])
        assert server.metrics().requests() == {200: 41, 429: len(refused)}
        assert server.metrics()["gatewise_queue_steps"] == 0

    with serve_faulty(tmp_path, made, **settings) as server:
        asyncio.run(test(server))


def taken(server: Server) -> float:
    """How many requests of LONG timesteps are queued."""
    return server.metrics()["gatewise_queue_steps"] / LONG


def test_a_client_that_sends_its_body_byte_by_byte_is_given_up_and_the_others_are_served(
    made: Made, tmp_path: Path
) -> None:
    items = Items(made.folder, range(1, 50))

    async def crawl(client: Client, reply: asyncio.Task[Reply]) -> None:
        client.send(head(1_000_000))
        while not reply.done():
            client.send(b" ")
            await asyncio.sleep(0.05)

    async def others(client: Client, crawling: asyncio.Task[Any]) -> int:
        for count in itertools.count():
            if crawling.done():
                return count
            i = count % len(items.items)
            assert_predicts(await client.ask(items.requests[i]), [items.expected[i]])
        raise AssertionError

    async def test(server: Server) -> None:
        async with clients(server.port, 20) as slow, clients(server.port, 1) as [fast]:
            replies = [asyncio.create_task(client.reply()) for client in slow]
            crawling = asyncio.gather(*map(crawl, slow, replies))
            served = asyncio.create_task(others(fast, crawling))
            for reply in await asyncio.gather(*replies):
                assert_is_error(reply, 408, "body_timeout")
                assert reply.headers["connection"] == "close"
            await crawling
            assert all(await asyncio.gather(*(client.is_closed_by_server() for client in slow)))
            count = await served
        assert count > 0
        assert server.metrics().requests() == {200: count, 408: 20}

    # Long enough for the others on a machine that stands still for a second or two.
    with serve(tmp_path, made.folder, timeout_seconds=5, queue_seconds=3600) as server:
        asyncio.run(test(server))


def per_step(folder: Path) -> Items:
    """Sixty items whose answer is of some eight megabytes: more than the system's buffers hold of a connection."""
    make_series(folder, encoder=ENCODER, head="step")
    return Items(folder, [1000] * 60, probabilities=True)


def test_clients_that_do_not_read_their_answers_hold_up_nobody(tmp_path: Path) -> None:
    items = per_step(tmp_path / "model")
    request = predict(items.items, probabilities=True)
    small = predict([items.items[0]], probabilities=True)

    async def test(server: Server) -> None:
        async with clients(server.port, 4, receive_buffer=4096) as slow, clients(server.port, 1) as [fast]:
            for client in slow:
                client.send(request)
            await soon(lambda: server.metrics().requests() == {200: 4}, "the large answers to be made")
            for _ in range(50):
                assert_steps(await fast.ask(small), items.expected[:1])
            for reply in await gather_replies(slow):
                assert len(reply.body) > 6_000_000
                assert_steps(reply, items.expected)
            assert server.is_ready()

    with serve(tmp_path, tmp_path / "model", **PATIENT) as server:
        asyncio.run(test(server))


def test_a_client_that_never_reads_its_answer_counts_as_memory_until_it_is_cut_off(tmp_path: Path) -> None:
    items = per_step(tmp_path / "model")
    request = predict(items.items, probabilities=True)
    small = predict([items.items[0][:3]])

    async def test(server: Server) -> None:
        async with clients(server.port, 1, receive_buffer=4096) as [slow], clients(server.port, 1) as [fast]:
            slow.send(request)
            await soon(lambda: server.metrics().requests() == {200: 1}, "the large answer to be made")
            assert_is_error(await fast.ask(small), 429, "queue_full")
            for _ in range(200):
                if (await fast.ask(small)).status == 200:
                    break
                await asyncio.sleep(0.3)
            else:
                pytest.fail("the memory was never freed")
            with pytest.raises(CutShort):
                await slow.reply()

    with serve(
        tmp_path, tmp_path / "model", timeout_seconds=5, queue_seconds=3600, max_pending_bytes=len(request)
    ) as server:
        asyncio.run(test(server))


def assert_steps(reply: Reply, expected: list[Any]) -> None:
    """Hold the answer of a model that labels every step to what the offline Predictor says."""
    assert reply.status == 200, reply.body
    predictions = reply.json()["predictions"]
    assert [one["labels"] for one in predictions] == [other.labels for other in expected]
    for one, other in zip(predictions, expected, strict=True):
        confidences = np.array(one["confidences"]) - np.array(other.confidences)
        probabilities = rows(one["probabilities"]) - rows(other.probabilities)
        assert np.abs(confidences).max() < 1e-5
        assert np.abs(probabilities).max() < 1e-5


def rows(probabilities: list[dict[str, float]]) -> Any:
    return np.array([list(step.values()) for step in probabilities])


def test_whatever_is_accepted_before_sigterm_is_answered_and_the_process_ends_well(made: Made, tmp_path: Path) -> None:
    items = Items(made.folder, np.random.default_rng(3).integers(1, 60, size=100))

    async def test(server: Server) -> None:
        async with (
            clients(server.port, 100) as asking,
            clients(server.port, 10) as idle,
            clients(server.port, 1) as [sending],
        ):
            for client in idle:
                assert_predicts(await client.ask(items.requests[0]), items.expected[:1])
            async with held(server, tmp_path) as hold:
                for client, request in zip(asking, items.requests, strict=True):
                    client.send(request)
                sending.send(items.requests[0][:-10])
                await queued(server, sum(map(len, items.items)))
                server.terminate()
                # The server has seen the signal once it lets go of those who ask for nothing.
                assert all(await asyncio.gather(*(client.is_closed_by_server() for client in idle)))
                assert server.process.poll() is None
                sending.send(items.requests[0][-10:])
                hold.release()
                replies = await gather_replies([*asking, sending])
        items.assert_answers(replies[:100])
        assert_predicts(replies[100], items.expected[:1])
        assert {reply.headers["connection"] for reply in replies} == {"close"}
        assert await asyncio.to_thread(server.wait) == 0

    with serve_faulty(tmp_path, made) as server:
        asyncio.run(test(server))


@pytest.fixture(scope="module")
def outcomes(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Counter[str | int]:
    """What 64 connections that always have a request on its way met at a SIGTERM."""
    items = Items(made.folder, np.random.default_rng(4).integers(1, 60, size=200))
    found: Counter[str | int] = Counter()

    async def ask_until_closed(client: Client, first: int) -> None:
        for i in itertools.count(first):
            try:
                reply = await client.ask(items.requests[i % 200])
            except (Unanswered, CutShort) as error:
                found[type(error).__name__] += 1
                return
            found[reply.status] += 1
            if reply.status == 503:
                assert_is_error(reply, 503, "not_ready")
            else:
                assert_predicts(reply, [items.expected[i % 200]])
            if reply.headers.get("connection") == "close":
                found["closed with an answer"] += 1
                return

    async def run(server: Server) -> None:
        async with clients(server.port, 64) as asking:
            loops = asyncio.gather(*(ask_until_closed(client, first) for first, client in enumerate(asking)))
            await soon(lambda: found[200] > 500, "load")
            server.terminate()
            await asyncio.wait_for(loops, 60)
        found["exit code"] = await asyncio.to_thread(server.wait)

    tmp = tmp_path_factory.mktemp("server")
    with serve(tmp, made.folder, **PATIENT) as server:
        asyncio.run(run(server))
    return found


def test_sigterm_under_load_cuts_no_answer_short(outcomes: Counter[str | int]) -> None:
    assert outcomes["exit code"] == 0
    assert set(outcomes) <= {200, 503, "Unanswered", "closed with an answer", "exit code"}
    assert outcomes["Unanswered"] + outcomes["closed with an answer"] == 64


def test_sigterm_under_load_leaves_no_request_unanswered(outcomes: Counter[str | int]) -> None:
    assert outcomes["Unanswered"] == 0


def test_a_worker_that_dies_is_replaced(made: Made, tmp_path: Path) -> None:
    items = Items(made.folder, [5])

    async def test(server: Server) -> None:
        dead = server.worker()
        dead.kill()
        await soon(lambda: not dead.is_running() and server.is_ready(), "another worker", 120)
        async with clients(server.port, 1) as [client]:
            assert_predicts(await client.ask(items.requests[0]), items.expected)

    with serve(tmp_path, made.folder, **PATIENT) as server:
        asyncio.run(test(server))


def test_sigterm_ends_a_server_whose_model_never_returns(made: Made, tmp_path: Path) -> None:
    async def test(server: Server) -> None:
        async with clients(server.port, 2) as [first, second]:
            first.send(HOLDING)
            await soon(lambda: Hold(tmp_path).is_held, "the engine to be held")
            second.send(predict([[[1.0, 2.0]]]))
            await queued(server, 1)
            server.terminate()
            for reply in await gather_replies([first, second]):
                assert_is_error(reply, 504, "timed_out")
        assert await asyncio.to_thread(server.wait) == 0

    with serve_faulty(tmp_path, made, timeout_seconds=8) as server:
        asyncio.run(test(server))


def test_sigterm_ends_a_server_with_a_client_that_does_not_read_its_answer(tmp_path: Path) -> None:
    items = per_step(tmp_path / "model")

    async def test(server: Server) -> None:
        async with clients(server.port, 1, receive_buffer=4096) as [slow]:
            slow.send(predict(items.items, probabilities=True))
            await soon(lambda: server.metrics().requests() == {200: 1}, "the large answer to be made")
            server.terminate()
            assert await asyncio.to_thread(server.wait, 30) == 0

    with serve(tmp_path, tmp_path / "model", timeout_seconds=10, queue_seconds=3600) as server:
        asyncio.run(test(server))
