"""The ONNX graph against the numpy reference and the torch network, at many lengths."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from gatewise.batch import collate
from gatewise.engines import OnnxEngine
from gatewise.torch_engine import TorchEngine
from tests.artifacts import (
    CELLS,
    HEADS,
    PER_STEP,
    classifier_weights,
    config_of,
    expected_logits,
    inputs_of,
    weights_of,
)
from training.onnx_graph import build

LENGTHS = (17, 1, 200, 3, 64, 2)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("kind", ["text", "series"])
@pytest.mark.parametrize("head", ["last", "all", "step", "stem_branch", "skip"])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_the_graph_answers_as_torch_does(kind: str, head: str, num_layers: int, bidirectional: bool, cell: str) -> None:
    config = config_of(kind, cell, head, num_layers=num_layers, bidirectional=bidirectional)
    weights = weights_of(config)
    graph, network = OnnxEngine(build(config, weights)), TorchEngine(config, weights, "cpu")
    sequences = [inputs_of(config, length) for length in LENGTHS]
    batch = collate(sequences)
    together, theirs = graph.run(batch), network.run(batch)
    for i, (sequence, length) in enumerate(zip(sequences, LENGTHS, strict=True)):
        real = slice(length) if head in PER_STEP else slice(None)
        alone = graph.run(collate([sequence]))[0]
        np.testing.assert_allclose(together[i][real], theirs[i][real], rtol=0, atol=1e-5)
        np.testing.assert_allclose(alone, theirs[i][real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["text", "series"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
def test_the_graph_answers_as_the_reference_computes(kind: str, head: str, cell: str) -> None:
    config = config_of(kind, cell, head, bidirectional=True)
    weights = weights_of(config, seed=1)
    sequences = [inputs_of(config, length, seed=1) for length in LENGTHS]
    logits = OnnxEngine(build(config, weights)).run(collate(sequences))
    for row, sequence in zip(logits, sequences, strict=True):
        real = row[: len(sequence)] if head in PER_STEP else row
        np.testing.assert_allclose(real, expected_logits(config, weights, sequence), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("head", HEADS)
def test_padding_past_the_longest_sequence_changes_nothing(cell: str, head: str) -> None:
    config = config_of("series", cell, head, num_layers=2, bidirectional=True)
    graph = OnnxEngine(build(config, weights_of(config)))
    batch = collate([inputs_of(config, length) for length in (3, 8, 1)])
    padded = type(batch)(np.pad(batch.inputs, [(0, 0), (0, 29), (0, 0)]), batch.lengths)
    ours, wide = graph.run(batch), graph.run(padded)
    for i, length in enumerate(batch.lengths):
        real = slice(length) if head in PER_STEP else slice(None)
        np.testing.assert_allclose(wide[i][real], ours[i][real], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dense_sizes", [(), (7, 5)])
def test_dense_layers_may_be_none_or_several(dense_sizes: tuple[int, ...]) -> None:
    config = config_of("text", "gru", "all", dense_sizes=dense_sizes)
    weights, sequence = weights_of(config), inputs_of(config, 9)
    logits = OnnxEngine(build(config, weights)).run(collate([sequence]))[0]
    np.testing.assert_allclose(logits, expected_logits(config, weights, sequence), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["text", "series"])
@pytest.mark.parametrize("head", ["all", "step", "stem_branch", "skip"])
def test_the_graph_is_valid_onnx_and_states_its_shapes(kind: str, head: str) -> None:
    config = config_of(kind, head=head)
    weights = weights_of(config)
    data = build(config, weights)
    # The embedding is not the graph's.
    assert data == build(config, classifier_weights(weights))
    model = onnx.load_model_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in [*model.graph.input, *model.graph.output]
    }
    assert shapes == {
        "inputs": ["B", "T", 3],
        "lengths": ["B"],
        "logits": ["B", "T", 3] if head in PER_STEP else ["B", 3],
    }
    assert [opset.version for opset in model.opset_import] == [17]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("cell", CELLS)
def test_everything_in_the_graph_is_needed(cell: str, head: str) -> None:
    config = config_of("series", cell, head, bidirectional=True, num_layers=2)
    graph = onnx.load_from_string(build(config, weights_of(config))).graph
    read = {name for node in graph.node for name in node.input} | {"logits"}
    made = [name for node in graph.node for name in node.output if name]
    made += [constant.name for constant in graph.initializer]
    assert [name for name in made if name not in read] == []


def test_equal_weights_make_equal_bytes() -> None:
    config = config_of("text", "gru", "all", bidirectional=True)
    assert build(config, weights_of(config)) == build(config, weights_of(config))
    assert build(config, weights_of(config)) != build(config, weights_of(config, seed=1))
