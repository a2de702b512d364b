"""Series as one array in numpy's format, `application/x-npy`."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import numpy as np
import pytest

from tests.unit.service.fakes import FakePredictor
from tests.unit.service.serving import serving

NPY = {"content-type": "application/x-npy"}


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, np.asarray(array))
    return file.getvalue()


def post(monkeypatch: pytest.MonkeyPatch, body: bytes, predictor: FakePredictor | None = None, **settings: Any) -> Any:
    async def test() -> Any:
        async with serving(monkeypatch, predictor, **settings) as client:
            return await client.post("/predict", content=body, headers=NPY)

    return asyncio.run(asyncio.wait_for(test(), 60))


def test_an_array_is_answered_as_the_same_numbers_in_json_are(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.array([[[1, 2], [-1, -0.5]], [[-2, 0], [0.25, 3]]], dtype=np.float32)

    async def test() -> tuple[Any, Any]:
        async with serving(monkeypatch) as client:
            binary = await client.post("/predict", content=npy(array), headers=NPY)
            text = await client.post("/predict", json={"sequences": array.tolist()})
            return binary, text

    binary, text = asyncio.run(asyncio.wait_for(test(), 60))
    assert binary.status_code == text.status_code == 200
    assert len(binary.json()["predictions"]) == 2
    assert binary.json() == text.json()


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"", 400, "the body is not an array in numpy's format"),
        (b"\x93NUMPY\x07\x00", 400, "the body is not an array in numpy's format"),
        (npy(np.zeros((1, 2, 2), np.float32))[:-3], 400, "an array of shape (1, 2, 2) has 16 bytes, and 13 came"),
        (npy(np.zeros((1, 2, 2), np.float32)) + b"x", 400, "has 16 bytes, and 17 came"),
        (npy(np.zeros((1, 2, 2))), 422, "expected an array of float32 in C order, got float64"),
        (npy(np.asfortranarray(np.zeros((3, 2, 2), np.float32))), 422, "in Fortran order"),
        (npy(np.zeros(3, np.float32)), 422, "expected shape (sequences, timesteps, channels), got (3,)"),
        (npy(np.zeros((0, 2, 2), np.float32)), 422, "has 0 sequences"),
        (npy(np.zeros((6, 2, 2), np.float32)), 422, "has 6 sequences, and this service takes 1 to 5"),
        (npy(np.zeros((1, 2, 3), np.float32)), 422, "sequences[0]: expected shape (timesteps, 2), got (2, 3)"),
        (npy(np.zeros((1, 0, 2), np.float32)), 422, "sequences[0]: has no timesteps"),
        (npy(np.full((1, 2, 2), np.nan, np.float32)), 422, "a reading is missing"),
        # A header that promises more memory than there is must cost none.
        (npy(np.zeros((1, 2, 2), np.float32)).replace(b"(1, 2, 2), }    ", b"(9, 9**9, 9), }"), 400, "numpy's format"),
        (
            npy(np.zeros((1, 2, 2), np.float32)).replace(b"(1, 2, 2), }     ", b"(9, 99999, 99), }"),
            422,
            "has 9 sequences",
        ),
        (
            npy(np.zeros((1, 2, 2), np.float32)).replace(b"(1, 2, 2), }      ", b"(5, 999999, 99), }"),
            400,
            "and 16 came",
        ),
    ],
)
def test_a_wrong_array_is_named(monkeypatch: pytest.MonkeyPatch, body: bytes, status: int, message: str) -> None:
    response = post(monkeypatch, body, max_sequences=5)
    assert response.status_code == status
    assert message in response.json()["error"]


def test_objects_are_never_unpickled(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    np.save(file, np.array([[[{}]]], dtype=object), allow_pickle=True)
    response = post(monkeypatch, file.getvalue())
    assert response.status_code == 422
    assert "expected an array of float32 in C order, got object" in response.json()["error"]


def test_a_text_model_takes_no_array(monkeypatch: pytest.MonkeyPatch) -> None:
    response = post(monkeypatch, npy(np.zeros((1, 2, 2), np.float32)), FakePredictor("text"))
    assert response.status_code == 422
    assert "sequences[0]: expected a string" in response.json()["error"]
