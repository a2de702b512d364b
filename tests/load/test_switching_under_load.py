"""The pointer moves while requests come: none is lost, and each answer is that of the version it names."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from gatewise.predictor import Predictor
from gatewise.production import ProductionPointer
from gatewise.store import Store
from gatewise.timeseries import TimeSeriesEncoderConfig
from tests.artifacts import make_series, reseal
from tests.live import Client, Reply, Server, assert_predicts, clients, predict, serve, wait_for

pytestmark = [pytest.mark.load, pytest.mark.slow, pytest.mark.timeout(600)]

ENCODER = TimeSeriesEncoderConfig(channels=("price", "volume"), mean=(0.0, 0.0), scale=(1.0, 1.0))
PATIENT = {"timeout_seconds": 300, "queue_seconds": 3600}
SWITCHES, CONNECTIONS = 10, 16
TOKEN = "0123456789abcdef0123456789abcdef"


class Models:
    """Two versions of `prices` in a store, items, and what the offline Predictor says of each by version."""

    def __init__(self, tmp: Path) -> None:
        self.tmp = tmp
        self.store = Store(tmp / "bentoml")
        random = np.random.default_rng(3)
        self.items = [random.normal(size=(length, 2)).round(3).tolist() for length in random.integers(1, 80, size=60)]
        self.requests = [predict([item]) for item in self.items]
        folders = [make_series(tmp / f"of{size}", encoder=ENCODER, hidden_size=size).folder for size in (5, 24)]
        self.versions = [self.store.add(folder, "prices").version for folder in folders]
        answers = [Predictor.load(folder).predict(self.items) for folder in folders]
        self.expected: dict[str, list[Any]] = dict(zip(self.versions, answers, strict=True))
        self.store.promote(f"prices:{self.versions[0]}")

    def assert_answers(self, place: int, reply: Reply) -> str:
        """Hold a reply to what the version that it names says of the item; return that version."""
        assert reply.status == 200, reply.body
        version: str = reply.json()["model"]["version"]
        assert_predicts(reply, [self.expected[version][place]])
        return version


@pytest.fixture
def models(tmp_path: Path) -> Models:
    return Models(tmp_path)


class Asked:
    """Connections that ask without a pause, until they are stopped."""

    def __init__(self, models: Models, server: Server) -> None:
        self._models, self._server = models, server
        self._is_stopped = False
        self.versions: Counter[str] = Counter()

    async def during(self, work: Callable[[], None]) -> None:
        """Ask as long as the work takes, in a thread."""
        async with clients(self._server.port, CONNECTIONS) as opened:
            asking = [asyncio.create_task(self._ask(client, first)) for first, client in enumerate(opened)]
            try:
                await asyncio.to_thread(work)
            finally:
                self._is_stopped = True
                await asyncio.gather(*asking)

    async def _ask(self, client: Client, first: int) -> None:
        for place in itertools.islice(itertools.cycle(range(len(self._models.items))), first, None):
            if self._is_stopped:
                return
            reply = await client.ask(self._models.requests[place])
            self.versions[self._models.assert_answers(place, reply)] += 1


def switches(server: Server, result: str = "done") -> float:
    return server.metrics()[f'gatewise_model_switches_total{{result="{result}"}}']


def live_version(server: Server) -> str:
    version: str = server.get("/readyz").json()["model"]["version"]
    return version


def test_no_request_is_lost_by_ten_switches_of_two_workers(models: Models) -> None:
    with serve(models.tmp, "prices:production", workers=2, **PATIENT) as server:  # type: ignore[arg-type]
        wait_for(lambda: server.log.read_text().count("Completed async startup hook") == 2, "both workers")
        asked = Asked(models, server)

        def move() -> None:
            for number in range(SWITCHES):
                before = switches(server)
                if number % 2:
                    models.store.rollback("prices")
                else:
                    models.store.promote(f"prices:{models.versions[1]}")
                wait_for(lambda before=before: switches(server) == before + 2, "both workers to follow")  # type: ignore[misc]

        asyncio.run(asked.during(move))
        # The worker that is not asked tells its counts half a second later.
        wait_for(lambda: server.metrics().requests() == {200: asked.versions.total()}, "every answer to be counted")
        assert switches(server) == 2 * SWITCHES
        assert switches(server, "failed") == 0
    assert set(asked.versions) == set(models.versions)


def test_a_version_that_cannot_be_used_leaves_the_old_one_serving_and_says_so(models: Models) -> None:
    models.store.promote(f"prices:{models.versions[1]}")
    # Its checksums hold, and it answers otherwise than when it was made.
    liar = models.tmp / "liar"
    shutil.copytree(models.tmp / "of24", liar)
    golden = orjson.loads((liar / "golden.json").read_bytes())
    golden[0]["logits"][0] += 1.0
    (liar / "golden.json").write_bytes(orjson.dumps(golden))
    reseal(liar)
    with serve(models.tmp, "prices:production", **PATIENT) as server:  # type: ignore[arg-type]
        assert server.get("/readyz").json() == {
            "ready": True,
            "model": {"name": "tiny", "version": models.versions[1]},
            "detail": None,
        }
        asked = Asked(models, server)

        def move() -> None:
            wrong = models.store.add(liar, "prices")
            models.store.promote(wrong.reference)
            wait_for(lambda: server.get("/readyz").json()["detail"] is not None, "the service to complain")
            ready = server.get("/readyz")
            assert ready.status_code == 200
            assert "prices:production cannot be followed" in ready.json()["detail"]
            assert "golden item 0" in ready.json()["detail"]
            assert server.metrics()["gatewise_model_behind"] == 1
            assert switches(server, "failed") == 1
            # Damaged after it was promoted: its checksum does not hold.
            pointer = ProductionPointer(models.store.home / "gatewise" / "prices.json")
            damaged = models.store.add(models.tmp / "of5", "prices")
            (damaged.path / "model.onnx").write_bytes(b"damaged")
            state = pointer.read()
            state.promote(damaged.version)
            pointer.write(state)
            wait_for(lambda: "model.onnx" in (server.get("/readyz").json()["detail"] or ""), "another complaint")
            models.store.promote(f"prices:{models.versions[0]}")
            wait_for(lambda: live_version(server) == models.versions[0], "the next version to be live")

        asyncio.run(asked.during(move))
        assert server.get("/readyz").json()["detail"] is None
        assert server.metrics()["gatewise_model_behind"] == 0
        assert set(server.metrics().requests()) == {200}
        assert "golden item 0" in server.log.read_text()


def test_who_has_the_token_promotes_and_rolls_back_over_http(models: Models) -> None:
    first, second = models.versions
    bearer = {"authorization": f"Bearer {TOKEN}"}
    with serve(models.tmp, "prices:production", admin_token=TOKEN, **PATIENT) as server:  # type: ignore[arg-type]

        def post(path: str, body: Any, headers: dict[str, str] = bearer) -> httpx.Response:
            return httpx.post(f"{server.url}/admin/{path}", json=body, headers=headers, timeout=60)

        assert post("promote", {"version": second}, {}).status_code == 401
        assert post("promote", {"version": second}, {"authorization": "Bearer nothing"}).status_code == 403
        assert live_version(server) == first
        promoted = post("promote", {"version": second})
        assert promoted.json() == {"model": {"name": "prices", "version": second}, "previous": first, "changed": True}
        assert models.store.get("prices:production").version == second
        wait_for(lambda: live_version(server) == second, "the promoted version")
        assert post("promote", {"model": f"prices:{second}"}).json()["changed"] is False
        back = post("rollback", {})
        assert back.json() == {"model": {"name": "prices", "version": first}, "previous": second, "changed": True}
        wait_for(lambda: live_version(server) == first, "what was production before")
        nothing = post("rollback", None)
        assert (nothing.status_code, nothing.json()["code"]) == (409, "model_conflict")
        assert post("promote", {"version": "nothing"}).status_code == 404
        assert TOKEN not in server.log.read_text()


def test_a_shadow_answers_a_copy_of_the_requests_and_nobody_is_given_its_answers(models: Models) -> None:
    first, second = models.versions
    with serve(models.tmp, "prices:production", **PATIENT) as server:  # type: ignore[arg-type]
        models.store.cast_shadow(f"prices:{second}", 1.0)
        wait_for(lambda: "shadows it" in server.log.read_text(), "the shadow to be loaded")

        async def ask() -> None:
            async with clients(server.port, 1) as [client]:
                for place, request in enumerate(models.requests):
                    assert models.assert_answers(place, await client.ask(request)) == first

        asyncio.run(ask())
        count = len(models.items)
        wait_for(lambda: sum(one.rows for one in comparisons(models)) == count, "all of them to be compared")
        [found] = comparisons(models)
        agreed = server.metrics()['gatewise_shadow_sequences_total{result="agreed"}']
        models.store.promote(f"prices:{second}")
        wait_for(lambda: live_version(server) == second, "the challenger to be live")
    same = [a.label == b.label for a, b in zip(models.expected[first], models.expected[second], strict=True)]
    assert 0 < sum(same) < count
    assert (found.champion, found.challenger, found.agreed) == (first, second, sum(same))
    assert agreed == sum(same)
    assert found.champion_seconds.count == found.challenger_seconds.count == count
    assert models.store.shadow("prices") is None


def comparisons(models: Models) -> list[Any]:
    return models.store.comparisons("prices").list()


def test_a_replica_follows_the_shared_store_and_serves_on_without_it(models: Models, tmp_path: Path) -> None:
    first, second = models.versions
    remote, elsewhere = tmp_path / "remote", tmp_path / "elsewhere"
    elsewhere.mkdir()
    url = remote.as_uri()
    publisher = Store(models.store.home, shared=url)
    publisher.promote(f"prices:{second}")
    publisher.promote(f"prices:{first}")
    with serve(elsewhere, "prices:production", store=url, store_seconds=0.2, **PATIENT) as server:  # type: ignore[arg-type]
        assert live_version(server) == first
        publisher.rollback("prices")
        wait_for(lambda: live_version(server) == second, "the replica to follow")
        away = tmp_path / "away"
        remote.rename(away)
        remote.write_text("no folder")
        wait_for(lambda: server.get("/readyz").json()["detail"] is not None, "the replica to miss the store")
        assert "cannot be used now" in server.get("/readyz").json()["detail"]
        assert server.metrics()["gatewise_store_failures_total"] > 0

        async def ask() -> None:
            async with clients(server.port, 1) as [client]:
                assert models.assert_answers(0, await client.ask(models.requests[0])) == second

        asyncio.run(ask())
        remote.unlink()
        # A version that was changed on its way is not served.
        third = models.store.add(tmp_path / "of5", "prices").version
        away.rename(remote)
        publisher.promote(f"prices:{third}")
        wait_for(lambda: live_version(server) == third, "the store to be followed again")
        assert server.get("/readyz").json()["detail"] is None
        archive = remote / "prices" / f"{first}.tar.gz"
        shutil.rmtree(elsewhere / "bentoml" / "models" / "prices" / first)
        archive.write_bytes(archive.read_bytes()[:1000])
        publisher.promote(f"prices:{first}")
        wait_for(lambda: server.get("/readyz").json()["detail"] is not None, "the damage to be found")
        time.sleep(1)  # long enough for a worker to follow, if it would
        assert live_version(server) == third
