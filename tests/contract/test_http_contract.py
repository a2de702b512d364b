"""The contract as clients meet it: a server in a process of its own, BentoML's client, curl, and the documents."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bentoml
import httpx
import pytest

from gatewise.artifact import Abstaining, LabelSets
from tests.unit.service.fakes import FakePredictor
from tests.unit.service.serving import serving

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "tests.contract.fake_service:GatewiseService"
SLOW = -777.0


def start(tmp: Path, port: int, service: str = SERVICE, **environ: str) -> subprocess.Popen[bytes]:
    """Start `bentoml serve`; its log is `tmp/log`."""
    settings = {name: value for name, value in os.environ.items() if not name.startswith("GATEWISE_")}
    own = {
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": str(tmp / "bentoml"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", "bentoml", "serve", service, "--host", "127.0.0.1", "--port", str(port)]
    with (tmp / "log").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env=settings | own | environ, stdout=log, stderr=log)


def stop(process: subprocess.Popen[bytes]) -> int:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            # The socket opens before the worker runs: an early request hangs until it does.
            if httpx.get(f"{url}/readyz", timeout=30).status_code == 200:
                return
        time.sleep(0.1)
    pytest.fail(f"the server did not become ready:\n{log.read_text()}")


@contextlib.contextmanager
def server(tmp: Path, **environ: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    process = start(tmp, port, GATEWISE_MODEL="fake", **environ)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_ready(url, process, tmp / "log")
        yield url, process
    finally:
        stop(process)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with server(tmp_path_factory.mktemp("server"), GATEWISE_MAX_BODY_BYTES="100000") as (url, _):
        yield url


def test_bentomls_own_client_predicts(url: str) -> None:
    with bentoml.SyncHTTPClient(url) as client:
        answer = client.predict(sequences=[[[1.0, 2.0]], [[-1.0, 0.0], [0.0, -3.0]]])
        without = client.predict(sequences=[[[1.0, 2.0]]], probabilities=False)
    assert [prediction["label"] for prediction in answer["predictions"]] == ["high", "low"]
    assert answer["model"] == {"name": "fake", "version": "v1"}
    assert set(without["predictions"][0]) == {"label", "confidence"}


def test_bentomls_own_client_gets_the_message_of_an_error(url: str) -> None:
    with bentoml.SyncHTTPClient(url) as client, pytest.raises(bentoml.exceptions.BentoMLException) as error:
        client.predict(sequences=[[[1.0]]])
    assert "sequences[0][0]: expected 2 channels, got 1" in str(error.value)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("arguments", "status", "start"),
    [
        (["-H", "content-type: application/json", "-d", '{"sequences": [[[1, 2]]]}'], 200, '{"predictions":[{"label"'),
        (["-d", '{"sequences": [[[1, 2]]]}'], 415, '{"error":"content-type \'application/x-www-form-urlencoded\' is'),
        (["-X", "PUT"], 405, '{"error":"/predict takes POST'),
    ],
)
def test_curl_is_answered(arguments: list[str], status: int, start: str, url: str) -> None:
    command = ["curl", "-s", "-w", "\n%{http_code}", *arguments, f"{url}/predict"]
    body, code = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.split("\n")
    assert int(code) == status
    assert body.startswith(start)


def test_a_body_too_large_is_refused_before_and_while_it_is_sent(url: str) -> None:
    whole = httpx.post(f"{url}/predict", content=b" " * 3_000_000)
    pieces = httpx.post(f"{url}/predict", content=(b" " * 10_000 for _ in range(300)))
    assert (whole.status_code, pieces.status_code) == (413, 413)
    assert whole.json()["code"] == pieces.json()["code"] == "body_too_large"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/healthz", "/metrics", "/docs.json", "/schema.json", "/"])
def test_the_routes_of_bentoml_are_there(path: str, url: str) -> None:
    assert httpx.get(url + path).status_code == 200


def test_the_index_page_finds_what_it_shows(url: str) -> None:
    page = httpx.get(url).text
    for file in ("swagger-ui.css", "swagger-ui-bundle.js"):
        assert f"./static_content/{file}" in page
        assert httpx.get(f"{url}/static_content/{file}").status_code == 200
    assert "https://" not in page


def test_metrics_of_the_worker_are_shown(url: str) -> None:
    httpx.post(f"{url}/predict", json={"sequences": [[[1, 2]]]})
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    assert any(line.startswith('gatewise_http_requests_total{route="/predict",status="200"}') for line in lines)
    assert any(line.startswith("gatewise_model_info{") and line.endswith(" 1.0") for line in lines)


def test_requests_in_parallel_each_get_their_own_answer(url: str) -> None:
    async def ask() -> list[float]:
        async with httpx.AsyncClient(timeout=30) as client:
            bodies = [{"sequences": [[[i / 100, 0]] * (1 + i % 7)]} for i in range(200)]
            responses = await asyncio.gather(*(client.post(f"{url}/predict", json=body) for body in bodies))
        return [response.json()["predictions"][0]["probabilities"]["high"] for response in responses]

    for i, high in enumerate(asyncio.run(ask())):
        assert high == pytest.approx(1 / (1 + 2.718281828459045 ** -(i / 100 * (1 + i % 7))), abs=1e-6)


def test_a_client_that_leaves_is_noticed_and_its_work_dropped(url: str) -> None:
    slow = threading.Thread(target=httpx.post, args=(f"{url}/predict",), kwargs={"json": {"sequences": [[[SLOW, 0]]]}})
    slow.start()
    time.sleep(0.3)
    host, port = url.removeprefix("http://").split(":")
    body = b'{"sequences": [[[1, 2]]]}'
    with socket.create_connection((host, int(port))) as leaving:
        head = b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        leaving.sendall(head % len(body) + body)
        time.sleep(0.3)
    time.sleep(0.3)
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    slow.join()
    assert 'gatewise_http_requests_total{route="/predict",status="499"} 1.0' in lines
    assert "gatewise_queue_steps 0.0" in lines


def test_accepted_requests_are_answered_after_sigterm(tmp_path: Path) -> None:
    statuses: list[int] = []

    def ask(url: str) -> None:
        statuses.append(httpx.post(f"{url}/predict", json={"sequences": [[[SLOW, 0]]]}, timeout=30).status_code)

    with server(tmp_path) as (url, process):
        threads = [threading.Thread(target=ask, args=(url,)) for _ in range(3)]
        for thread in threads:
            thread.start()
            time.sleep(0.2)  # one runs, two queue
        process.send_signal(signal.SIGTERM)
        for thread in threads:
            thread.join()
        assert process.wait(30) == 0
    assert statuses == [200, 200, 200]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "gatewise: GATEWISE_MODEL: not set"),
        ({"GATEWISE_MODEL": "/no/such/folder"}, "gatewise: /no/such/folder"),
        (
            {"GATEWISE_MODEL": "m", "GATEWISE_WORKERS": "x"},
            "gatewise: GATEWISE_WORKERS: input should be a valid integer",
        ),
        ({"GATEWISE_MODEL": "m", "GATEWISE_WORKER": "1"}, "gatewise: GATEWISE_WORKER: no such setting; did you mean"),
    ],
)
def test_a_start_that_cannot_succeed_stops_with_the_reason(
    environ: dict[str, str], message: str, tmp_path: Path
) -> None:
    process = start(tmp_path, free_port(), "service.app:GatewiseService", **environ)
    try:
        assert process.wait(60) == 1
    finally:
        stop(process)
    log = (tmp_path / "log").read_text()
    assert message in log
    assert "Traceback" not in log


MODELS = [
    ("series", "sequence", 1),
    ("series", "sequence", 3),
    ("series", "step", 2),
    ("text", "sequence", 0),
    ("text", "step", 0),
]


@pytest.mark.parametrize("model", MODELS)
def test_the_document_describes_what_is_sent_and_answered(
    model: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        predictor = FakePredictor(*model)
        predictor.page = b"<!DOCTYPE html><title>report</title>"
        predictor.manifest.abstaining = Abstaining(target_precision=0.95, threshold=0.9)
        predictor.manifest.label_sets = LabelSets(coverage=0.8, threshold=0.1)
        predictor.threshold = 0.1
        async with serving(monkeypatch, predictor) as client:
            document = (await client.get("/docs.json")).json()
            predict = document["paths"]["/predict"]["post"]
            request = predict["requestBody"]["content"]["application/json"]
            for extra in (
                {},
                {"probabilities": True},
                {"probabilities": False},
                {"probabilities": None},
                {"label_set": True},
                {"label_set": None},
            ):
                body = request["example"] | extra
                assert_fits(body, request["schema"], document)
                response = await client.post("/predict", json=body)
                assert response.status_code == 200
                assert_fits(response.json(), schema_of(predict, 200), document)
            for wrong in ({}, {"sequences": [7]}, {"sequences": [[]]}, [], {"sequences": [None], "x": 1}):
                with pytest.raises(AssertionError):
                    assert_fits(wrong, request["schema"], document)
                response = await client.post("/predict", json=wrong)
                assert response.status_code == 422
                assert_fits(response.json(), schema_of(predict, 422), document)
            infer = document["paths"]["/v2/models/fake/infer"]["post"]
            tensors = infer["requestBody"]["content"]["application/json"]
            for wrong in ({}, {"inputs": []}, {**tensors["example"], "x": 1}, {**tensors["example"], "id": 7}):
                with pytest.raises(AssertionError):
                    assert_fits(wrong, tensors["schema"], document)
                response = await client.post("/v2/models/fake/infer", json=wrong)
                assert response.status_code == 422
                assert_fits(response.json(), schema_of(infer, 422), document)
            for path in ("/v2/models/fake/infer", "/v2/models/fake/versions/v1/infer"):
                body = tensors["example"] | {"id": "seven"}
                assert_fits(body, tensors["schema"], document)
                response = await client.post(path, json=body)
                assert response.status_code == 200
                assert_fits(response.json(), schema_of(document["paths"][path]["post"], 200), document)
            for path, item in document["paths"].items():
                for method, operation in item.items():
                    for status, answer in operation["responses"].items():
                        for content in answer["content"].values():
                            if "example" in content and int(status) >= 400:
                                assert_fits(content["example"], content["schema"], document)
                    if method == "get":
                        response = await client.get(path)
                        assert response.status_code == 200
                        if "application/json" in operation["responses"]["200"]["content"]:
                            assert_fits(response.json(), schema_of(operation, 200), document)

    asyncio.run(check())


@pytest.mark.parametrize("model", MODELS)
def test_the_document_describes_feedback(
    model: tuple[str, str, int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def check() -> None:
        async with serving(monkeypatch, FakePredictor(*model)) as client:
            document = (await client.get("/docs.json")).json()
            feedback = document["paths"]["/feedback"]["post"]
            request = feedback["requestBody"]["content"]["application/json"]
            item = request["example"]["items"][0]
            for body in (request["example"], {"items": [item]}, {"items": [item], "source": None, "key": None}):
                assert_fits(body, request["schema"], document)
                response = await client.post("/feedback", json=body)
                assert response.status_code == 200, response.text
                assert_fits(response.json(), schema_of(feedback, 200), document)
            unlabelled = {"items": [{"sequence": item["sequence"]}]}
            for wrong in ({}, {"items": []}, unlabelled, {"items": [item], "x": 1}, {"items": [item], "key": "a b"}):
                with pytest.raises(AssertionError):
                    assert_fits(wrong, request["schema"], document)
                response = await client.post("/feedback", json=wrong)
                assert response.status_code == 422
                assert_fits(response.json(), schema_of(feedback, 422), document)
            again = await client.post("/feedback", json={**request["example"], "source": "other"})
            assert again.status_code == 409
            assert_fits(again.json(), schema_of(feedback, 409), document)

    monkeypatch.setenv("BENTOML_HOME", str(tmp_path))
    asyncio.run(check())


def schema_of(operation: dict[str, Any], status: int) -> dict[str, Any]:
    schema: dict[str, Any] = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    return schema


_TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "number": (int, float), "integer": int}


def assert_fits(value: Any, schema: dict[str, Any], document: dict[str, Any]) -> None:
    """Hold a value to an OpenAPI 3.0 schema, as far as this document uses the language; an unknown word fails."""
    if "$ref" in schema:
        return assert_fits(value, document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]], document)
    words = {
        "type",
        "pattern",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "oneOf",
        "enum",
        "minimum",
        "maximum",
    }
    assert not set(schema) - words - {"minItems", "maxItems", "nullable", "description", "example"}
    if value is None and schema.get("nullable"):
        return None
    if "oneOf" in schema:
        fits = 0
        for choice in schema["oneOf"]:
            with contextlib.suppress(AssertionError):
                assert_fits(value, choice, document)
                fits += 1
        assert fits == 1
        return None
    if not schema:
        return None
    assert isinstance(value, _TYPES[schema["type"]])
    assert isinstance(value, bool) <= (schema["type"] == "boolean")
    assert value in schema.get("enum", [value])
    if isinstance(value, dict):
        assert set(schema.get("required", [])) <= set(value)
        rest = schema.get("additionalProperties", True)
        for name, inner in value.items():
            inner_schema = schema.get("properties", {}).get(name, rest)
            assert inner_schema is not False
            if isinstance(inner_schema, dict):
                assert_fits(inner, inner_schema, document)
    elif isinstance(value, list):
        assert schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        for inner in value:
            assert_fits(inner, schema["items"], document)
    elif isinstance(value, str):
        assert re.search(schema.get("pattern", ""), value)
    else:
        assert schema.get("minimum", value) <= value <= schema.get("maximum", value)
    return None


def test_bentomls_schema_names_the_route_and_its_fields(url: str) -> None:
    (route,) = httpx.get(f"{url}/schema.json").json()["routes"]
    assert (route["name"], route["route"]) == ("predict", "/predict")
    assert set(route["input"]["properties"]) == {"sequences", "probabilities", "label_set"}
    assert route["input"]["required"] == ["sequences"]
    assert json.dumps(route["output"]["properties"])
