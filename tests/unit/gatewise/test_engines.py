"""Both engines against the reference and each other, and how each refuses."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.artifact import Artifact
from gatewise.batch import collate
from gatewise.engines import Engine, OnnxEngine, open_engine
from gatewise.errors import ArtifactCorrupt, InvalidConfig, MissingDependency
from gatewise.torch_engine import TorchEngine
from tests.artifacts import CELLS, Made, config_of, expected_logits, inputs_of, weights_of
from training.onnx_graph import build

CONFIGS = [
    config_of(kind, cell, head, num_layers=2, bidirectional=True)
    for kind, head in (("text", "all"), ("series", "step"), ("series", "stem_branch"), ("text", "skip"))
    for cell in CELLS
]
PAIRS: list[tuple[Engine, Engine]] = [
    (OnnxEngine(build(config, weights_of(config))), TorchEngine(config, weights_of(config), "cpu"))
    for config in CONFIGS
]


@settings(deadline=None, max_examples=40)
@given(
    model=st.integers(0, len(CONFIGS) - 1),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=6),
    seed=st.integers(0, 1000),
)
def test_both_engines_give_every_batch_the_references_logits(model: int, lengths: list[int], seed: int) -> None:
    config = CONFIGS[model]
    sequences = [inputs_of(config, length, seed) for length in lengths]
    ours, theirs = (engine.run(collate(sequences)) for engine in PAIRS[model])
    assert ours.dtype == theirs.dtype == np.float32
    for row, other, sequence in zip(ours, theirs, sequences, strict=True):
        real = slice(len(sequence)) if config.task == "step" else slice(None)
        expected = expected_logits(config, weights_of(config), sequence)
        np.testing.assert_allclose(row[real], expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(other[real], expected, rtol=0, atol=1e-5)
        np.testing.assert_allclose(row[real], other[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("engine", [0, 1])
def test_running_a_batch_twice_gives_the_same_bytes_and_leaves_it_alone(engine: int) -> None:
    for config, pair in zip(CONFIGS, PAIRS, strict=True):
        batch = collate([inputs_of(config, length) for length in (3, 9)])
        before = batch.inputs.copy()
        assert pair[engine].run(batch).tobytes() == pair[engine].run(batch).tobytes()
        np.testing.assert_array_equal(batch.inputs, before)


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("auto", None, "onnx"),
        ("auto", "cpu", "onnx"),
        ("onnx", None, "onnx"),
        ("torch", None, "torch"),
        ("torch", "cpu", "torch"),
        ("auto", "meta", "torch"),
    ],
)
def test_the_engine_follows_from_name_and_device(
    name: str, device: str | None, expected: str, series_artifact: Made
) -> None:
    engine = open_engine(Artifact(series_artifact.folder), name, device)  # type: ignore[arg-type]
    assert (engine.name, engine.device) == (expected, device or "cpu")


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("onnx", "cuda", "device: the onnx engine runs on the CPU, not on 'cuda'; use engine torch"),
        ("tensorrt", None, "engine: 'tensorrt' is none of auto, onnx, torch"),
        ("torch", "abacus", "device: 'abacus' cannot be used"),
        ("torch", "cuda:99", "device: 'cuda:99' cannot be used"),
    ],
)
def test_a_combination_that_does_not_exist_is_named(
    name: str, device: str | None, message: str, series_artifact: Made
) -> None:
    with pytest.raises(InvalidConfig, match=message):
        open_engine(Artifact(series_artifact.folder), name, device)  # type: ignore[arg-type]


@pytest.mark.parametrize("graph", [b"", b"garbage", b"\x08\x09"])
def test_a_graph_that_is_none_is_corrupt(graph: bytes) -> None:
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx cannot be loaded"):
        OnnxEngine(graph)


def test_weights_of_another_network_are_corrupt() -> None:
    config = config_of("series", "lstm")
    weights = weights_of(config)
    renamed = {name.replace("output", "outputs"): array for name, array in weights.items()}
    reshaped = {**weights, "output.bias": np.zeros(7, dtype=np.float32)}
    missing = {name: array for name, array in weights.items() if name != "output.bias"}
    for wrong in (renamed, reshaped, missing, {}):
        with pytest.raises(ArtifactCorrupt, match="the weights do not fit the model"):
            TorchEngine(config, wrong, "cpu")


def test_without_torch_the_engine_names_what_to_install(series_artifact: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "gatewise.torch_engine")
    with pytest.raises(MissingDependency, match=r"pip install 'gatewise\[training\]'"):
        open_engine(Artifact(series_artifact.folder), "torch")
