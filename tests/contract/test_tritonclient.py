"""The Open Inference Protocol as its clients speak it: tritonclient, and any body at all, against real models."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tritonclient.utils import InferenceServerException

from tests.artifacts import Made, make_series, make_text
from tests.live import PATIENCE, Server, serve

pytest.importorskip("training.onnx_graph", reason="the training extra is not installed")


class Served(NamedTuple):
    """A real model behind a real server."""

    server: Server
    made: Made
    http: httpx.Client

    @property
    def version(self) -> str:
        return self.made.manifest.digest[:12]

    def predict(self, items: list[Any], **fields: Any) -> list[dict[str, Any]]:
        """What `POST /predict` says."""
        body = {"sequences": items, **fields}
        predictions: list[dict[str, Any]] = self.http.post("/predict", json=body).json()["predictions"]
        return predictions

    def infer(self, body: bytes, **headers: str) -> httpx.Response:
        return self.http.post("/v2/models/tiny/infer", content=body, headers=headers)


@contextlib.contextmanager
def served(tmp: Path, made: Made) -> Iterator[Served]:
    with serve(tmp, made.folder) as server, httpx.Client(base_url=server.url, timeout=PATIENCE) as http:
        yield Served(server, made, http)


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tmp = tmp_path_factory.mktemp("series")
    with served(tmp, make_series(tmp / "artifact")) as running:
        yield running


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tmp = tmp_path_factory.mktemp("texts")
    with served(tmp, make_text(tmp / "artifact")) as running:
        yield running


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    tmp = tmp_path_factory.mktemp("tokens")
    with served(tmp, make_text(tmp / "artifact", head="chain")) as running:
        yield running


@pytest.fixture(params=["json", "binary"])
def is_binary(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "binary")


def client_of(model: Served) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(f"127.0.0.1:{model.server.port}", network_timeout=60)


def tensor(name: str, array: np.ndarray, is_binary: bool) -> triton.InferInput:
    datatype = {"f": "FP32", "i": "INT64", "O": "BYTES"}[array.dtype.kind]
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=is_binary)
    return made


def wanted(is_binary: bool, *names: str) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput(name, binary_data=is_binary) for name in names]


def as_text(array: np.ndarray) -> Any:
    """Strings, which tritonclient gives as bytes where they came as bytes."""
    return [one.decode() if isinstance(one, bytes) else one for one in array.ravel()]


def assert_equal_bits(found: np.ndarray, expected: Any) -> None:
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array(expected, dtype=np.float32))


def padded(items: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Readings (N, T, C) and lengths (N,); what fills up is NaN, which nothing may read."""
    lengths = np.array([len(item) for item in items])
    array = np.full((len(items), lengths.max(), 2), np.nan, dtype=np.float32)
    for row, item in zip(array, items, strict=True):
        row[: len(item)] = np.array(item, dtype=np.float32)
    return array, lengths


def test_tritonclient_finds_server_and_model(series: Served) -> None:
    with client_of(series) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("tiny")
        assert client.is_model_ready("tiny", series.version)
        assert not client.is_model_ready("tiny", "other")
        assert not client.is_model_ready("other")
        assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
        described = client.get_model_metadata("tiny", series.version)
        with pytest.raises(InferenceServerException, match=f"version 'other' of tiny is not live; {series.version} is"):
            client.get_model_metadata("tiny", "other")
    assert (described["name"], described["versions"]) == ("tiny", [series.version])
    assert described["inputs"] == [
        {"name": "sequences", "datatype": "FP32", "shape": [-1, -1, 2]},
        {"name": "lengths", "datatype": "INT64", "shape": [-1]},
    ]
    assert described["outputs"][-1] == {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}


def test_tritonclient_classifies_one_series(series: Served, is_binary: bool) -> None:
    readings = np.random.default_rng(1).normal(size=(1, 9, 2)).astype(np.float32)
    with client_of(series) as client:
        answer = client.infer("tiny", [tensor("sequences", readings, is_binary)], request_id="seven")
    [expected] = series.predict(readings.tolist())
    assert answer.get_response()["id"] == "seven"
    assert answer.get_response()["model_version"] == series.version
    assert as_text(answer.as_numpy("label")) == [expected["label"]]
    assert_equal_bits(answer.as_numpy("confidence"), [expected["confidence"]])
    assert_equal_bits(answer.as_numpy("probabilities"), [list(expected["probabilities"].values())])


def test_tritonclient_classifies_series_of_unequal_length_with_missing_readings(series: Served) -> None:
    items = series.made.items
    readings, lengths = padded(items)
    inputs = [tensor("sequences", readings, True), tensor("lengths", lengths, True)]
    outputs = wanted(False, "label") + wanted(True, "probabilities")
    with client_of(series) as client:
        answer = client.infer("tiny", inputs, model_version=series.version, outputs=outputs)
    expected = series.predict(items)
    assert [output["name"] for output in answer.get_response()["outputs"]] == ["label", "probabilities"]
    assert as_text(answer.as_numpy("label")) == [one["label"] for one in expected]
    assert_equal_bits(answer.as_numpy("probabilities"), [list(one["probabilities"].values()) for one in expected])
    for item, found in zip(items, answer.as_numpy("probabilities"), strict=True):
        np.testing.assert_allclose(found, series.made.probabilities(item), atol=1e-5)


def test_tritonclient_classifies_texts(texts: Served, is_binary: bool) -> None:
    items = [*texts.made.items, "the cœur of the moon ☾", ""]
    for array in (np.array(items, dtype=object), np.array(items, dtype=object)[:, None]):
        with client_of(texts) as client:
            answer = client.infer(
                "tiny",
                [tensor("sequences", array, is_binary)],
                outputs=wanted(is_binary, "label", "confidence", "probabilities"),
            )
        expected = texts.predict(items)
        assert as_text(answer.as_numpy("label")) == [one["label"] for one in expected]
        assert_equal_bits(answer.as_numpy("confidence"), [one["confidence"] for one in expected])
        assert_equal_bits(answer.as_numpy("probabilities"), [list(one["probabilities"].values()) for one in expected])


def test_tritonclient_labels_tokens(tokens: Served, is_binary: bool) -> None:
    items = tokens.made.items
    lengths = np.array([len(item) for item in items])
    steps = int(lengths.max())
    array = np.array([[*item, *[""] * (steps - len(item))] for item in items], dtype=object)
    spoken = np.array([" ".join(item) for item in items], dtype=object)
    expected = tokens.predict(items, probabilities=True)
    with client_of(tokens) as client:
        by_tokens = [tensor("sequences", array, is_binary), tensor("lengths", lengths, is_binary)]
        for inputs in (by_tokens, [tensor("sequences", spoken, is_binary)]):
            answer = client.infer("tiny", inputs)
            assert answer.as_numpy("lengths").tolist() == lengths.tolist()
            assert as_text(answer.as_numpy("tokens")) == array.ravel().tolist()
            labels, confidences = answer.as_numpy("labels"), answer.as_numpy("confidences")
            for i, one in enumerate(expected):
                assert as_text(labels[i][: lengths[i]]) == one["labels"]
                assert_equal_bits(confidences[i][: lengths[i]], one["confidences"])
                probabilities = [list(step.values()) for step in one["probabilities"]]
                assert_equal_bits(answer.as_numpy("probabilities")[i][: lengths[i]], probabilities)


def test_tritonclient_is_told_what_is_wrong(texts: Served) -> None:
    with client_of(texts) as client:
        for array, message in (
            (np.zeros((1, 2, 2), np.float32), r"inputs\[0\]\.datatype: expected BYTES for sequences"),
            (np.array([["a", "b"]], dtype=object), r"expected \[-1\] or \[-1, 1\] for sequences, got \[1, 2\]"),
            (np.array([b"\xff"], dtype=object), r"inputs\[0\]: value 0 is not UTF-8"),
        ):
            with pytest.raises(InferenceServerException, match=message):
                client.infer("tiny", [tensor("sequences", array, True)])
        with pytest.raises(InferenceServerException, match=r"parameters\.priority: not known here"):
            client.infer("tiny", [tensor("sequences", np.array(["a"], dtype=object), True)], priority=1)


ODD: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
READINGS = st.floats(-3, 3, width=32) | st.sampled_from([float("nan"), float("inf"), 3e38])


def mostly(draw: st.DrawFn, usual: Any, odd: Any) -> Any:
    """Draw what is usual nine times of ten."""
    return draw(odd if draw(st.integers(0, 9)) == 9 else usual)


@st.composite
def tensors(draw: st.DrawFn, name: str, shape: list[int]) -> tuple[dict[str, Any], bytes]:
    """A tensor that may be right, and its bytes where these follow the JSON."""
    kind, datatype, numbers = ("<i8", "INT64", st.integers(0, 3))
    if name != "lengths":
        kind, datatype, numbers = ("<f4", "FP32", READINGS)
    shape = mostly(draw, st.just(shape), st.lists(st.integers(0, 3), max_size=4))
    size = int(np.prod(shape)) + mostly(draw, st.just(0), st.just(1))
    values = draw(st.lists(numbers, min_size=size, max_size=size))
    made: dict[str, Any] = {"name": name, "datatype": datatype, "shape": shape}
    tail = b""
    if draw(st.booleans()):
        tail = np.array(values, kind).tobytes()
        made["parameters"] = {"binary_data_size": len(tail)}
    else:
        made["data"] = [None if value != value else value for value in values]
    return _spoilt(draw, made), tail


@st.composite
def requests(draw: st.DrawFn) -> tuple[bytes, bytes, int | None]:
    """A request's JSON, what follows it, and the length that its header says."""
    count, steps = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    parts = [draw(tensors(mostly(draw, st.just("sequences"), st.just("x")), [count, steps, 2]))]
    if draw(st.booleans()):
        parts.insert(draw(st.integers(0, 1)), draw(tensors("lengths", [count])))
    body: Any = {"inputs": [one for one, _ in parts]}
    if draw(st.booleans()):
        body["outputs"] = [{"name": mostly(draw, st.sampled_from(["label", "probabilities"]), st.text(max_size=3))}]
    head = _json(mostly(draw, st.just(_spoilt(draw, body)), ODD))
    head = mostly(draw, st.just(head), st.binary(max_size=20))
    tail = b"".join(part for _, part in parts)
    size = len(head) if tail or draw(st.booleans()) else None
    return head, tail, mostly(draw, st.just(size), st.integers(0, len(head) + 3))


def _spoilt(draw: st.DrawFn, fields: dict[str, Any]) -> dict[str, Any]:
    """The same, or with anything at all in one place."""
    places = st.sampled_from([*fields, "id", "parameters", "x"])
    return mostly(draw, st.just(fields), places.flatmap(lambda name: ODD.map(lambda odd: {**fields, name: odd})))


def _json(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError:  # an integer beyond 64 bits, or a lone surrogate
        return repr(body).replace("'", '"').encode("utf-8", "replace")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(requests())
def test_any_body_gets_an_error_of_our_form_or_the_right_answer(
    series: Served, request: tuple[bytes, bytes, int | None]
) -> None:
    head, tail, size = request
    headers = {} if size is None else {"Inference-Header-Content-Length": str(size)}
    response = series.infer(head + tail, **headers)
    event(f"status {response.status_code}")
    if response.status_code != 200:
        assert 400 <= response.status_code < 500, response.text
        assert set(response.json()) == {"error", "code", "details"}
        return
    asked = orjson.loads(head)
    given = {one["name"]: one for one in asked["inputs"]}
    values, rest = {}, tail
    for one in asked["inputs"]:
        count = (one.get("parameters") or {}).get("binary_data_size")
        kind = "<i8" if one["name"] == "lengths" else "<f4"
        if count is None:
            values[one["name"]] = np.array(one["data"], dtype=np.float64).astype(kind)
        else:
            values[one["name"]], rest = np.frombuffer(rest[:count], kind), rest[count:]
    readings = values["sequences"].reshape(given["sequences"]["shape"])
    lengths = values.get("lengths", [readings.shape[1]] * len(readings))
    items = [
        [[None if np.isnan(v) else float(v) for v in step] for step in row[:length]]
        for row, length in zip(readings, lengths, strict=True)
    ]
    expected = series.predict(items)
    names = [one["name"] for one in asked.get("outputs") or [{"name": "label"}]]
    for output in response.json()["outputs"]:
        if output["name"] == "label" and "label" in names:
            assert output["data"] == [one["label"] for one in expected]
        if output["name"] == "probabilities":
            found = np.array(output["data"], dtype=np.float32).reshape(output["shape"])
            assert_equal_bits(found, [list(one["probabilities"].values()) for one in expected])
