"""A real artifact behind the real service, held to the numpy reference; and what the service may import."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from gatewise import reference
from gatewise.architecture import ModelConfig
from gatewise.artifact import Golden, Manifest, save
from gatewise.timeseries import TimeSeriesEncoderConfig
from service import app
from tests.artifacts import make_series, make_text
from tests.unit.service.serving import lifespan

onnx_graph = pytest.importorskip("training.onnx_graph", reason="the training extra is not installed")

ROOT = Path(__file__).resolve().parents[2]
MODEL = ModelConfig(kind="series", cell="gru", input_size=2, hidden_size=4, dense_sizes=(3,), num_classes=3)
LABELS = ("down", "flat", "up")


def make_weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    shapes = {
        "recurrent.0.left_to_right.weight_ih_l0": (12, 2),
        "recurrent.0.left_to_right.weight_hh_l0": (12, 4),
        "recurrent.0.left_to_right.bias_ih_l0": (12,),
        "recurrent.0.left_to_right.bias_hh_l0": (12,),
        "dense.0.weight": (3, 4),
        "dense.0.bias": (3,),
        "output.weight": (3, 3),
        "output.bias": (3,),
    }
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def reference_logits(weights: dict[str, np.ndarray], item: list[list[float]]) -> np.ndarray:
    # The encoder below has mean (1, 0) and scale (2, 1).
    readings = (np.array(item) - [1, 0]) / [2, 1]
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    logits: np.ndarray = reference.classify(MODEL, double, readings[None], np.array([len(item)]))[0]
    return logits


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    weights = make_weights()
    manifest = Manifest(
        gatewise_version="0.1.0",
        name="trends",
        created_at="2026-11-23T08:45:12+00:00",
        labels=LABELS,
        model=MODEL,
        encoder=TimeSeriesEncoderConfig(channels=("price", "volume"), mean=(1.0, 0.0), scale=(2.0, 1.0)),
        temperature=2.0,
        metrics={"test": {"accuracy": 0.75}},
    )
    item = [[0.5, 1.0], [1.5, -1.0]]
    golden = [Golden(item=item, logits=reference_logits(weights, item).tolist())]
    folder = tmp_path / "artifact"
    save(folder, manifest, weights=weights, onnx=onnx_graph.build(MODEL, weights), golden=golden)
    return folder


def test_the_service_answers_as_the_reference_computes(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(1)
    items = [random.normal(size=(length, 2)).round(3).tolist() for length in (1, 7, 2, 40, 7, 13)]
    weights = make_weights()

    async def ask() -> None:
        monkeypatch.setenv("GATEWISE_MODEL", str(artifact))
        asgi = app.GatewiseService.to_asgi()
        transport = httpx.ASGITransport(app=asgi)
        async with lifespan(asgi), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            card = (await client.get("/model")).json()
            together = await client.post("/predict", json={"sequences": items})
            alone = await asyncio.gather(*(client.post("/predict", json={"sequences": [item]}) for item in items))
        assert (card["name"], card["engine"], card["input"]["channels"]) == ("trends", "onnx", ["price", "volume"])
        assert card["metrics"] == {"test": {"accuracy": 0.75}}
        assert card["version"] == card["digest"][:12] == together.json()["model"]["version"]
        for item, prediction, single in zip(items, together.json()["predictions"], alone, strict=True):
            odds = np.exp(reference_logits(weights, item) / 2)  # the manifest's temperature
            expected = dict(zip(LABELS, odds / odds.sum(), strict=True))
            for one in (prediction, single.json()["predictions"][0]):
                assert one["probabilities"] == pytest.approx(expected, abs=1e-5)
                assert one["label"] == max(expected, key=expected.__getitem__)
                assert one["confidence"] == one["probabilities"][one["label"]]

    asyncio.run(ask())


@pytest.mark.parametrize("parts", ["chain", "wide", "convolved", "kernels"])
def test_the_service_answers_by_every_part_of_a_model(
    parts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if parts == "chain":
        made = make_text(tmp_path / "artifact", head="chain", ngram_buckets=40)
    elif parts == "wide":
        made = make_text(tmp_path / "artifact", max_length=4, wide_buckets=61, wide_order=3)
    elif parts == "kernels":
        made = make_series(tmp_path / "artifact", wide_dilations=(1, 3), wide_channels=2, wide_thresholds=2)
    else:
        convolutions = {"stem_stride": 3, "stem_channels": 6, "branch_channels": (6, 4), "branch_kernels": (5, 3)}
        made = make_series(tmp_path / "artifact", **convolutions)
    # Texts that differ beyond what the network keeps of them are in one batch, and each gets an answer of its own.
    items = [*made.items, *(["how far is the moon", "how far is the cat"] if parts == "wide" else made.items[:1])]

    async def ask() -> list[dict[str, Any]]:
        monkeypatch.setenv("GATEWISE_MODEL", str(made.folder))
        asgi = app.GatewiseService.to_asgi()
        transport = httpx.ASGITransport(app=asgi)
        async with lifespan(asgi), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            answer = (await client.post("/predict", json={"sequences": items})).json()
        predictions: list[dict[str, Any]] = answer["predictions"]
        return predictions

    for item, prediction in zip(items, asyncio.run(ask()), strict=True):
        expected, classes = made.probabilities(item), made.classes(item)
        if parts == "chain":
            assert prediction["labels"] == [LABELS[k] for k in classes]
            np.testing.assert_allclose(prediction["confidences"], expected[range(len(classes)), classes], atol=1e-5)
        else:
            assert prediction["label"] == LABELS[classes[0]]
            assert prediction["probabilities"] == pytest.approx(dict(zip(LABELS, expected, strict=True)), abs=1e-5)


def test_a_damaged_artifact_stops_the_start_by_its_file(artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWISE_MODEL", str(artifact))
    app.GatewiseService.inner.check()
    (artifact / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(SystemExit, match=r"gatewise: .*weights\.safetensors"):
        app.GatewiseService.inner.check()


def test_a_process_that_serves_by_onnx_runtime_loads_neither_torch_nor_training(artifact: Path) -> None:
    program = (
        "import sys\n"
        "from service.app import GatewiseService\n"
        "GatewiseService.inner.check()\n"
        "heavy = {'torch', 'pytorch_lightning', 'training', 'onnx', 'pandas', 'prometheus_client'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    environ = {
        "GATEWISE_MODEL": str(artifact),
        "BENTOML_HOME": str(artifact.parent / "home"),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
