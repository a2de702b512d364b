"""Training and serving on a CUDA device, against the CPU. Skipped where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import gatewise
from gatewise.cli import main
from gatewise.predictor import Predictor
from tests.artifacts import Made, make_series, make_text

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]


@pytest.fixture(params=["series lstm", "series gru", "text", "step", "convolved", "chain", "wide"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    if request.param.startswith("series"):
        return make_series(tmp_path / "model", cell=request.param.split()[1], bidirectional=True, num_layers=2)
    if request.param == "convolved":
        convolutions = {"stem_stride": 3, "stem_channels": 6, "branch_channels": (6, 4), "branch_kernels": (5, 3)}
        return make_series(tmp_path / "model", bidirectional=True, **convolutions)
    if request.param == "wide":
        return make_text(tmp_path / "model", max_length=4, wide_buckets=61, wide_order=3)
    return make_text(tmp_path / "model", head="all" if request.param == "text" else request.param)


def test_the_gpu_answers_as_the_reference_does(made: Made) -> None:
    predictor = Predictor.load(made.folder, engine="torch", device="cuda")
    assert predictor.engine.device.startswith("cuda")
    encoded = [predictor.encode(item) for item in made.items]
    together = predictor.logits([one.inputs for one in encoded])
    for item, one, logits in zip(made.items, encoded, together, strict=True):
        np.testing.assert_allclose(predictor.scores(one, logits), made.logits(item), rtol=0, atol=1e-4)
        alone = predictor.logits([predictor.encode(item).inputs])[0]
        np.testing.assert_allclose(logits, alone, rtol=0, atol=1e-4)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "16-mixed"])
def test_a_job_on_the_gpu_makes_a_model_that_the_cpu_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "store"))
    rng = np.random.default_rng(0)
    rows = [
        {"series": (rng.normal(size=(int(n), 2)) + 2 * (i % 2)).round(3).tolist(), "label": "high" if i % 2 else "low"}
        for i, n in enumerate(rng.integers(5, 20, size=120))
    ]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ["--name", "gpu", "--epochs", "8", "--accelerator", "gpu", "--devices", "1", "--precision", precision]
    ran = CliRunner().invoke(main, ["train", str(data), *flags, "--run-dir", str(tmp_path / "runs")])
    assert ran.exit_code == 0, ran.output
    on_cpu = gatewise.load("gpu")
    on_gpu = gatewise.load("gpu", engine="torch", device="cuda")
    assert on_cpu.manifest.metrics["test"]["accuracy"] > 0.9
    items = [row["series"] for row in rows[:20]]
    for mine, other in zip(on_cpu.predict(items), on_gpu.predict(items), strict=True):
        assert mine.label == other.label  # type: ignore[union-attr]
        assert mine.confidence == pytest.approx(other.confidence, abs=1e-4)  # type: ignore[union-attr]
