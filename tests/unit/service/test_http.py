"""The HTTP contract, in this process, against a model whose answers are worked out by hand."""

from __future__ import annotations

import asyncio
import gc
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest

from gatewise.artifact import Abstaining, LabelSets
from service import app, registry
from service.registry import LiveModel
from tests.unit.service.fakes import OVERFLOW, POISON, FakePredictor
from tests.unit.service.serving import serving

JSON = {"content-type": "application/json"}


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def error(message: str, code: str, *details: tuple[list[str | int], str]) -> dict[str, Any]:
    return {"error": message, "code": code, "details": [{"loc": loc, "message": text} for loc, text in details]}


def test_a_sequence_model_answers_a_label_its_confidence_and_the_probabilities(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            response = await client.post("/predict", json={"sequences": [[[1, 2], [-1, -0.5]], [[-2, 0]]]})
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        body = response.json()
        assert body["model"] == {"name": "fake", "version": "v1"}
        high, low = body["predictions"]
        assert (high["label"], low["label"]) == ("high", "low")
        assert high["confidence"] == pytest.approx(sigmoid(1.5))
        assert low["confidence"] == pytest.approx(sigmoid(2))
        assert high["probabilities"] == pytest.approx({"low": sigmoid(-1.5), "high": sigmoid(1.5)})

    run(test)


def test_probabilities_are_left_out_when_the_request_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            body = {"sequences": [[[1, 2]]], "probabilities": False}
            response = await client.post("/predict", json=body)
        assert response.json()["predictions"] == [{"label": "high", "confidence": pytest.approx(sigmoid(3))}]

    run(test)


def sure(kind: str = "series", task: str = "sequence") -> FakePredictor:
    """A model that abstains below 0.9, and whose sets hold labels of 0.1 and more."""
    predictor = FakePredictor(kind, task)
    predictor.manifest.abstaining = Abstaining(target_precision=0.95, threshold=0.9)
    predictor.manifest.label_sets = LabelSets(coverage=0.8, threshold=0.1)
    predictor.threshold = 0.1
    return predictor


def test_a_model_with_a_target_precision_says_where_it_abstains(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch, sure()) as client:
            response = await client.post("/predict", json={"sequences": [[[1, 0]], [[3, 0]]]})
            card = (await client.get("/model")).json()
        unsure, certain = response.json()["predictions"]
        assert (unsure["label"], unsure["abstained"]) == ("high", True)
        assert unsure["confidence"] == pytest.approx(sigmoid(1))
        assert (certain["label"], certain["abstained"]) == ("high", False)
        assert "label_set" not in unsure
        assert card["abstaining"] == {"target_precision": 0.95, "threshold": 0.9}
        assert card["label_sets"] == {"coverage": 0.8, "threshold": 0.1}

    run(test)


def test_label_sets_are_answered_when_the_request_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch, sure()) as client:
            body = {"sequences": [[[1, 0]], [[-3, 0]]], "label_set": True, "probabilities": False}
            sequences = await client.post("/predict", json=body)
        async with serving(monkeypatch, sure("text", "step")) as client:
            steps = await client.post("/predict", json={"sequences": ["a bcd"], "label_set": True})
        unsure, certain = sequences.json()["predictions"]
        assert set(unsure) == {"label", "confidence", "abstained", "label_set"}
        assert (unsure["label_set"], certain["label_set"]) == (["high", "low"], ["low"])
        (tagged,) = steps.json()["predictions"]
        assert tagged["label_set"] == [["high", "low"], ["high"]]
        assert tagged["abstained"] == [True, False]

    run(test)


def test_the_report_is_a_page_for_which_a_browser_loads_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        predictor.page = b"<!DOCTYPE html><title>report</title>"
        async with serving(monkeypatch, predictor) as client:
            page = await client.get("/model/report")
            head = await client.head("/model/report")
        assert (page.status_code, page.content) == (200, predictor.page)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-security-policy"] == "default-src 'none'; style-src 'unsafe-inline'"
        assert (head.content, head.headers) == (b"", page.headers)

    run(test)


def test_a_text_model_that_labels_steps_answers_labels_confidences_and_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        predictor = FakePredictor("text", "step")
        async with serving(monkeypatch, predictor) as client:
            plain = await client.post("/predict", json={"sequences": ["ab c", ["x y"]]})
            full = await client.post("/predict", json={"sequences": ["c"], "probabilities": True})
        first, second = plain.json()["predictions"]
        assert first == {
            "labels": ["high", "high"],
            "confidences": pytest.approx([sigmoid(2), sigmoid(1)]),
            "tokens": ["ab", "c"],
        }
        assert second["tokens"] == ["x y"]
        (prediction,) = full.json()["predictions"]
        assert prediction["probabilities"] == [pytest.approx({"low": sigmoid(-1), "high": sigmoid(1)})]

    run(test)


def parser_says(body: bytes) -> str:
    """The reason in the words of the parser, which another version of it may word otherwise."""
    with pytest.raises(orjson.JSONDecodeError) as error:
        orjson.loads(body)
    return str(error.value.msg)


UNFINISHED = parser_says(b'{"sequences": ')
NOT_A_VALUE = parser_says(b"[NaN]")
TOO_LARGE = parser_says(b"[1e999]")

WRONG_BODIES = [
    (b"", 400, error(m := 'the body is empty; send {"sequences": [...]}', "malformed_json", (["body", 0], m))),
    (
        b'{"sequences": ',
        400,
        error(
            m := f"the body is not JSON at line 1, column 15: {UNFINISHED}",
            "malformed_json",
            (["body", 14], m),
        ),
    ),
    (
        b'{"sequences": [[[NaN, 1]]]}',
        400,
        error(
            m := f"the body is not JSON at line 1, column 18: {NOT_A_VALUE}; "
            "JSON has no NaN and no Infinity: a missing reading is null",
            "malformed_json",
            (["body", 17], m),
        ),
    ),
    (
        b'{"sequences": ["\xff"]}',
        400,
        error(m := "byte 16 is not UTF-8", "malformed_json", (["body", 16], m)),
    ),
    (
        b"[]",
        422,
        error(m := 'expected an object, {"sequences": [...]}', "invalid_request", ([], m)),
    ),
    (
        b"{}",
        422,
        error(
            "sequences: missing; send a list of sequences",
            "invalid_request",
            (["sequences"], "missing; send a list of sequences"),
        ),
    ),
    (
        b'{"sequences": [], "colour": 1}',
        422,
        error(
            "colour: no such field; known are sequences, probabilities, label_set (and 1 more in details)",
            "invalid_request",
            (["colour"], "no such field; known are sequences, probabilities, label_set"),
            (["sequences"], "is empty; send at least one sequence"),
        ),
    ),
    (
        b'{"sequences": "abc"}',
        422,
        error(
            "sequences: expected a list of sequences, even for one",
            "invalid_request",
            (["sequences"], "expected a list of sequences, even for one"),
        ),
    ),
    (
        b'{"sequences": [[[1, 2]]], "probabilities": "yes"}',
        422,
        error(
            "probabilities: expected true, false or null",
            "invalid_request",
            (["probabilities"], "expected true, false or null"),
        ),
    ),
    (
        b'{"sequences": [[[1, 2]]], "label_set": 1}',
        422,
        error(
            "label_set: expected true, false or null",
            "invalid_request",
            (["label_set"], "expected true, false or null"),
        ),
    ),
    (
        b'{"sequences": [[[1, 2]]], "label_set": true}',
        422,
        error(
            "label_set: this model was made without label sets; leave it out",
            "invalid_request",
            (["label_set"], "this model was made without label sets; leave it out"),
        ),
    ),
    (
        b'{"sequences": [[[1, 2]], [[1, 2], [3]], [[1, "x"]], 7, [[1, null]]]}',
        422,
        error(
            "sequences[1][1]: expected 2 channels, got 1 (and 3 more in details)",
            "invalid_sequence",
            (["sequences", 1, 1], "expected 2 channels, got 1"),
            (["sequences", 2, 0, 1], "expected a number, got a string"),
            (["sequences", 3], "expected a list of timesteps, got a number"),
            (
                ["sequences", 4, 0, 1],
                "a reading is missing, and this model was trained without missing readings",
            ),
        ),
    ),
    (
        b'{"sequences": [[[1, 2]], [[1, 2], [3, -1e999]], [[1e38, 1e39]]]}',
        422,
        error(
            "sequences[1][1][1]: is infinite or beyond the range of a 32-bit float (and 1 more in details)",
            "invalid_sequence",
            (["sequences", 1, 1, 1], "is infinite or beyond the range of a 32-bit float"),
            (["sequences", 2, 0, 1], "is infinite or beyond the range of a 32-bit float"),
        ),
    ),
    (
        b'{"sequences": [[[1, %s]]]}' % (b"9" * 5000),
        422,
        error(
            "sequences[0][0][1]: is infinite or beyond the range of a 32-bit float",
            "invalid_sequence",
            (["sequences", 0, 0, 1], "is infinite or beyond the range of a 32-bit float"),
        ),
    ),
    (
        b'{"sequences": [[[1, 2]]], "probabilities": 1e999}',
        422,
        error(
            "probabilities: expected true, false or null",
            "invalid_request",
            (["probabilities"], "expected true, false or null"),
        ),
    ),
    *[
        (
            b'{"sequences": [[[1e999, %s]]]}' % other,
            400,
            error(m := f"the body is not JSON at line 1, column 18: {TOO_LARGE}", "malformed_json", (["body", 17], m)),
        )
        for other in (b"NaN", b'"\\ud800"', b"[" * 5000 + b"]" * 5000)
    ],
    (
        b'{"sequences": [[[1, 2]], [[3e38, 3e38]]]}',
        422,
        error(
            "sequences[1]: its values are so large that the model's answer is not finite",
            "invalid_sequence",
            (["sequences", 1], "its values are so large that the model's answer is not finite"),
        ),
    ),
]


@pytest.mark.parametrize(("body", "status", "expected"), WRONG_BODIES)
def test_a_wrong_body_is_answered_with_the_place_and_what_is_wrong(
    body: bytes, status: int, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            response = await client.post("/predict", content=body, headers=JSON)
        assert response.json() == expected
        assert response.status_code == status
        assert response.headers["content-type"] == "application/json"

    run(test)


WRONG_REQUESTS = [
    ("GET", "/nothing", {}, 404, "not_found", "there is nothing at '/nothing'; there are /predict, /model, "),
    ("POST", "/predict/", JSON, 404, "not_found", "there is nothing at '/predict/'; did you mean /predict?"),
    ("POST", "/predict%0A", JSON, 404, "not_found", "there is nothing at '/predict\\n'; did you mean /predict?"),
    ("GET", "/static_content/nothing", {}, 404, "not_found", "there is nothing here"),
    ("GET", "/model/report", {}, 404, "no_report", "fake was made without a report; `gatewise train` makes one"),
    ("GET", "/predict", {}, 405, "method_not_allowed", "/predict takes POST and OPTIONS, not GET"),
    ("DELETE", "/model", {}, 405, "method_not_allowed", "/model takes GET and HEAD and OPTIONS, not DELETE"),
    ("POST", "/readyz", {}, 405, "method_not_allowed", "/readyz takes GET and HEAD and OPTIONS, not POST"),
    (
        "POST",
        "/predict",
        {"content-type": "application/x-www-form-urlencoded"},
        415,
        "unsupported_media_type",
        "content-type 'application/x-www-form-urlencoded' is not taken; add -H 'content-type: application/json'",
    ),
    ("POST", "/predict", {"content-type": "application/json; charset=latin-1"}, 415, "unsupported_media_type", ""),
    ("POST", "/predict", JSON | {"content-encoding": "gzip"}, 415, "unsupported_media_type", "content-encoding 'gzip'"),
    ("POST", "/predict", JSON | {"content-length": "99999999"}, 413, "body_too_large", "the body has 99999999 bytes"),
]


@pytest.mark.parametrize(("method", "path", "headers", "status", "code", "message"), WRONG_REQUESTS)
def test_a_wrong_request_has_the_same_body_as_any_error(
    method: str, path: str, headers: dict[str, str], status: int, code: str, message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def test() -> None:
        async with serving(monkeypatch) as client:
            content = b'{"sequences": [[[1, 2]]]}' if method == "POST" else None
            response = await client.request(method, path, headers=headers, content=content)
        assert response.status_code == status
        body = response.json()
        assert set(body) == {"error", "code", "details"}
        assert body["code"] == code
        assert body["error"].startswith(message)
        if status == 405:
            assert response.headers["allow"] in body["error"].replace(" and ", ", ")

    run(test)


@pytest.mark.parametrize("headers", [{}, JSON, {"content-type": "Application/JSON; Charset=UTF-8"}])
def test_json_is_taken_with_a_charset_and_without_a_name(
    headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            response = await client.post("/predict", content=b'{"sequences": [[[1, 2]]]}', headers=headers)
        assert response.status_code == 200

    run(test)


def test_deeply_nested_json_is_refused_and_the_service_lives_on(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            for depth in (100, 1000, 100_000):
                body = b'{"sequences": ' + b"[" * depth + b"]" * depth + b"}"
                response = await client.post("/predict", content=body, headers=JSON)
                assert response.status_code in (400, 422)
            assert (await client.get("/livez")).status_code == 200

    run(test)


def test_at_most_twenty_wrong_items_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            response = await client.post("/predict", json={"sequences": ["x"] * 50})
        assert [detail["loc"] for detail in response.json()["details"]] == [["sequences", i] for i in range(20)]

    run(test)


@pytest.mark.parametrize(
    ("sequences", "code", "message"),
    [
        (
            [[[1, 2]]] * 4,
            "invalid_request",
            "sequences: has 4 sequences, and this service takes 3 in a request; split it",
        ),
        ([[[1, 2]] * 11], "invalid_sequence", "sequences[0]: has 11 timesteps, and this service takes 10"),
    ],
)
def test_a_request_beyond_the_limits_is_refused_with_the_limit(
    sequences: object, code: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test() -> None:
        async with serving(monkeypatch, max_sequences=3, max_timesteps=10) as client:
            response = await client.post("/predict", json={"sequences": sequences})
        assert response.status_code == 422
        assert (response.json()["code"], response.json()["error"]) == (code, message)

    run(test)


def test_a_body_that_grows_too_large_in_pieces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 100

    async def test() -> None:
        async with serving(monkeypatch, max_body_bytes=1024) as client:
            response = await client.post("/predict", content=pieces(), headers=JSON)
            assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
            assert app.runtime.bodies is not None
            assert app.runtime.bodies.pending_bytes == 0

    run(test)


def test_bodies_beyond_the_memory_for_them_are_told_to_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch, max_pending_bytes=1024) as client:
            response = await client.post("/predict", content=b" " * 2000, headers=JSON)
        assert (response.status_code, response.json()["code"]) == (429, "queue_full")
        assert response.headers["retry-after"] == "1"

    run(test)


def test_a_body_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(5)

    async def test() -> None:
        async with serving(monkeypatch, timeout_seconds=0.1) as client:
            response = await client.post("/predict", content=pieces(), headers=JSON)
        assert (response.status_code, response.json()["code"]) == (408, "body_timeout")

    run(test)


def test_one_invalid_item_fails_its_own_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        async with serving(monkeypatch, predictor) as client:
            bodies = [[[[1, 2]]], [[[1]]], [[[POISON, 0]]], [[[OVERFLOW, OVERFLOW]]], [[[3, 4]]]]
            responses = await asyncio.gather(*(client.post("/predict", json={"sequences": body}) for body in bodies))
        assert [response.status_code for response in responses] == [200, 422, 500, 422, 200]
        assert [1, 1, 1, 1] in predictor.batches
        assert responses[2].json() == error(
            "the model failed on sequences[0]; the server's log says how",
            "internal",
            (["sequences", 0], "the model failed on this sequence; the server's log says how"),
        )

    run(test)


def test_an_answer_that_is_late_is_504_and_its_work_is_dropped_from_the_queue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        async with serving(monkeypatch, predictor, timeout_seconds=0.3) as client:
            predictor.free.clear()
            body = {"sequences": [[[1, 2]]]}
            running = asyncio.create_task(client.post("/predict", json=body))
            await asyncio.to_thread(predictor.started.wait, 10)
            queued = await client.post("/predict", json=body)
            assert (queued.status_code, queued.json()["code"]) == (504, "timed_out")
            assert (await running).status_code == 504
            predictor.free.set()
            assert (await client.post("/predict", json=body)).status_code == 200
        assert predictor.batches == [[1], [1]]

    run(test)


def test_a_client_that_leaves_takes_its_work_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        async with serving(monkeypatch, predictor) as client:
            predictor.free.clear()
            running = asyncio.create_task(client.post("/predict", json={"sequences": [[[1, 2]]]}))
            await asyncio.to_thread(predictor.started.wait, 10)
            answered = await _ask_and_leave({"sequences": [[[3, 4]] * 7]})
            assert answered == 499
            predictor.free.set()
            assert (await running).status_code == 200
        assert predictor.batches == [[1]]

    run(test)


async def _ask_and_leave(body: object) -> int:
    """Send a request as a server would hand it over, and disconnect before the answer; return the status."""
    messages = [{"type": "http.request", "body": orjson.dumps(body)}, {"type": "http.disconnect"}]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": []}
    await app.Gateway(_nothing, app.runtime)(scope, receive, send)
    return int(sent[0]["status"])


async def _nothing(*_: object) -> None:
    raise AssertionError("nothing may be passed on")


def test_a_full_queue_is_429_with_the_time_to_try_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        async with serving(monkeypatch, predictor, queue_steps=10) as client:
            predictor.free.clear()
            ten = {"sequences": [[[0, 0]] * 10]}
            first = asyncio.create_task(client.post("/predict", json=ten))
            await asyncio.to_thread(predictor.started.wait, 10)
            second = asyncio.create_task(client.post("/predict", json=ten))
            while app.runtime._queue().queued_steps < 10:
                await asyncio.sleep(0.01)
            refused = await client.post("/predict", json=ten)
            predictor.free.set()
            assert [(await first).status_code, (await second).status_code] == [200, 200]
            too_long = await client.post("/predict", json={"sequences": [[[0, 0]] * 11]})
        assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1
        assert (too_long.status_code, too_long.json()["code"]) == (413, "body_too_large")

    run(test)


def test_a_large_request_leaves_the_loop_free(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            body = {"sequences": [[[i, 1]] * 20 for i in range(3000)]}
            large = asyncio.create_task(client.post("/predict", content=orjson.dumps(body), headers=JSON))
            small = [await client.post("/predict", json={"sequences": [[[1, 2]]]}) for _ in range(3)]
            assert not large.done()
            response = await large
        assert all(one.status_code == 200 for one in small)
        predictions = response.json()["predictions"]
        assert len(predictions) == 3000
        assert predictions[0]["confidence"] == pytest.approx(sigmoid(20))

    run(test)


def test_a_switch_of_models_is_seen_by_new_requests_and_not_by_running_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        old = FakePredictor()
        async with serving(monkeypatch, old) as client:
            old.free.clear()
            body = {"sequences": [[[1, 2]]]}
            running = asyncio.create_task(client.post("/predict", json=body))
            await asyncio.to_thread(old.started.wait, 10)
            app.runtime.make_live(LiveModel(FakePredictor(version="v2"), 100))  # type: ignore[arg-type]
            later = asyncio.create_task(client.post("/predict", json=body))
            assert (await client.get("/model")).json()["version"] == "v2"
            old.free.set()
            versions = [(await one).json()["model"]["version"] for one in (running, later)]
            assert versions == ["v1", "v2"]
            metrics = (await client.get("/metrics")).text
        assert (
            'gatewise_model_info{engine="fake",kind="series",name="fake",task="sequence",version="v1"} 0.0' in metrics
        )
        assert (
            'gatewise_model_info{engine="fake",kind="series",name="fake",task="sequence",version="v2"} 1.0' in metrics
        )

    run(test)


def test_without_a_model_the_service_is_not_ready_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            live = app.runtime.registry.switch(None)
            for method, path in [("POST", "/predict"), ("GET", "/model"), ("GET", "/docs.json"), ("GET", "/readyz")]:
                content = b'{"sequences": []}' if method == "POST" else None
                response = await client.request(method, path, content=content)
                assert (response.status_code, response.json()["code"]) == (503, "not_ready")
            assert (await client.get("/livez")).status_code == 200
            app.runtime.registry.switch(live)
            assert (await client.get("/readyz")).status_code == 200

    run(test)


def test_a_model_that_never_returns_ends_the_liveness(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            monkeypatch.setattr(type(app.runtime._queue()), "running_seconds", 1000.0)
            response = await client.get("/livez")
            assert response.status_code == 503

    run(test)


def test_a_model_that_cannot_be_loaded_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="gatewise: GATEWISE_MODEL: not set; name an artifact's folder"):
        app.GatewiseService.inner.check()
    monkeypatch.setenv("GATEWISE_MODEL", "/no/such/folder")
    with pytest.raises(SystemExit, match="gatewise: /no/such/folder"):
        app.GatewiseService.inner.check()
    monkeypatch.setenv("GATEWISE_WORKERS", "0")
    with pytest.raises(SystemExit, match="gatewise: GATEWISE_WORKERS"):
        app.GatewiseService.inner.check()


@pytest.mark.parametrize(
    ("engine", "device", "checked"),
    [
        ("auto", "", ("auto", None)),
        ("torch", "", ("torch", None)),
        ("auto", "cuda", ("torch", None)),
        ("onnx", "cuda", ("onnx", "cuda")),  # which the engine refuses, as it must
    ],
)
def test_the_check_before_the_start_uses_the_configured_engine_and_no_gpu(
    engine: str, device: str, checked: tuple[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def load(settings: Any) -> FakePredictor:
        seen.append((settings.engine, settings.device))
        return FakePredictor()

    monkeypatch.setattr(registry, "load_predictor", load)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setenv("GATEWISE_ENGINE", engine)
    monkeypatch.setenv("GATEWISE_DEVICE", device)
    app.GatewiseService.inner.check()
    assert seen == [checked]


def test_a_device_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for device, message in [("cuda", "torch sees no CUDA device here"), ("toaster", "device: 'toaster'")]:
        monkeypatch.setenv("GATEWISE_DEVICE", device)
        with pytest.raises(SystemExit, match=message):
            app.GatewiseService.inner.check()


def test_an_unexpected_error_is_500_without_a_word_of_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            monkeypatch.setattr(app.runtime, "predict", None)
            response = await client.post("/predict", json={"sequences": [[[1, 2]]]})
        assert response.status_code == 500
        assert response.json() == error("an unexpected error; the server's log says more", "internal")

    run(test)
    assert "TypeError" in caplog.text


def test_get_and_head_agree_and_options_names_the_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            for path in ("/model", "/docs.json", "/schema.json", "/livez", "/"):
                got, head = await client.get(path), await client.head(path)
                assert (got.status_code, head.status_code, head.content) == (200, 200, b"")
                assert got.headers["content-length"] == head.headers["content-length"]
            options = await client.options("/predict")
        assert (options.status_code, options.headers["allow"], options.content) == (204, "POST, OPTIONS", b"")

    run(test)


def test_the_card_says_what_the_model_is_and_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch, max_timesteps=99) as client:
            card = (await client.get("/model")).json()
        assert card == {
            "name": "fake",
            "version": "v1",
            "kind": "series",
            "task": "sequence",
            "labels": ["low", "high"],
            "input": {
                "item": "a list of timesteps, each a list of 2 readings, one for each channel",
                "channels": ["a", "b"],
                "allow_missing": False,
                "max_length": None,
                "max_timesteps": 99,
            },
            "abstaining": None,
            "label_sets": None,
            "metrics": {"test": {"accuracy": 1.0}},
            "data": {"fingerprint": "f1"},
            "created_at": "2026-01-02T03:04:05Z",
            "digest": "d1",
            "drift": None,
            "engine": "fake",
            "device": "cpu",
            "trained_with": "0.1.0",
            "gatewise": registry.__version__,
        }

    run(test)


def test_the_metrics_count_what_happened_and_a_scanner_makes_no_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            await client.post("/predict", json={"sequences": [[[1, 2]] * 3, [[3, 4]] * 4, [[-1, -1]] * 4]})
            await client.post("/predict", json={})
            for number in range(5):
                await client.get(f"/scan{number}")
            lines = (await client.get("/metrics")).text.splitlines()
        for line in (
            'gatewise_http_requests_total{route="/predict",status="200"} 1.0',
            'gatewise_http_requests_total{route="/predict",status="422"} 1.0',
            'gatewise_http_requests_total{route="other",status="404"} 5.0',
            'gatewise_predictions_total{label="high"} 2.0',
            'gatewise_predictions_total{label="low"} 1.0',
            "gatewise_prediction_confidence_count 3.0",
            "gatewise_batch_items_sum 3.0",
            "gatewise_queue_steps 0.0",
            "gatewise_queue_wait_seconds_count 1.0",
        ):
            assert line in lines
        assert not any("scan" in line for line in lines)
        # 3 + 4 + 4 real timesteps of 3 * 4: one twelfth is padding.
        assert "gatewise_batch_padding_ratio_count 1.0" in lines
        assert any(line.startswith("gatewise_batch_padding_ratio_sum 0.0833") for line in lines)

    run(test)


def test_a_python_caller_of_the_service_gets_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            over_http = (await client.post("/predict", json={"sequences": [[[1, 2]]]})).json()
            answer = await app.GatewiseService.inner().predict.local(sequences=[[[1, 2]]])
        assert answer.model_dump() == over_http

    run(test)


def test_many_requests_leave_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        async with serving(monkeypatch, predictor) as client:
            for _ in range(20):
                await client.post("/predict", json={"sequences": [[[1, 2]]]})
            gc.collect()
            before = len(gc.get_objects())
            for _ in range(200):
                await client.post("/predict", json={"sequences": [[[1, 2]]]})
            predictor.batches.clear()
            gc.collect()
            assert len(gc.get_objects()) - before < 200
            loop = asyncio.get_running_loop()
            # BentoML's own timeout would leave one timer a request behind, for a minute each.
            assert len([timer for timer in loop._scheduled if not timer.cancelled()]) < 10  # type: ignore[attr-defined]

    run(test)


def test_the_answer_does_not_wait_for_company(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        async with serving(monkeypatch, predictor) as client:
            for _ in range(3):
                await client.post("/predict", json={"sequences": [[[1, 2]]]})
        assert predictor.batches == [[1], [1], [1]]

    run(test)
