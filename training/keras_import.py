"""Keras models as Gatewise models: the same probabilities, without TensorFlow or Keras.

A model is read as `[Embedding] -> LSTM or GRU layers -> [global pooling] -> Dense(relu) ... -> Dense(classes)`. What is
not that, exactly, is refused by name. B batch, C channels, E embedding, H hidden, K classes.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from gatewise.architecture import LEFT_TO_RIGHT, RIGHT_TO_LEFT, Cell, ModelConfig, Pooling, Task
from gatewise.errors import InvalidData, UnsupportedModel
from training.keras_file import KerasLayer, SerializedLayer, read_layers

Array = NDArray[Any]
Weights = dict[str, NDArray[np.float32]]

_MOST_LAYERS = 8

_TRAINING_ONLY = {"Dropout", "SpatialDropout1D", "GaussianDropout", "GaussianNoise", "AlphaDropout"}
_POOLS: dict[str, Pooling] = {"GlobalAveragePooling1D": "mean", "GlobalMaxPooling1D": "max"}
_CELLS: dict[str, Cell] = {"LSTM": "lstm", "GRU": "gru"}
_SUPPORTED = (
    "Embedding, LSTM, GRU, Bidirectional, dropout, GlobalAveragePooling1D, GlobalMaxPooling1D, Dense and "
    "TimeDistributed(Dense), in that order"
)
_MENDS = {
    "activation": "Train it again with that: another activation is another function",
    "recurrent_activation": "Train it again with that: another activation is another function",
    "go_backwards": "Train it again left to right, or inside Bidirectional",
    "return_state": "Build the model again with return_state=False and give it the weights with set_weights()",
    "merge_mode": "Train it again with merge_mode='concat'",
    "data_format": "Train it again with data_format='channels_last'",
    "keepdims": "Build the model again with keepdims=False and give it the weights with set_weights()",
}


@dataclass(frozen=True)
class KerasModel:
    """What a `.keras` file holds.

    Attributes:
        weights: float32, by the names of `gatewise.architecture`.
        class_names: None: a `.keras` file does not tell them.
    """

    config: ModelConfig
    weights: Weights
    class_names: tuple[str, ...] | None = None


class _Embedding(BaseModel):
    input_dim: int = Field(ge=2)
    output_dim: int


class _Recurrent(BaseModel):
    units: int
    activation: Literal["tanh"]
    recurrent_activation: Literal["sigmoid"]
    use_bias: bool
    return_sequences: bool
    return_state: Literal[False] = False
    reset_after: bool = True


class _LeftToRight(_Recurrent):
    go_backwards: Literal[False] = False


class _RightToLeft(_Recurrent):
    go_backwards: Literal[True] = True


class _Bidirectional(BaseModel):
    merge_mode: Literal["concat"]
    layer: SerializedLayer
    backward_layer: SerializedLayer


class _TimeDistributed(BaseModel):
    layer: SerializedLayer


class _Pool(BaseModel):
    data_format: Literal["channels_last"] = "channels_last"
    keepdims: Literal[False] = False


class _Dense(BaseModel):
    units: int = Field(ge=1)
    activation: Literal["relu", "linear", "softmax", "sigmoid"]
    use_bias: bool


@dataclass(frozen=True)
class _Stack:
    """What all the recurrent layers of a model must agree in."""

    cell: Cell
    hidden_size: int
    bidirectional: bool
    reset_after: bool

    @property
    def output_size(self) -> int:
        return self.hidden_size * (2 if self.bidirectional else 1)


def read_keras(path: str | Path) -> KerasModel:
    """Read a `.keras` file.

    An imported model gives a sequence the probabilities that Keras gives it alone, without padding. Under
    Embedding(mask_zero=True) index 0 is padding, as row 0 is here, so token ids keep their meaning. A
    Dense(1, sigmoid) becomes two classes, the second with its probability. A mixed_float16 model is run in float32.

    Raises:
        UnsupportedModel: a layer, or a property of one, cannot be stated exactly; the message names it and what to do.
        InvalidData: the file is not there, damaged, or not a `.keras` file.
    """
    path = Path(path)
    layers = deque(layer for layer in read_layers(path) if not _does_nothing(layer))
    embedding = _take(layers, {"Embedding"})
    recurrent = _take(layers, {*_CELLS, "Bidirectional"})
    pools = _take(layers, set(_POOLS))
    dense = _take(layers, {"Dense", "TimeDistributed"})
    for extra in (*layers, *embedding[1:], *pools[1:]):
        raise extra.unsupported("cannot be imported where it stands", _mend_of(extra))
    if not recurrent or not dense:
        lacks = "Dense output" if recurrent else "LSTM or GRU"
        raise UnsupportedModel(f"{path}: the model has no {lacks} layer. Gatewise imports {_SUPPORTED}.")
    weights: Weights = {}
    embedding_dim = _import_embedding(embedding[0], weights) if embedding else None
    stack, task = _import_stack(recurrent, embedding_dim, weights)
    for pool in pools:
        _parse(_Pool, pool, pool.config)
    sizes = _import_dense(dense, stack.output_size, weights)
    config = ModelConfig(
        kind="text" if embedding else "series",
        task="sequence" if pools else task,
        cell=stack.cell,
        reset_after=stack.reset_after,
        vocab_size=len(weights["embedding.weight"]) if embedding else None,
        embedding_dim=embedding_dim,
        input_size=None if embedding else weights[f"recurrent.0.{LEFT_TO_RIGHT}.weight_ih_l0"].shape[1],
        hidden_size=stack.hidden_size,
        num_layers=len(recurrent),
        bidirectional=stack.bidirectional,
        pooling=tuple(_POOLS[pool.class_name] for pool in pools) or ("last",),
        dense_sizes=sizes,
        num_classes=len(weights["output.bias"]),
    )
    return KerasModel(config, weights)


def _take(layers: deque[KerasLayer], class_names: set[str]) -> list[KerasLayer]:
    """Remove the layers of these classes from the front."""
    taken = []
    while layers and layers[0].class_name in class_names:
        taken.append(layers.popleft())
    return taken


def _does_nothing(layer: KerasLayer) -> bool:
    """Whether a layer is the identity when the model predicts."""
    is_linear = layer.class_name == "Activation" and layer.config.get("activation") == "linear"
    return is_linear or layer.class_name in _TRAINING_ONLY


def _mend_of(layer: KerasLayer) -> str:
    if layer.class_name == "Masking":
        return (
            "Masking skips every timestep whose readings all equal mask_value, also inside a sequence; Gatewise goes "
            "by each sequence's length and skips none. If your mask_value stands only at the end of sequences, build "
            "the model again without Masking and give it the weights with set_weights()"
        )
    if layer.class_name in ("Sequential", "Functional"):
        return "Build the model again with the inner model's layers in its place"
    if layer.class_name == "Activation":
        return "Build the model again with the activation inside the Dense layer before it"
    return f"Gatewise imports {_SUPPORTED}"


Options = TypeVar("Options", bound=BaseModel)


def _parse(options: type[Options], layer: KerasLayer, config: dict[str, Any]) -> Options:
    """Return a layer's properties; `options` declares which values can be stated exactly."""
    try:
        return options.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][-1])
        if first["type"] == "missing":
            raise InvalidData(f"layer {layer.name!r} does not state its {name}", path=layer.file) from None
        expected = first.get("ctx", {}).get("expected", first["msg"])
        problem = f"{name} is {first['input']!r}, and only {expected} can be imported"
        raise layer.unsupported(problem, _MENDS.get(name, f"Gatewise imports {_SUPPORTED}")) from None


def _import_embedding(layer: KerasLayer, weights: Weights) -> int:
    options = _parse(_Embedding, layer, layer.config)
    weights["embedding.weight"] = _float32(layer.variable("vars/0", (options.input_dim, options.output_dim)))
    return options.output_dim


def _import_stack(layers: list[KerasLayer], input_size: int | None, weights: Weights) -> tuple[_Stack, Task]:
    """Import the recurrent layers; whether the last returns its sequence tells the task."""
    if len(layers) > _MOST_LAYERS:
        extra = layers[_MOST_LAYERS]
        raise extra.unsupported(f"is recurrent layer {_MOST_LAYERS + 1}", f"Train it again with at most {_MOST_LAYERS}")
    agreed: _Stack | None = None
    for i, layer in enumerate(layers):
        stack, returns_sequences = _import_recurrent(layer, input_size, f"recurrent.{i}", weights)
        agreed = agreed or stack
        if stack != agreed:
            raise layer.unsupported(
                f"differs from the recurrent layer before it ({_difference(stack, agreed)})",
                "Train it again with the same cell, units and direction in every recurrent layer",
            )
        if not returns_sequences and layer is not layers[-1]:
            raise layer.unsupported("return_sequences is False below another recurrent layer", "Set it to True there")
        input_size = stack.output_size
    assert agreed is not None
    return agreed, "step" if returns_sequences else "sequence"


def _difference(stack: _Stack, agreed: _Stack) -> str:
    ours, theirs = vars(stack), vars(agreed)
    return ", ".join(f"{name} is {ours[name]!r}, not {theirs[name]!r}" for name in ours if ours[name] != theirs[name])


def _import_recurrent(layer: KerasLayer, input_size: int | None, prefix: str, weights: Weights) -> tuple[_Stack, bool]:
    if layer.class_name != "Bidirectional":
        options: _Recurrent = _parse(_LeftToRight, layer, layer.config)
        cell = _CELLS[layer.class_name]
        _import_cell(layer, "cell", cell, options, input_size, f"{prefix}.{LEFT_TO_RIGHT}", weights)
        return _stack(cell, options, bidirectional=False), options.return_sequences
    both = _parse(_Bidirectional, layer, layer.config)
    for inner in (both.layer, both.backward_layer):
        if inner.class_name not in _CELLS or not inner.is_keras_own:
            raise layer.unsupported(f"wraps {inner.class_name}", "Only LSTM and GRU can be imported")
    cell = _CELLS[both.layer.class_name]
    options = _parse(_LeftToRight, layer, both.layer.config)
    backward = _parse(_RightToLeft, layer, both.backward_layer.config)
    stack = _stack(cell, options, bidirectional=True)
    if both.backward_layer.class_name != both.layer.class_name or stack != _stack(cell, backward, bidirectional=True):
        raise layer.unsupported("its two directions differ", "Train it again with the same layer in both")
    _import_cell(layer, "forward_layer/cell", cell, options, input_size, f"{prefix}.{LEFT_TO_RIGHT}", weights)
    _import_cell(layer, "backward_layer/cell", cell, backward, input_size, f"{prefix}.{RIGHT_TO_LEFT}", weights)
    return stack, options.return_sequences


def _stack(cell: Cell, options: _Recurrent, bidirectional: bool) -> _Stack:
    return _Stack(cell, options.units, bidirectional, options.reset_after)


def _import_cell(
    layer: KerasLayer,
    place: str,
    cell: Cell,
    options: _Recurrent,
    input_size: int | None,
    prefix: str,
    weights: Weights,
) -> None:
    """Turn Keras's kernels (inputs, gates * H) into torch's rows; Keras's gates are i, f, c, o and z, r, h."""
    H = options.units
    has_two_biases = cell == "gru" and options.reset_after
    columns = (4 if cell == "lstm" else 3) * H
    kernel = layer.variable(f"{place}/vars/0", (input_size, columns))
    recurrent = layer.variable(f"{place}/vars/1", (H, columns))
    biases = np.zeros((2, columns), dtype=np.float32)
    if options.use_bias and has_two_biases:
        biases = layer.variable(f"{place}/vars/2", (2, columns))
    elif options.use_bias:
        biases[0] = layer.variable(f"{place}/vars/2", (columns,))
    arrays = {"weight_ih": kernel.T, "weight_hh": recurrent.T, "bias_ih": biases[0], "bias_hh": biases[1]}
    for name, rows in arrays.items():
        if cell == "gru":
            z, r, n = np.split(rows, 3)
            rows = np.concatenate([r, z, n])
        weights[f"{prefix}.{name}_l0"] = _float32(rows)


def _import_dense(layers: list[KerasLayer], input_size: int, weights: Weights) -> tuple[int, ...]:
    """Import the hidden layers and the output; return the sizes of the hidden ones."""
    sizes = []
    for i, layer in enumerate(layers):
        options, place = _dense_options(layer)
        kernel = layer.variable(f"{place}/0", (input_size, options.units))
        bias = layer.variable(f"{place}/1", (options.units,)) if options.use_bias else np.zeros(options.units)
        is_output = layer is layers[-1]
        if is_output:
            kernel, bias = _as_logits(layer, options, kernel, bias)
        elif options.activation != "relu":
            raise layer.unsupported(
                f"activation is {options.activation!r} in a hidden layer, and only 'relu' can be imported",
                _MENDS["activation"],
            )
        name = "output" if is_output else f"dense.{i}"
        weights[f"{name}.weight"], weights[f"{name}.bias"] = _float32(kernel.T), _float32(bias)
        sizes.append(options.units)
        input_size = options.units
    return tuple(sizes[:-1])


def _dense_options(layer: KerasLayer) -> tuple[_Dense, str]:
    """Return a Dense layer's properties and where its variables lie, inside TimeDistributed or not."""
    if layer.class_name == "Dense":
        return _parse(_Dense, layer, layer.config), "vars"
    inner = _parse(_TimeDistributed, layer, layer.config).layer
    if inner.class_name != "Dense" or not inner.is_keras_own:
        raise layer.unsupported(f"wraps {inner.class_name}", "Only TimeDistributed(Dense) can be imported")
    return _parse(_Dense, layer, inner.config), "layer/vars"


def _as_logits(layer: KerasLayer, options: _Dense, kernel: Array, bias: Array) -> tuple[Array, Array]:
    """Return the output layer as one column a class, whose softmax is what Keras answers."""
    if options.activation == "sigmoid" and options.units == 1:
        # softmax([0, z]) = [1 - sigmoid(z), sigmoid(z)]
        return np.pad(kernel, ((0, 0), (1, 0))), np.pad(bias, (1, 0))
    if options.activation in ("softmax", "linear") and options.units >= 2:
        return kernel, bias
    raise layer.unsupported(
        f"the output is {options.units} unit(s) with {options.activation}, not one class of several",
        "End the model in Dense(classes, activation='softmax'), or in Dense(1, activation='sigmoid') for two classes",
    )


def _float32(array: Array) -> NDArray[np.float32]:
    return np.ascontiguousarray(array, dtype=np.float32)
