"""What a connection does with requests however they arrive: the short way and the long one, and its limits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live import Client, Reply, Server, assert_is_error, clients, head, predict, serve

SERVICE = "tests.contract.fake_service:GatewiseService"
LOW = predict([[[0.0, -1.0], [0.0, 0.0]]])
HIGH = predict([[[2.0, -1.0]]])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp = tmp_path_factory.mktemp("server")
    with serve(tmp, Path("fake"), SERVICE, timeout_seconds=3) as running:
        yield running


def ask(server: Server, *pieces: bytes, answers: int = 1, pause: float = 0.0) -> list[tuple[int, str | None]]:
    """Send the pieces one after the other; return each answer's status, and its first label or its error's code."""

    async def run() -> list[tuple[int, str | None]]:
        async with clients(server.port, 1) as [client]:
            for piece in pieces:
                client.send(piece)
                await asyncio.sleep(pause)
            return [await shown(client) for _ in range(answers)]

    return asyncio.run(run())


async def shown(client: Client) -> tuple[int, str | None]:
    reply = await client.reply()
    body = reply.json()
    return reply.status, body["predictions"][0]["label"] if reply.status == 200 else body.get("code")


@pytest.mark.parametrize("pause", [0.0, 0.01, 0.2], ids=["at once", "soon", "late"])
def test_a_request_is_answered_however_it_is_cut(server: Server, pause: float) -> None:
    middle = LOW.index(b"\r\n\r\n") + 4
    for place in (1, 60, middle, middle + 5, len(LOW) - 1):
        assert ask(server, LOW[:place], LOW[place:], pause=pause) == [(200, "low")]


def test_requests_sent_together_are_answered_in_their_order(server: Server) -> None:
    card = b"GET /model HTTP/1.1\r\nhost: gatewise\r\n\r\n"
    broken = head(1) + b"{"
    asked = [LOW, HIGH, card, LOW, broken, HIGH, HIGH, LOW]
    expected = [(200, "low"), (200, "high"), (200, "low"), (400, "malformed_json"), *[(200, "high")] * 2, (200, "low")]

    async def run() -> list[tuple[int, str | None]]:
        async with clients(server.port, 1) as [client]:
            client.send(b"".join(asked))
            found = [await shown(client) for _ in range(2)]
            assert (await client.reply()).json()["name"] == "fake"
            return found + [await shown(client) for _ in range(5)]

    assert asyncio.run(run()) == expected


@pytest.mark.parametrize(
    ("old", "new"), [(b"HTTP/1.1", b"HTTP/1.0"), (b"host: gatewise", b"host: gatewise\r\nconnection: close")]
)
def test_a_client_that_wants_one_answer_gets_it_and_the_end(server: Server, old: bytes, new: bytes) -> None:
    async def run() -> None:
        async with clients(server.port, 1) as [client]:
            reply = await client.ask(HIGH.replace(old, new))
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert await client.is_closed_by_server()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("field", "status"),
    [
        (b"expect: 100-continue", 200),
        (b"content-encoding: gzip", 415),
        (b"content-type: text/plain", 415),
        (b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 200),
        (b"x-forwarded-for: 10.0.0.1", 200),
    ],
)
def test_what_else_a_head_says_is_heeded(server: Server, field: bytes, status: int) -> None:
    async def run() -> int:
        async with clients(server.port, 1) as [client]:
            client.send(HIGH.replace(b"host: gatewise", b"host: gatewise\r\n" + field))
            if field.startswith(b"expect"):
                assert await client._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            return (await client.reply()).status

    assert asyncio.run(run()) == status


def test_every_request_is_counted_once_whichever_way_it_went(server: Server) -> None:
    wrong, chunked = predict([[[1.0]]]), HIGH[HIGH.index(b"\r\n\r\n") + 4 :]
    long_way = HIGH[: HIGH.index(b"content-length")] + b"transfer-encoding: chunked\r\n\r\n"
    long_way += b"%x\r\n%b\r\n0\r\n\r\n" % (len(chunked), chunked)
    before = server.metrics().requests()
    assert ask(server, HIGH, wrong, long_way, answers=3) == [(200, "high"), (422, "invalid_sequence"), (200, "high")]
    after = server.metrics().requests()
    assert {status: count - before.get(status, 0) for status, count in after.items() if status in (200, 422)} == {
        200: 2,
        422: 1,
    }


def test_a_head_that_never_ends_is_refused_and_a_silent_connection_closed(server: Server) -> None:
    async def run() -> None:
        async with clients(server.port, 3) as [silent, slow, again]:
            slow.send(HIGH[:30])
            assert (await again.ask(HIGH)).status == 200
            again.send(HIGH[:30])
            for client, reply in zip((slow, again), await asyncio.gather(slow.reply(), crawl(again)), strict=True):
                assert_is_error(reply, 408, "body_timeout")
                assert reply.headers["connection"] == "close"
                assert await client.is_closed_by_server()
            assert await silent.is_closed_by_server()

    async def crawl(client: Client) -> Reply:
        """Send letter after letter, until the answer is there; what is sent after that might break it off."""
        reply = asyncio.create_task(client.reply())
        for letter in b"x-slow: " + b"y" * 1000:
            client.send(bytes([letter]))
            if (await asyncio.wait([reply], timeout=0.2))[0]:
                break
        return await reply

    asyncio.run(run())


def test_a_client_that_leaves_while_it_waits_is_counted_and_forgotten(server: Server, tmp_path: Path) -> None:
    before = server.metrics().requests().get(499, 0)

    async def run() -> None:
        async with clients(server.port, 1) as [client]:
            client.send(predict([[[-777.0, 0.0]]]))  # a second and a half of the model's time
            await asyncio.sleep(0.3)
            client.reset()
        async with clients(server.port, 1) as [client]:
            assert (await client.ask(HIGH)).status == 200

    asyncio.run(run())
    metrics = server.metrics()
    assert metrics.requests()[499] == before + 1
    assert metrics["gatewise_queue_steps"] == 0
