"""The network as an ONNX graph, written node by node from its weights.

torch's own exporters fix the number of timesteps and lose the lengths; here each LSTM or GRU is one node that gets them
(`sequence_lens`), so ONNX Runtime stops each sequence at its own end, in both directions.

B batch, T timesteps, F features, D directions, H hidden, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, checker, helper, numpy_helper

from gatewise.architecture import ModelConfig

# Row blocks of torch's gates in the order in which ONNX stacks them: i, o, f, g of i, f, g, o; z, r, n of r, z, n.
_GATES = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
_OPSET = 17
_IR_VERSION = 9


def build(config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> bytes:
    """Write the graph: `inputs` float32 (B, T, F) and `lengths` int32 (B,) to `logits`.

    Args:
        weights: by the names of `gatewise.architecture`.
    """
    graph = _Graph()
    inputs = helper.make_tensor_value_info("inputs", TensorProto.FLOAT, ["B", "T", config.feature_size])
    x, lengths = _stem(graph, config, weights)
    x = graph.add("Transpose", [x], perm=[1, 0, 2])
    last = ""
    for layer in range(config.num_layers):
        x, last = _recurrent_layer(graph, config, weights, layer, x, lengths)
    x = graph.add("Transpose", [x], perm=[1, 0, 2])
    if config.task == "sequence":
        parts = [*_pool(graph, config, weights, x, last, lengths), *_branch(graph, config, weights)]
        x = graph.add("Concat", parts, axis=1)
    elif config.skip:
        x = graph.add("Concat", [x, "inputs"], axis=2)
    for name in [*(f"dense.{i}" for i in range(len(config.dense_sizes))), "output"]:
        x = _linear(graph, weights, name, x)
        if name != "output":
            x = graph.add("Relu", [x])
    graph.add("Identity", [x], output="logits")
    graph.prune("logits")
    shape = ["B", config.num_classes] if config.task == "sequence" else ["B", "T", config.num_classes]
    proto = helper.make_graph(
        graph.nodes,
        "gatewise",
        [inputs, helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
        graph.constants,
    )
    model: ModelProto = helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION, producer_name="gatewise"
    )
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString(deterministic=True)
    return data


class _Graph:
    """Nodes and constants, with names made up where none is given."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, op: str, inputs: Sequence[str], output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output; return the output's name."""
        return self.add_many(op, inputs, [output or f"{op.lower()}_{len(self.nodes)}"], **attributes)[0]

    def add_many(self, op: str, inputs: Sequence[str], outputs: list[str], **attributes: Any) -> list[str]:
        """Add a node; return the names of its outputs."""
        self.nodes.append(helper.make_node(op, list(inputs), outputs, **attributes))
        return outputs

    def constant(self, name: str, value: NDArray[Any] | Sequence[int]) -> str:
        """Add a constant, int64 unless it is an array; return its name."""
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=np.int64)
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def prune(self, output: str) -> None:
        """Drop what this output does not need: ONNX Runtime would compute it all the same."""
        needed, nodes = {output}, []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                node.output[:] = [name if name in needed else "" for name in node.output]
                needed.update(node.input)
                nodes.append(node)
        self.nodes = nodes[::-1]
        self.constants = [constant for constant in self.constants if constant.name in needed]


def _recurrent_layer(
    graph: _Graph, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]], layer: int, x: str, lengths: str
) -> tuple[str, str]:
    """Add one layer over (T, B, F); return its outputs (T, B, D*H) and each direction's last output (B, D*H)."""
    D, H = len(config.directions), config.hidden_size
    prefix = f"recurrent.{layer}"
    names = [f"{prefix}.{direction}" for direction in config.directions]

    def stacked(part: str) -> NDArray[np.float32]:
        return np.stack([_reordered(weights[f"{name}.{part}_l0"], config) for name in names])

    bias = np.concatenate([stacked("bias_ih"), stacked("bias_hh")], axis=1)
    attributes: dict[str, Any] = {"hidden_size": H, "direction": "bidirectional" if D == 2 else "forward"}
    if config.cell == "gru":
        attributes["linear_before_reset"] = int(config.reset_after)
    outputs, final = graph.add_many(
        config.cell.upper(),
        [
            x,
            graph.constant(f"{prefix}.W", stacked("weight_ih")),
            graph.constant(f"{prefix}.R", stacked("weight_hh")),
            graph.constant(f"{prefix}.B", bias),
            lengths,
        ],
        [f"{prefix}.Y", f"{prefix}.Y_h"],
        **attributes,
    )
    outputs = graph.add("Transpose", [outputs], perm=[0, 2, 1, 3])
    outputs = graph.add("Reshape", [outputs, graph.constant(f"{prefix}.shape", [0, 0, D * H])])
    final = graph.add("Transpose", [final], perm=[1, 0, 2])
    final = graph.add("Reshape", [final, graph.constant(f"{prefix}.last_shape", [0, D * H])])
    return outputs, final


def _reordered(stacked: NDArray[np.float32], config: ModelConfig) -> NDArray[np.float32]:
    blocks = np.split(stacked, len(_GATES[config.cell]))
    return np.concatenate([blocks[i] for i in _GATES[config.cell]])


def _stem(graph: _Graph, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> tuple[str, str]:
    """Return the recurrent layers' inputs (B, T, F) and their lengths; without a stem, the graph's own."""
    if config.stem_stride == 1:
        return "inputs", "lengths"
    stride = config.stem_stride
    more = graph.add("Add", ["lengths", graph.constant("stem.more", np.array(stride - 1, dtype=np.int32))])
    lengths = graph.add("Div", [more, graph.constant("stem.stride", np.array(stride, dtype=np.int32))])
    x = graph.add("Transpose", ["inputs"], perm=[0, 2, 1])
    x = _convolve(graph, weights, "stem", x, stride)
    return graph.add("Transpose", [x], perm=[0, 2, 1]), lengths


def _branch(graph: _Graph, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]]) -> list[str]:
    """Return the branch's average over the real steps of the inputs, (B, S), in a list that is empty without one."""
    if not config.branch_channels:
        return []
    mask = graph.add("Cast", [_step_mask(graph, "inputs", "lengths", "branch")], to=TensorProto.FLOAT)
    mask = graph.add("Transpose", [mask], perm=[0, 2, 1])
    x = graph.add("Transpose", ["inputs"], perm=[0, 2, 1])
    for i in range(len(config.branch_channels)):
        x = graph.add("Mul", [_convolve(graph, weights, f"branch.{i}", x), mask])
    total = graph.add("ReduceSum", [x, graph.constant("branch.axes", [2])], keepdims=0)
    return [graph.add("Div", [total, _column(graph, "lengths", "branch")])]


def _convolve(graph: _Graph, weights: Mapping[str, NDArray[np.float32]], name: str, x: str, stride: int = 1) -> str:
    """Convolution, normalization by channel and relu over (B, F, T), whose steps beyond a length are zero."""
    kernel = weights[f"{name}.conv.weight"]
    half = kernel.shape[2] // 2
    x = graph.add(
        "Conv", [x, graph.constant(f"{name}.conv.weight", kernel)], pads=[half, half], strides=[stride],
        kernel_shape=[2 * half + 1],
    )  # fmt: skip
    parts = [
        graph.constant(f"{name}.norm.{part}", weights[f"{name}.norm.{part}"])
        for part in ("weight", "bias", "mean", "variance")
    ]
    return graph.add("Relu", [graph.add("BatchNormalization", [x, *parts], epsilon=1e-5)])


def _pool(
    graph: _Graph, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]], x: str, last: str, lengths: str
) -> list[str]:
    """Return the poolings of (B, T, D*H), whose steps beyond a sequence's length ONNX Runtime leaves zero."""
    mask = _step_mask(graph, x, lengths, "pool")
    parts = []
    for pooling in config.pooling:
        if pooling == "last":
            parts.append(last)
        elif pooling == "mean":
            total = graph.add("ReduceSum", [x, graph.constant("mean.axes", [1])], keepdims=0)
            parts.append(graph.add("Div", [total, _column(graph, lengths, "mean")]))
        elif pooling == "max":
            lowest = graph.constant("max.lowest", np.array(-np.inf, dtype=np.float32))
            parts.append(graph.add("ReduceMax", [graph.add("Where", [mask, x, lowest])], axes=[1], keepdims=0))
        else:
            scores = graph.add("MatMul", [x, graph.constant("attention.weight", weights["attention.weight"].T)])
            lowest = graph.constant("attention.lowest", np.array(-np.inf, dtype=np.float32))
            shares = graph.add("Softmax", [graph.add("Where", [mask, scores, lowest])], axis=1)
            weighted = graph.add("Mul", [x, shares])
            parts.append(graph.add("ReduceSum", [weighted, graph.constant("attention.axes", [1])], keepdims=0))
    return parts


def _column(graph: _Graph, lengths: str, name: str) -> str:
    """Lengths as float32 (B, 1)."""
    column = graph.add("Cast", [lengths], to=TensorProto.FLOAT)
    return graph.add("Unsqueeze", [column, graph.constant(f"{name}.column", [1])])


def _step_mask(graph: _Graph, x: str, lengths: str, name: str) -> str:
    """(B, T, 1), True at a real timestep of (B, T, ...)."""
    T = graph.add("Gather", [graph.add("Shape", [x]), graph.constant(f"{name}.axis", np.array(1, dtype=np.int64))])
    zero = graph.constant(f"{name}.zero", np.array(0, dtype=np.int64))
    one = graph.constant(f"{name}.one", np.array(1, dtype=np.int64))
    steps = graph.add("Unsqueeze", [graph.add("Range", [zero, T, one]), graph.constant(f"{name}.row", [0, 2])])
    ends = graph.add("Cast", [lengths], to=TensorProto.INT64)
    return graph.add("Less", [steps, graph.add("Unsqueeze", [ends, graph.constant(f"{name}.ends", [1, 2])])])


def _linear(graph: _Graph, weights: Mapping[str, NDArray[np.float32]], name: str, x: str) -> str:
    product = graph.add("MatMul", [x, graph.constant(f"{name}.weight", weights[f"{name}.weight"].T)])
    return graph.add("Add", [product, graph.constant(f"{name}.bias", weights[f"{name}.bias"])])
