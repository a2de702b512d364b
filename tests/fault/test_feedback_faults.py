"""What was answered 200 is in the database, whatever happens to the server; two workers, SQLite and PostgreSQL."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
import psycopg
import pytest

from gatewise.feedback import FeedbackStore
from tests.live import Server, serve, wait_for
from tests.postgres import postgresql

pytestmark = pytest.mark.slow

SERVICE = "tests.contract.fake_service:GatewiseService"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'feedback.db'}"
        return
    with postgresql() as url:
        yield url


def post(server: Server, number: int, **fields: Any) -> httpx.Response:
    items = [{"sequence": [[number, part]], "label": "low"} for part in range(3)]
    return httpx.post(f"{server.url}/feedback", json={"items": items, **fields}, timeout=60, verify=False)


def stored(url: str) -> set[tuple[int, int]]:
    store = FeedbackStore(url)
    found = store.collect("fake")
    store.close()
    return {tuple(map(int, item.sequence[0])) for item in found.items}


def whole(numbers: set[int]) -> set[tuple[int, int]]:
    return {(number, part) for number in numbers for part in range(3)}


def kill_all(server: Server) -> None:
    """Power off, as far as a process can see it: nobody gets to say goodbye."""
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for member in family:
        os.kill(member.pid, signal.SIGKILL)
    psutil.wait_procs(family, 30)


def test_feedback_survives_a_kill_right_after_its_answer(url: str, tmp_path: Path) -> None:
    answered: set[int] = set()
    for start in range(2):
        with serve(tmp_path, Path("fake"), SERVICE, database=url) as server:
            for number in range(10 * start, 10 * start + 5):
                assert post(server, number).status_code == 200
                answered.add(number)
            kill_all(server)
        assert stored(url) == whole(answered)


def test_a_kill_in_the_middle_loses_nothing_answered_and_stores_nothing_by_halves(url: str, tmp_path: Path) -> None:
    answered: set[int] = set()

    def send(number: int) -> None:
        try:
            if post(server, number, key=f"k{number}").status_code == 200:
                answered.add(number)
        except httpx.TransportError:
            pass

    with serve(tmp_path, Path("fake"), SERVICE, database=url) as server, ThreadPoolExecutor(4) as senders:
        waiting = [senders.submit(send, number) for number in range(200)]
        wait_for(lambda: len(answered) >= 20, "some feedback to be stored")
        kill_all(server)
        for sending in waiting:
            sending.result()
    found = stored(url)
    assert len(answered) < 200
    assert found >= whole(answered)
    assert found == whole({number for number, _ in found})
    # And what nobody knows of is sent again, with its key.
    with serve(tmp_path, Path("fake"), SERVICE, database=url) as server:
        for number in range(200):
            assert post(server, number, key=f"k{number}").json()["stored"] == 3
    store = FeedbackStore(url)
    assert (len(store.collect("fake").items), store.collect("fake").repeats) == (600, 0)
    store.close()


def test_two_workers_write_at_once(url: str, tmp_path: Path) -> None:
    with serve(tmp_path, Path("fake"), SERVICE, database=url, workers=2) as server, ThreadPoolExecutor(8) as senders:
        numbers = [*range(100), *range(100)]
        responses = list(senders.map(lambda number: post(server, number, key=f"k{number}"), numbers))
    assert [response.status_code for response in responses] == [200] * 200
    assert stored(url) == whole(set(range(100)))
    store = FeedbackStore(url)
    assert store.collect("fake").repeats == 0
    store.close()


def test_a_lock_is_503_and_what_was_answered_is_there(tmp_path: Path) -> None:
    path = tmp_path / "feedback.db"
    with serve(tmp_path, Path("fake"), SERVICE, database=f"sqlite:///{path}") as server:
        assert post(server, 1).status_code == 200
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        refused = post(server, 2)
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        other.execute("ROLLBACK")
        other.close()
        assert post(server, 3).status_code == 200
        kill_all(server)
    assert stored(f"sqlite:///{path}") == whole({1, 3})


def test_a_postgresql_that_goes_is_503_and_found_again_when_it_is_back(tmp_path: Path) -> None:
    with postgresql() as url, serve(tmp_path, Path("fake"), SERVICE, database=url) as server:
        assert post(server, 1).status_code == 200
        # Every connection is cut, and none is let in: what a restart looks like from here.
        admin = url.removesuffix("postgres") + "template1"
        cut(admin, "ALTER DATABASE postgres ALLOW_CONNECTIONS false")
        cut(admin, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'postgres'")
        refused = post(server, 2)
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert server.is_ready()
        cut(admin, "ALTER DATABASE postgres ALLOW_CONNECTIONS true")
        assert post(server, 3).status_code == 200
        assert stored(url) == whole({1, 3})


def cut(admin: str, statement: str) -> None:
    with psycopg.connect(admin, autocommit=True) as connection:
        connection.execute(statement)
