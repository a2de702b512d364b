"""`POST /feedback`, in this process, checked by a model whose contract a reader can work out."""

from __future__ import annotations

import asyncio
import importlib.util
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from gatewise import database
from gatewise.feedback import FeedbackStore
from gatewise.migrations.versions import r0002_jobs
from service import app
from service.registry import LiveModel
from tests.unit.service.fakes import FakePredictor
from tests.unit.service.serving import serving

JSON = {"content-type": "application/json"}
GOOD = {"items": [{"sequence": [[1, 2]], "label": "low"}, {"sequence": [[3, 4], [5, 6]], "label": "odd"}]}
ANSWER = {
    "stored": 2,
    "labels": [{"label": "low", "is_new": False}, {"label": "odd", "is_new": True}],
    "model": {"name": "fake", "version": "v1"},
}


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that feedback is stored in by default."""
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    return tmp_path / "gatewise" / "feedback" / "feedback.db"


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


def stored(path: Path) -> list[tuple[Any, Any]]:
    store = FeedbackStore(f"sqlite:///{path}")
    found = store.collect("fake")
    store.close()
    assert found.repeats == 0
    return [
        (item.sequence if isinstance(item.sequence, str | list) else item.sequence.tolist(), item.label)
        for item in found.items
    ]


def one(sequence: object, label: object) -> dict[str, Any]:
    return {"items": [{"sequence": sequence, "label": label}]}


def test_feedback_is_stored_and_its_new_labels_are_marked(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            response = await client.post("/feedback", json=GOOD)
            assert (response.status_code, response.json()) == (200, ANSWER)
            assert stored(path) == [([[1, 2]], "low"), ([[3, 4], [5, 6]], "odd")]
            metrics = (await client.get("/metrics")).text
        assert 'gatewise_http_requests_total{route="/feedback",status="200"} ' in metrics

    run(test)


@pytest.mark.parametrize(
    ("model", "sequence", "label", "kept"),
    [
        (("series", "sequence", 1), [1, 2], "low", [[1], [2]]),
        (("text", "sequence", 0), "a  b", "low", "a  b"),
        (("series", "step", 2), [[1, 2], [3, 4]], ["low", "odd"], [[1, 2], [3, 4]]),
        (("text", "step", 0), "a  b", ["low", "high"], ["a", "b"]),
        (("text", "step", 0), ["a b", "c"], ["low", "high"], ["a b", "c"]),
    ],
)
def test_every_kind_of_model_takes_its_own_sequences_and_labels(
    model: tuple[str, str, int],
    sequence: object,
    label: object,
    kept: object,
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
) -> None:
    async def test() -> None:
        async with serving(monkeypatch, FakePredictor(*model)) as client:
            response = await client.post("/feedback", json=one(sequence, label))
        assert response.status_code == 200, response.text
        assert stored(path) == [(kept, label)]

    run(test)


WRONG = [
    ("series", b"", 400, "malformed_json", ["body", 0], 'the body is empty; send {"items": '),
    ("series", b'{"items": [', 400, "malformed_json", ["body", 11], "the body is not JSON at line 1, column 12"),
    ("series", [], 422, "invalid_request", [], "expected an object, {"),
    ("series", {}, 422, "invalid_request", ["items"], "missing; send"),
    ("series", {"items": {}}, 422, "invalid_request", ["items"], "expected a list of items"),
    ("series", {"items": []}, 422, "invalid_request", ["items"], "is empty"),
    ("series", {"items": [7]}, 422, "invalid_request", ["items", 0], "expected an object"),
    ("series", {"items": [{"sequence": [[1, 2]]}]}, 422, "invalid_request", ["items", 0, "label"], "missing"),
    (
        "series",
        {"items": [{"sequence": [[1, 2]], "label": "x", "weight": 1}]},
        422,
        "invalid_request",
        ["items", 0, "weight"],
        "no such field; known are sequence, label",
    ),
    ("series", {**GOOD, "user": 1}, 422, "invalid_request", ["user"], "no such field; known are items, source, key"),
    ("series", {**GOOD, "source": 1}, 422, "invalid_request", ["source"], "expected a string of 1 to 200"),
    ("series", {**GOOD, "source": "a\0"}, 422, "invalid_request", ["source"], "expected a string of 1 to 200"),
    ("series", {**GOOD, "key": "a b"}, 422, "invalid_request", ["key"], "expected a string of 1 to 200"),
    ("series", {**GOOD, "key": ""}, 422, "invalid_request", ["key"], "expected a string of 1 to 200"),
    (
        "series",
        {"items": GOOD["items"] * 3},
        422,
        "invalid_request",
        ["items"],
        "has 6 items, and this service takes 4",
    ),
    ("series", one([[1, 2], [3]], "x"), 422, "invalid_feedback", ["items", 0, "sequence", 1], "expected 2 channels"),
    ("series", one([[1, None]], "x"), 422, "invalid_feedback", ["items", 0, "sequence", 0, 1], "a reading is missing"),
    ("series", one([[1, 2]] * 9, "x"), 422, "invalid_feedback", ["items", 0, "sequence"], "has 9 timesteps, and"),
    ("series", one([[1, 2]], 3), 422, "invalid_feedback", ["items", 0, "label"], "expected a label, which is a string"),
    ("series", one([[1, 2]], ["x"]), 422, "invalid_feedback", ["items", 0, "label"], "expected a label, which"),
    ("series", one([[1, 2]], ""), 422, "invalid_feedback", ["items", 0, "label"], "a new label is not empty"),
    (
        "series",
        one([[1, 2]], "x "),
        422,
        "invalid_feedback",
        ["items", 0, "label"],
        "a new label is not empty, and has",
    ),
    ("series", one([[1, 2]], "x" * 201), 422, "invalid_feedback", ["items", 0, "label"], "has 201 characters, and"),
    ("step", one([[1, 2]], "x"), 422, "invalid_feedback", ["items", 0, "label"], "expected a list of labels, one for"),
    ("step", one([[1, 2]], ["x", "y"]), 422, "invalid_feedback", ["items", 0, "label"], "has 2 labels for 1 steps"),
    ("step", one([[1, 2]], [None]), 422, "invalid_feedback", ["items", 0, "label", 0], "expected a label, which is"),
]


@pytest.mark.parametrize(("model", "body", "status", "code", "loc", "message"), WRONG)
def test_wrong_feedback_is_answered_with_its_place_and_stores_nothing(
    model: str, body: Any, status: int, code: str, loc: list[Any], message: str,
    monkeypatch: pytest.MonkeyPatch, path: Path,
) -> None:  # fmt: skip
    async def test() -> None:
        predictor = FakePredictor(task="step" if model == "step" else "sequence")
        async with serving(monkeypatch, predictor, max_sequences=4, max_timesteps=8) as client:
            sent = {"content": body} if isinstance(body, bytes) else {"json": body}
            response = await client.post("/feedback", **sent)
        answered = response.json()
        assert (response.status_code, answered["code"]) == (status, code)
        (detail,) = answered["details"]
        assert detail["loc"] == loc
        assert detail["message"].startswith(message)
        assert detail["message"] in answered["error"]
        assert stored(path) == []

    run(test)


def test_one_wrong_item_keeps_out_its_whole_request_and_no_other(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            wrong = {"items": [*GOOD["items"], {"sequence": 7, "label": 7}, {"sequence": [[1, 1]], "label": 7}]}
            responses = await asyncio.gather(*(client.post("/feedback", json=body) for body in (wrong, GOOD)))
        assert [response.status_code for response in responses] == [422, 200]
        assert responses[0].json()["error"].endswith("got a number (and 1 more in details)")
        assert [detail["loc"] for detail in responses[0].json()["details"]] == [
            ["items", 2, "sequence"],
            ["items", 3, "label"],
        ]
        assert len(stored(path)) == 2

    run(test)


def test_a_known_label_is_taken_whatever_it_looks_like(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        predictor.manifest.labels = ("low ", "x" * 300)
        async with serving(monkeypatch, predictor) as client:
            body = {
                "items": [{"sequence": [[1, i]], "label": label} for i, label in enumerate(predictor.manifest.labels)]
            }
            response = await client.post("/feedback", json=body)
        assert [label["is_new"] for label in response.json()["labels"]] == [False, False]

    run(test)


def test_a_repeated_key_is_answered_the_same_and_stored_once(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            first = await client.post("/feedback", json={**GOOD, "key": "k", "source": "s"})
            # Another version is live by now, which knows the label, and has another contract.
            later = FakePredictor(channels=3, version="v2")
            later.manifest.labels = ("low", "odd")
            app.runtime.registry.switch(LiveModel(later, 100))  # type: ignore[arg-type]
            body = (
                '{ "key": "k", "source": "s", "items": '
                + httpx.Request("POST", "http://x", json=GOOD["items"]).content.decode()
                + "}"
            )
            again = await client.post("/feedback", content=body, headers=JSON)
            other = await client.post("/feedback", json={**one([[1, 2, 3]], "low"), "key": "k", "source": "s"})
            unsigned = await client.post("/feedback", json={**GOOD, "key": "k"})
        assert (first.status_code, first.json()) == (200, ANSWER)
        assert (again.status_code, again.json()) == (200, ANSWER)
        for response in (other, unsigned):
            assert (response.status_code, response.json()["code"]) == (409, "feedback_conflict")
        assert len(stored(path)) == 2

    run(test)


def test_many_repeats_at_once_are_stored_once(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            asked = [client.post("/feedback", json={**GOOD, "key": f"k{i % 3}"}) for i in range(30)]
            responses = await asyncio.gather(*asked)
        assert [response.json() for response in responses] == [ANSWER] * 30
        with sqlite3.connect(path) as connection:
            assert connection.execute("SELECT count(*) FROM feedback_items").fetchone() == (6,)
        connection.close()

    run(test)


def test_an_array_is_no_feedback(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            response = await client.post("/feedback", content=b"", headers={"content-type": "application/x-npy"})
            got = await client.get("/feedback")
        assert (response.status_code, response.json()["code"]) == (415, "unsupported_media_type")
        assert (got.status_code, got.headers["allow"]) == (405, "POST, OPTIONS")

    run(test)


def test_a_locked_database_is_503_and_predictions_go_on(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.5)

    async def test() -> None:
        async with serving(monkeypatch) as client:
            assert (await client.post("/feedback", json=GOOD)).status_code == 200
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            waiting = [asyncio.create_task(client.post("/feedback", json=one([[i, i]], "low"))) for i in range(20)]
            await asyncio.sleep(0)
            predicted = await client.post("/predict", json={"sequences": [[[1, 2]]]})
            assert predicted.status_code == 200
            assert not any(task.done() for task in waiting)  # the loop never waited for the lock
            responses = await asyncio.gather(*waiting)
            for response in responses:
                assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
            # Who queued behind the first to fail is told so at once, and does not wait as long again.
            said = {response.json()["error"] for response in responses}
            assert "the database failed while this waited for it; try again later" in said
            other.execute("ROLLBACK")
            other.close()
            assert (await client.post("/feedback", json=one([[9, 9]], "low"))).status_code == 200
        assert [label for _, label in stored(path)] == ["low", "odd", "low"]

    run(test)


def test_a_full_disk_is_503_and_loses_nothing_that_was_answered(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    real = database._configure_sqlite

    def with_little_room(connection: Any, record: object) -> None:
        real(connection, record)
        connection.execute("PRAGMA max_page_count = 40")

    monkeypatch.setattr(database, "_configure_sqlite", with_little_room)

    async def test() -> None:
        answered = []
        async with serving(monkeypatch, FakePredictor("text")) as client:
            for i in range(1000):
                text = " ".join(str(i * j % 997) for j in range(500))
                response = await client.post("/feedback", json=one(text, "low"))
                if response.status_code != 200:
                    break
                answered.append((text, "low"))
        assert (response.status_code, response.json()["code"]) == (503, "database_unavailable")
        assert "has no room on its disk" in response.json()["error"]
        assert len(answered) > 5
        assert stored(path) == answered

    run(test)


def test_what_waits_for_the_database_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        free = threading.Event()
        async with serving(monkeypatch, max_pending_bytes=4096) as client:
            app.runtime.feedback._thread.submit(free.wait, 30)
            big = one([[1, 2]] * 100, "low")  # some 800 of 1024 bytes
            waiting = asyncio.create_task(client.post("/feedback", json=big))
            while not app.runtime.feedback._waiting_bytes:
                await asyncio.sleep(0.01)
            refused = await client.post("/feedback", json=big)
            assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
            assert refused.headers["retry-after"] == "1"
            free.set()
            assert (await waiting).status_code == 200
            assert (await client.post("/feedback", json=big)).status_code == 200
            assert app.runtime.bodies.pending_bytes == 0

    run(test)


def test_feedback_that_waits_too_long_is_504_and_is_never_stored(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    async def test() -> None:
        free = threading.Event()
        async with serving(monkeypatch, timeout_seconds=0.3) as client:
            app.runtime.feedback._thread.submit(free.wait, 30)
            response = await client.post("/feedback", json=GOOD)
            assert (response.status_code, response.json()["code"]) == (504, "timed_out")
            free.set()
            assert (await client.post("/feedback", json=one([[9, 9]], "low"))).status_code == 200
        assert stored(path) == [([[9, 9]], "low")]

    run(test)


def test_a_database_newer_than_the_code_is_503_and_predictions_go_on(
    monkeypatch: pytest.MonkeyPatch, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    FeedbackStore().close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()

    async def test() -> None:
        async with serving(monkeypatch, database=f"sqlite:///{path}") as client:
            response = await client.post("/feedback", json=GOOD)
            assert (response.status_code, response.json()["code"]) == (503, "database_too_new")
            assert "revision 9999" in response.json()["error"]
            assert (await client.post("/predict", json={"sequences": [[[1, 2]]]})).status_code == 200

    run(test)
    assert "feedback cannot be stored: the database is at revision 9999" in caplog.text  # said at the start


def test_a_named_database_is_made_at_the_start_and_the_default_one_with_the_first_feedback(
    monkeypatch: pytest.MonkeyPatch, path: Path, tmp_path: Path
) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            assert (await client.post("/predict", json={"sequences": [[[1, 2]]]})).status_code == 200
            assert not path.exists()
        named = tmp_path / "named.db"
        async with serving(monkeypatch, database=f"sqlite:///{named}"):
            await asyncio.wrap_future(app.runtime.feedback._thread.submit(int))
            with sqlite3.connect(named) as connection:
                found = connection.execute("SELECT version_num FROM alembic_version").fetchone()
            connection.close()
            assert found == (r0002_jobs.revision,)

    run(test)


def test_without_what_stores_it_feedback_is_501_with_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec

    async def test() -> None:
        async with serving(monkeypatch) as client:
            monkeypatch.setattr(
                importlib.util, "find_spec", lambda name, *a: None if name == "alembic" else real(name, *a)
            )
            response = await client.post("/feedback", json=GOOD)
        assert (response.status_code, response.json()["code"]) == (501, "missing_dependency")
        assert response.json()["error"] == "feedback needs alembic: pip install 'gatewise[feedback]'"
        monkeypatch.setenv("GATEWISE_DATABASE", "sqlite:////x.db")
        with pytest.raises(SystemExit, match="feedback needs alembic"):
            app.GatewiseService.inner.check()

    run(test)


def test_a_wrong_database_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWISE_DATABASE", "feedback.db")
    with pytest.raises(SystemExit, match="gatewise: GATEWISE_DATABASE: not a URL; write sqlite"):
        app.GatewiseService.inner.check()
