"""The Open Inference Protocol: what is refused and in which words, and how tensors are read and answered."""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from gatewise.artifact import Abstaining
from gatewise.errors import GatewiseError
from service import app
from service import inference_protocol as protocol
from service.errors import BodyTooLarge, InvalidRequest, MalformedBody
from service.registry import LiveModel
from tests.unit.service.fakes import POISON, FakePredictor
from tests.unit.service.serving import serving

INFER = "/v2/models/fake/infer"
SERIES = {"name": "sequences", "datatype": "FP32", "shape": [1, 2, 2], "data": [1, 2, -1, -0.5]}
TEXTS = {"name": "sequences", "datatype": "BYTES", "shape": [2], "data": ["ab c", "d"]}
TOKENS = {"name": "sequences", "datatype": "BYTES", "shape": [2, 2], "data": ["ab", "c", "d", ""]}


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), 60))  # type: ignore[arg-type]


def lengths(*values: Any) -> dict[str, Any]:
    return {"name": "lengths", "datatype": "INT64", "shape": [len(values)], "data": list(values)}


def read(
    body: object, *model: Any, tail: bytes = b"", max_sequences: int = 5, head_size: int | None = None
) -> protocol.InferRequest:
    """Read a request for the fake model; with a tail, by the binary extension."""
    head = body if isinstance(body, bytes) else orjson.dumps(body)
    live = LiveModel(FakePredictor(*model), 100)  # type: ignore[arg-type]
    address = protocol.resolve(INFER)
    assert address is not None
    size = len(head) if tail and head_size is None else head_size
    return protocol.read(head + tail, live, max_sequences, address=address, head_size=size)


def ask(tensor: dict[str, Any], *others: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"inputs": [tensor, *others], **fields}


def binary(tensor: dict[str, Any], size: object, **fields: Any) -> dict[str, Any]:
    rest = {name: value for name, value in tensor.items() if name != "data"}
    return {**rest, **fields, "parameters": {"binary_data_size": size}}


def packed(*strings: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(string)) + string for string in strings)


def refused(body: object, *model: Any, **how: Any) -> tuple[list[str | int], str]:
    """The place and the message of a request that is refused."""
    with pytest.raises(InvalidRequest) as raised:
        read(body, *model, **how)
    [detail] = raised.value.details
    assert raised.value.message.endswith(detail["message"])
    return detail["loc"], detail["message"]


@pytest.mark.parametrize(
    ("body", "loc", "message"),
    [
        ([], [], "expected an object"),
        ({}, ["inputs"], "expected a list of tensors"),
        ({"inputs": []}, ["inputs"], "expected a list of tensors"),
        ({"inputs": [7]}, ["inputs", 0], "expected an object"),
        (ask(SERIES, x=1), ["x"], "not known here; known are id, parameters, inputs, outputs"),
        (ask(SERIES, id=7), ["id"], "expected a string"),
        (ask(SERIES, parameters=[]), ["parameters"], "expected an object"),
        (ask(SERIES, parameters={"sequence_id": 1}), ["parameters", "sequence_id"], "not known here"),
        (ask(SERIES, parameters={"content_type": "pd"}), ["parameters", "content_type"], "expected np or str"),
        (
            ask(SERIES, parameters={"binary_data_output": 1}),
            ["parameters", "binary_data_output"],
            "expected true or false",
        ),
        (ask({**SERIES, "x": 1}), ["inputs", 0, "x"], "not known here"),
        (ask({**SERIES, "name": "input"}), ["inputs", 0, "name"], "no such tensor; known are sequences, lengths"),
        (ask({**SERIES, "name": []}), ["inputs", 0, "name"], "no such tensor"),
        (ask(SERIES, SERIES), ["inputs", 1, "name"], "sequences is there twice"),
        (ask(lengths(2)), ["inputs"], "expected an input called sequences"),
        (ask({**SERIES, "parameters": {"x": 1}}), ["inputs", 0, "parameters", "x"], "not known here"),
        (ask({**SERIES, "datatype": "FP64"}), ["inputs", 0, "datatype"], "expected FP32 for sequences"),
        (ask({**SERIES, "datatype": None}), ["inputs", 0, "datatype"], "expected FP32 for sequences"),
        (ask({**SERIES, "shape": "1"}), ["inputs", 0, "shape"], "expected a list of sizes"),
        (ask({**SERIES, "shape": [1, 2, True]}), ["inputs", 0, "shape"], "expected a list of sizes"),
        (ask({**SERIES, "shape": [1, -2, 2]}), ["inputs", 0, "shape"], "expected a list of sizes"),
        (ask({**SERIES, "shape": [1, 2.0, 2]}), ["inputs", 0, "shape"], "expected a list of sizes"),
        (ask({**SERIES, "shape": []}), ["inputs", 0, "shape"], "expected [-1, -1, 2] for sequences, got []"),
        (ask({**SERIES, "shape": [2, 2]}), ["inputs", 0, "shape"], "expected [-1, -1, 2] for sequences, got [2, 2]"),
        (ask({**SERIES, "shape": [1, 4, 1]}), ["inputs", 0, "shape"], "expected [-1, -1, 2] for sequences"),
        (ask({**SERIES, "shape": [0, 2, 2]}), ["inputs", 0, "shape"], "has 0 sequences, and this service takes 1 to 5"),
        (ask({**SERIES, "shape": [6, 2, 2]}), ["inputs", 0, "shape"], "has 6 sequences, and this service takes 1 to 5"),
        (ask({**SERIES, "shape": [1, 3, 2]}), ["inputs", 0, "data"], "has 4 values, and its shape needs 6"),
        (ask({**SERIES, "shape": [1, 2**62, 2]}), ["inputs", 0, "data"], "has 4 values, and its shape needs 9223"),
        (ask({**SERIES, "data": None}), ["inputs", 0, "data"], "expected a list of values"),
        (ask({**SERIES, "data": []}), ["inputs", 0, "data"], "has 0 values, and its shape needs 4"),
        (ask({**SERIES, "data": [[1, 2], [3, 4]]}), ["inputs", 0, "data"], "is not nested as shape [1, 2, 2] is"),
        (ask({**SERIES, "data": [[[1, 2], [3]]]}), ["inputs", 0, "data"], "is not nested as shape [1, 2, 2] is"),
        (ask({**SERIES, "data": [[[1, 2], 3]]}), ["inputs", 0, "data"], "is not nested as shape [1, 2, 2] is"),
        (ask({**SERIES, "data": [[[1, 2], [3, [4]]]]}), ["inputs", 0, "data"], "value 3 is not a number"),
        (ask({**SERIES, "data": [1, 2, 3, True]}), ["inputs", 0, "data"], "value 3 is not a number"),
        (ask({**SERIES, "data": [1, "2", 3, 4]}), ["inputs", 0, "data"], "value 1 is not a number"),
        (ask(SERIES, lengths(1, 2)), ["inputs", 1], "expected 1 lengths, one for each sequence, got 2"),
        (ask(SERIES, lengths(0)), ["inputs", 1], "length 0 is 0, and the sequences have 1 to 2 timesteps"),
        (ask(SERIES, lengths(3)), ["inputs", 1], "length 0 is 3, and the sequences have 1 to 2 timesteps"),
        (ask(SERIES, lengths(1.0)), ["inputs", 1, "data"], "value 0 is not an integer"),
        (ask(SERIES, {**lengths(1), "shape": [1, 1]}), ["inputs", 1, "shape"], "expected [-1] for lengths"),
        (ask(SERIES, outputs={}), ["outputs"], "expected a list of tensors"),
        (
            ask(SERIES, outputs=[{"name": "labels"}]),
            ["outputs", 0, "name"],
            "no such tensor; known are label, confidence, probabilities",
        ),
        (ask(SERIES, outputs=[{"name": "label"}] * 2), ["outputs", 1, "name"], "label is there twice"),
        (ask(SERIES, outputs=[{"name": "label", "data": []}]), ["outputs", 0, "data"], "not known here"),
        (
            ask(SERIES, outputs=[{"name": "label", "parameters": {"classification": 2}}]),
            ["outputs", 0, "parameters", "classification"],
            "not known here",
        ),
        (
            ask(SERIES, outputs=[{"name": "label", "parameters": {"binary_data": "yes"}}]),
            ["outputs", 0, "parameters", "binary_data"],
            "expected true or false",
        ),
        (
            ask(binary(SERIES, 16)),
            ["inputs", 0, "parameters", "binary_data_size"],
            "needs the header Inference-Header-Content-Length",
        ),
    ],
)
def test_what_is_wrong_in_a_request_is_named_with_its_place(body: object, loc: list[str | int], message: str) -> None:
    found = refused(body)
    assert found[0] == loc
    assert found[1].startswith(message)


@pytest.mark.parametrize(
    ("tensor", "tail", "message"),
    [
        (binary(SERIES, 12), bytes(12), "has 12 bytes, and its shape needs 16"),
        (binary(SERIES, 16), bytes(17), "binary_data_size sums to 16 bytes, and 17 follow the JSON"),
        (binary(SERIES, 16), bytes(15), "binary_data_size sums to 16 bytes, and 15 follow the JSON"),
        (SERIES, bytes(16), "binary_data_size sums to 0 bytes, and 16 follow the JSON"),
        (binary(SERIES, -16), bytes(16), "expected a number of bytes"),
        (binary(SERIES, 16.0), bytes(16), "expected a number of bytes"),
        (binary(SERIES, True), bytes(1), "expected a number of bytes"),
        ({**SERIES, **binary(SERIES, 16), "data": [1]}, bytes(16), "has data as well; send one of the two"),
        (binary(SERIES, 16, shape=[1, 2**61, 2]), bytes(16), "has 16 bytes, and its shape needs 18446744073709551616"),
    ],
)
def test_bytes_that_do_not_fit_the_tensor_are_refused(tensor: dict[str, Any], tail: bytes, message: str) -> None:
    assert refused(ask(tensor), tail=tail)[1].startswith(message)


@pytest.mark.parametrize(
    ("tail", "message"),
    [
        (packed(b"a"), "ends within value 1, and its shape needs 2"),
        (packed(b"a") + b"\x01\x00", "ends within value 1, and its shape needs 2"),
        (packed(b"a") + b"\xff\xff\xff\xffb", "ends within value 1, and its shape needs 2"),
        (packed(b"a", b"b", b"c"), "has 5 bytes more than its 2 values"),
        (packed(b"a", b"\xff"), "value 1 is not UTF-8"),
        (packed(b"a", b"\xed\xa0\x80"), "value 1 is not UTF-8"),
    ],
)
def test_strings_that_do_not_fit_their_bytes_are_refused(tail: bytes, message: str) -> None:
    assert refused(ask(binary(TEXTS, len(tail))), "text", tail=tail) == (["inputs", 0], message)


def test_a_text_model_takes_strings_alone() -> None:
    assert refused(ask({**TEXTS, "data": ["a", 1]}), "text") == (["inputs", 0, "data"], "value 1 is not a string")
    assert refused(ask({**TEXTS, "shape": [1, 2]}), "text")[1].startswith("expected [-1] or [-1, 1] for sequences")
    assert refused(ask(SERIES), "text") == (["inputs", 0, "datatype"], "expected BYTES for sequences")
    assert refused(ask(TEXTS, lengths(1, 1)), "text")[1] == "no such tensor; known are sequences"


@pytest.mark.parametrize(
    ("body", "how", "message"),
    [
        (b"{", {}, "the body is not JSON at line 1, column 2"),
        (b"", {}, 'the body is empty; send {"inputs": '),
        (b'{"inputs": [NaN]}', {}, "a missing reading is null"),
        (b"{}", {"head_size": 3}, "Inference-Header-Content-Length is 3, and the body has 2 bytes"),
        (b"{}xxx", {"head_size": 3}, "the body is not JSON"),
    ],
)
def test_a_body_that_is_no_json_is_refused(body: bytes, how: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedBody) as raised:
        read(body, **how)
    assert message in raised.value.message


@pytest.mark.parametrize("value", [b"", b"-1", b"1.0", b"9" * 5000, b"\xb2"])
def test_a_header_without_a_length_is_refused(value: bytes) -> None:
    with pytest.raises(MalformedBody, match="expected a number of bytes"):
        protocol.head_size([(b"inference-header-content-length", value)])


def items(request: protocol.InferRequest) -> list[Any]:
    return [one.tolist() if isinstance(one, np.ndarray) else one for one in request.sequences]


def test_values_are_the_same_flat_nested_and_as_bytes() -> None:
    expected = [[[1.0, 2.0], [-1.0, -0.5]]]
    assert items(read(ask(SERIES))) == expected
    assert items(read(ask({**SERIES, "data": expected}))) == expected
    tail = np.array(SERIES["data"], "<f4").tobytes()
    assert items(read(ask(binary(SERIES, 16)), tail=tail)) == expected
    assert items(read(ask(TEXTS), "text")) == ["ab c", "d"]
    assert items(read(ask({**TEXTS, "shape": [2, 1], "data": [["ab c"], ["d"]]}), "text")) == ["ab c", "d"]
    tail = packed(b"ab c", b"d")
    assert items(read(ask(binary(TEXTS, len(tail))), "text", tail=tail)) == ["ab c", "d"]


def test_lengths_cut_the_filling_off_in_json_and_in_bytes() -> None:
    two = {**SERIES, "shape": [2, 2, 2], "data": [1, 2, 3, 4, 5, 6, 0, 0]}
    assert items(read(ask(two, lengths(2, 1)))) == [[[1, 2], [3, 4]], [[5, 6]]]
    assert items(read(ask(lengths(1, 2), two))) == [[[1, 2]], [[5, 6], [0, 0]]]
    tail = np.array([2, 1], "<i8").tobytes() + np.arange(8, dtype="<f4").tobytes()
    asked = ask(binary(lengths(2, 1), 16), binary(two, 32))
    assert items(read(asked, tail=tail)) == [[[0, 1], [2, 3]], [[4, 5]]]


def test_a_model_of_steps_takes_tokens_with_their_lengths_or_texts() -> None:
    assert items(read(ask(TOKENS, lengths(2, 1)), "text", "step")) == [["ab", "c"], ["d"]]
    assert items(read(ask(TEXTS), "text", "step")) == [["ab", "c"], ["d"]]
    assert refused(ask(TEXTS, lengths(2, 1)), "text", "step")[1].startswith("goes with tokens")


def test_texts_whose_answer_would_be_nearly_all_filling_are_refused() -> None:
    texts = {**TEXTS, "shape": [1001], "data": ["a " * 2000] + ["a"] * 1000}
    with pytest.raises(BodyTooLarge, match="as long as the longest all together have 2002000 tokens"):
        read(ask(texts), "text", "step", max_sequences=2000)


def test_codecs_of_mlserver_and_nulls_for_what_is_left_out_are_taken() -> None:
    tensor = {**SERIES, "parameters": {"content_type": "np"}}
    body = ask(tensor, id=None, parameters={"content_type": "np"}, outputs=None)
    assert items(read(body)) == items(read(ask(SERIES)))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/v2/models/m", (protocol.MODEL, "m", None)),
        ("/v2/models/m/ready", (protocol.MODEL_READY, "m", None)),
        ("/v2/models/m/infer", (protocol.INFER, "m", None)),
        ("/v2/models/m/versions/1", (protocol.MODEL, "m", "1")),
        ("/v2/models/m/versions/1/ready", (protocol.MODEL_READY, "m", "1")),
        ("/v2/models/m/versions/1/infer", (protocol.INFER, "m", "1")),
        ("/v2/models/", None),
        ("/v2/models/m/", None),
        ("/v2/models/m/versions", None),
        ("/v2/models/m/explain", None),
        ("/v2/models/m/infer\n", None),
    ],
)
def test_a_path_says_which_model_and_what_of_it(path: str, found: object) -> None:
    assert protocol.resolve(path) == found


def sigmoid(x: float) -> np.float32:
    return np.float32(1 / (1 + math.exp(-x)))


def tensors_of(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    return {
        tensor["name"]: (tensor["datatype"], tensor["shape"], tensor["data"]) for tensor in response.json()["outputs"]
    }


def test_a_sequence_model_answers_label_confidence_and_probabilities(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            response = await client.post(INFER, json=ask(SERIES, id="seven"))
        answer = response.json()
        assert (answer["model_name"], answer["model_version"], answer["id"]) == ("fake", "v1", "seven")
        found = tensors_of(response)
        assert list(found) == ["label", "confidence", "probabilities"]
        assert found["label"] == ("BYTES", [1], ["high"])
        assert found["confidence"][:2] == ("FP32", [1])
        assert np.float32(found["confidence"][2][0]) == sigmoid(1.5)
        assert found["probabilities"][:2] == ("FP32", [1, 2])
        assert found["probabilities"][2] == pytest.approx([float(sigmoid(-1.5)), float(sigmoid(1.5))], abs=1e-7)

    run(test)


def test_a_model_of_steps_fills_up_shorter_answers_and_says_their_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        predictor = FakePredictor("text", "step")
        predictor.manifest.abstaining = Abstaining(target_precision=0.95, threshold=0.8)
        async with serving(monkeypatch, predictor) as client:
            found = tensors_of(await client.post(INFER, json=ask(TOKENS, lengths(2, 1))))
        assert found["labels"] == ("BYTES", [2, 2], ["high", "high", "high", ""])
        assert found["tokens"] == ("BYTES", [2, 2], ["ab", "c", "d", ""])
        assert found["lengths"] == ("INT64", [2], [2, 1])
        assert found["abstained"] == ("BOOL", [2, 2], [False, True, True, False])
        assert found["probabilities"][:2] == ("FP32", [2, 2, 2])
        expected = [sigmoid(2), sigmoid(1), sigmoid(1), 0]
        assert [np.float32(value) for value in found["confidences"][2]] == expected
        assert found["probabilities"][2][1::2] == found["confidences"][2]

    run(test)


def test_outputs_come_as_asked_in_json_and_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [{"name": "confidence", "parameters": {"binary_data": True}}, {"name": "label"}]

    async def test() -> None:
        async with serving(monkeypatch) as client:
            some = await client.post(INFER, json=ask(SERIES, outputs=outputs))
            all_binary = await client.post(INFER, json=ask(SERIES, parameters={"binary_data_output": True}))
            all_but_one = ask(
                SERIES,
                parameters={"binary_data_output": True},
                outputs=[{"name": "label", "parameters": {"binary_data": False}}],
            )
            plain = await client.post(INFER, json=all_but_one)
        assert some.headers["content-type"] == "application/octet-stream"
        size = int(some.headers["inference-header-content-length"])
        confidence, label = orjson.loads(some.content[:size])["outputs"]
        assert confidence["parameters"] == {"binary_data_size": 4}
        assert "data" not in confidence
        assert label["data"] == ["high"]
        assert some.content[size:] == np.float32(sigmoid(1.5)).tobytes()
        size = int(all_binary.headers["inference-header-content-length"])
        assert all_binary.content[size:].startswith(packed(b"high") + np.float32(sigmoid(1.5)).tobytes())
        assert tensors_of(plain) == {"label": ("BYTES", [1], ["high"])}
        assert "inference-header-content-length" not in plain.headers

    run(test)


def test_the_routes_say_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            for path in ("/v2/health/live", "/v2/health/ready", "/v2", "/v2/models/fake/ready"):
                assert (await client.get(path)).status_code == 200
            assert "binary_tensor_data" in (await client.get("/v2")).json()["extensions"]
            described = (await client.get("/v2/models/fake/versions/v1")).json()
            assert described == (await client.get("/v2/models/fake")).json()
            assert (described["name"], described["versions"]) == ("fake", ["v1"])
            assert described["inputs"][0] == {"name": "sequences", "datatype": "FP32", "shape": [-1, -1, 2]}
            for path in ("/v2/models/other", "/v2/models/fake/versions/v2/ready", "/v2/models/fake/versions/v2"):
                response = await client.get(path)
                assert (response.status_code, response.json()["code"]) == (404, "model_not_found")
            posted = await client.post("/v2/models/fake/versions/v2/infer", json=ask(SERIES))
            assert (posted.status_code, posted.json()["error"]) == (404, "version 'v2' of fake is not live; v1 is")
            for method, path in (("GET", INFER), ("POST", "/v2/models/fake"), ("POST", "/v2")):
                response = await client.request(method, path)
                assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
            assert (await client.get("/v2/models/fake/nothing")).json()["code"] == "not_found"
            app.runtime.registry.switch(None)
            for path in ("/v2/health/ready", "/v2/models/fake/ready", "/v2/models/fake"):
                assert (await client.get(path)).status_code == 503
            assert (await client.post(INFER, json=ask(SERIES))).status_code == 503
            monkeypatch.setattr(type(app.runtime), "is_alive", False)
            assert (await client.get("/v2/health/live")).status_code == 503

    run(test)


def test_every_limit_of_predict_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def statuses(bodies: Sequence[object], **settings: object) -> list[tuple[int, str]]:
        async with serving(monkeypatch, **settings) as client:  # type: ignore[arg-type]
            found = [await client.post(INFER, content=orjson.dumps(body)) for body in bodies]
        return [(one.status_code, one.json().get("code", "")) for one in found]

    async def test() -> None:
        ten = ask({**SERIES, "shape": [1, 10, 2], "data": [0] * 20})
        three = ask({**SERIES, "shape": [3, 1, 2], "data": [0] * 6})
        assert await statuses([ten, three], max_timesteps=9, max_sequences=2) == [
            (422, "invalid_sequence"),
            (422, "invalid_request"),
        ]
        assert await statuses([ten], queue_steps=9, max_timesteps=10) == [(413, "body_too_large")]
        large = ask({**SERIES, "data": [0] * 2000})
        assert await statuses([large], max_body_bytes=1024, queue_steps=100) == [(413, "body_too_large")]
        assert await statuses([large], max_body_bytes=9999, max_pending_bytes=1024) == [(429, "queue_full")]
        poison = ask({**SERIES, "data": [POISON] * 4})
        assert await statuses([poison], max_pending_bytes=9999) == [(500, "internal")]

    run(test)


def test_a_full_queue_and_a_late_answer_are_told_as_of_predict(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        predictor = FakePredictor()
        async with serving(monkeypatch, predictor, queue_steps=2, timeout_seconds=0.5) as client:
            predictor.free.clear()
            running = asyncio.create_task(client.post("/predict", json={"sequences": [[[0, 0]]]}))
            await asyncio.to_thread(predictor.started.wait, 10)
            late = asyncio.create_task(client.post(INFER, json=ask(SERIES)))
            while app.runtime._queue().queued_steps < 2:
                await asyncio.sleep(0.01)
            refused = await client.post(INFER, json=ask(SERIES))
            assert ((await late).status_code, (await running).status_code) == (504, 504)
            predictor.free.set()
        assert (refused.status_code, refused.json()["code"]) == (429, "queue_full")
        assert int(refused.headers["retry-after"]) >= 1

    run(test)


def test_requests_and_predictions_are_counted_by_the_route(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            for path in (INFER, "/v2/models/fake/versions/v1/infer", "/v2/models/a/infer", "/v2/models/b/infer"):
                await client.post(path, json=ask(SERIES))
            lines = (await client.get("/metrics")).text.splitlines()
        route = 'gatewise_http_requests_total{route="/v2/models/{name}/infer"'
        assert sorted(line for line in lines if line.startswith(route)) == [
            f'{route},status="200"}} 2.0',
            f'{route},status="404"}} 2.0',
        ]
        assert 'gatewise_predictions_total{label="high"} 2.0' in lines

    run(test)


def test_media_types_are_those_of_the_route(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            found = {}
            for media_type in (
                "application/json; charset=utf-8",
                "application/octet-stream",
                "application/x-npy",
                "text/plain",
            ):
                for path, body in ((INFER, ask(SERIES)), ("/predict", {"sequences": [[[1, 2]]]})):
                    headers = {"content-type": media_type}
                    response = await client.post(path, content=orjson.dumps(body), headers=headers)
                    found[media_type.partition(";")[0], path] = response.status_code
        assert found == {
            ("application/json", INFER): 200,
            ("application/json", "/predict"): 200,
            ("application/octet-stream", INFER): 200,
            ("application/octet-stream", "/predict"): 415,
            ("application/x-npy", INFER): 415,
            ("application/x-npy", "/predict"): 400,
            ("text/plain", INFER): 415,
            ("text/plain", "/predict"): 415,
        }

    run(test)


def test_a_model_that_changes_while_the_body_arrives_is_not_taken_for_the_one_asked_for() -> None:
    address = protocol.resolve("/v2/models/fake/versions/v1/infer")
    assert address is not None
    later = LiveModel(FakePredictor(version="v2"), 100)  # type: ignore[arg-type]
    with pytest.raises(GatewiseError, match="version 'v1' of fake is not live; v2 is"):
        protocol.read(orjson.dumps(ask(SERIES)), later, 5, address=address, head_size=None)
