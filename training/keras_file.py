"""A `.keras` file, opened without Keras: the layers of a linear model in the order that data flows, with their weights.

The file is a zip: `config.json` describes the layers, `model.weights.h5` holds their variables under
`layers/{class name in snake case}[_{n}]/...`, counted in the order of config.json. Keras 3 writes it so.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gatewise.errors import InvalidData, UnsupportedModel

Array = NDArray[Any]

_SAVE_AGAIN = "Open it with Keras 3 and save it again: keras.models.load_model(old).save('model.keras')"
_COPY_AGAIN = "Copy or save it again: the file is damaged or incomplete"
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError)


class Node(BaseModel):
    """One call of a layer in a Functional model."""

    model_config = ConfigDict(extra="forbid")

    positional: list[Any] = Field(validation_alias="args")
    named: dict[str, Any] = Field(validation_alias="kwargs")


@dataclass(frozen=True, eq=False)
class KerasLayer:
    """One layer as the file states it.

    Attributes:
        nodes: the calls of the layer; none in a Sequential model.
        variables: arrays by their place under the layer, such as "cell/vars/0".
    """

    file: Path
    class_name: str
    name: str
    config: dict[str, Any]
    nodes: list[Node]
    variables: dict[str, Array]

    def unsupported(self, problem: str, mend: str) -> UnsupportedModel:
        """Return the error that names this layer, what about it cannot be imported, and what to do."""
        return UnsupportedModel(f"{self.file}: layer {self.name!r} ({self.class_name}): {problem}. {mend}.")

    def variable(self, place: str, shape: tuple[int | None, ...]) -> Array:
        """Return the variable at `place`, of `shape` where that is not None.

        Raises:
            InvalidData: it is not there, has another shape, or holds a value that is not finite.
            UnsupportedModel: it does not hold floating-point numbers (a quantized model).
        """
        if place not in self.variables:
            raise self._damaged(f"has no variable {place}")
        array = self.variables[place]
        if array.dtype.kind != "f":
            raise self.unsupported(f"holds {array.dtype} weights", "Save the model as it was before it was quantized")
        if len(array.shape) != len(shape) or any(s not in (None, n) for n, s in zip(array.shape, shape, strict=True)):
            raise self._damaged(f"its variable {place} has shape {array.shape}, expected {shape}")
        if not np.isfinite(array).all():
            raise self._damaged(f"its variable {place} holds NaN or infinite values", "Train it again: it diverged")
        return array

    def _damaged(self, problem: str, mend: str = _COPY_AGAIN) -> InvalidData:
        return InvalidData(f"layer {self.name!r} ({self.class_name}): {problem}", path=self.file, mend=mend)


class SerializedLayer(BaseModel):
    """A layer in config.json, or one wrapped by another layer."""

    module: str | None = None
    class_name: str
    config: dict[str, Any]
    inbound_nodes: list[Node] = []

    @property
    def name(self) -> str:
        return str(self.config.get("name", self.class_name))

    @property
    def is_keras_own(self) -> bool:
        """Whether Keras itself defines the class; a user's own class of the same name is another layer."""
        return (self.module or "").split(".")[0] == "keras"


class _Graph(BaseModel):
    layers: list[SerializedLayer] = Field(min_length=1)
    output_layers: list[Any] = []


class _Model(BaseModel):
    module: str | None = None
    class_name: str
    config: dict[str, Any]


def read_layers(path: Path) -> list[KerasLayer]:
    """Return the layers of a Sequential or linear Functional model, the input layer left out.

    Raises:
        InvalidData: the file is not there, damaged, or not a `.keras` file.
        UnsupportedModel: an older format, a subclassed model, or one that branches.
    """
    config, variables = _read_archive(path)
    try:
        model = _Model.model_validate(config)
        if model.class_name not in ("Sequential", "Functional") or not (model.module or "").startswith("keras"):
            raise UnsupportedModel(
                f"{path}: the model is a class of its own, {model.class_name}. Build a Sequential or Functional model "
                "of the same layers, give that its weights with set_weights(), and save it."
            )
        graph = _Graph.model_validate(model.config)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InvalidData(f"config.json: {place}: {first['msg']}", path=path, mend=_SAVE_AGAIN) from None
    layers = [
        KerasLayer(path, layer.class_name, layer.name, layer.config, layer.inbound_nodes, _under(place, variables))
        for layer, place in zip(graph.layers, _places(graph.layers), strict=True)
    ]
    for layer, serialized in zip(layers, graph.layers, strict=True):
        if not serialized.is_keras_own:
            raise layer.unsupported(
                f"is not Keras's own ({serialized.module})", "Rebuild the model from Keras's layers"
            )
    if model.class_name == "Functional":
        layers = _in_order_of_data({layer.name: layer for layer in layers}, graph.output_layers, path)
    return [layer for layer in layers if layer.class_name != "InputLayer"]


def _read_archive(path: Path) -> tuple[Any, dict[str, Array]]:
    if path.is_dir():
        raise UnsupportedModel(f"{path} is a folder, such as a TensorFlow SavedModel. {_SAVE_AGAIN}.")
    if not path.exists():
        raise InvalidData("there is no such file", path=path, mend="Give the path of a .keras file")
    with path.open("rb") as stream:
        start = stream.read(8)
    if start == b"\x89HDF\r\n\x1a\n":
        raise UnsupportedModel(f"{path} is an HDF5 file (.h5), the format before .keras. {_SAVE_AGAIN}.")
    if not start.startswith(b"PK"):
        raise InvalidData("is not a .keras file, which is a zip archive", path=path, mend=_SAVE_AGAIN)
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in ("metadata.json", "config.json", "model.weights.h5")}
    except KeyError as error:
        raise InvalidData(f"the archive lacks a member: {error.args[0]}", path=path, mend=_SAVE_AGAIN) from None
    except _DAMAGE as error:
        raise InvalidData(f"the archive cannot be read ({error})", path=path, mend=_COPY_AGAIN) from None
    _check_version(_parse(members, "metadata.json", path), path)
    return _parse(members, "config.json", path), _read_variables(members["model.weights.h5"], path)


def _parse(members: dict[str, bytes], name: str, path: Path) -> Any:
    try:
        return json.loads(members[name])
    except (ValueError, RecursionError) as error:
        raise InvalidData(f"{name} is not JSON ({error})", path=path, mend=_COPY_AGAIN) from None


def _check_version(metadata: Any, path: Path) -> None:
    version = str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
    if version.split(".")[0] != "3":
        written = f"Keras {version}" if version else "an unknown version of Keras"
        raise UnsupportedModel(f"{path} was written by {written}, which lays the weights out otherwise. {_SAVE_AGAIN}.")


def _read_variables(content: bytes, path: Path) -> dict[str, Array]:
    variables: dict[str, Array] = {}

    def keep(place: str, item: Any) -> None:
        if place.startswith("layers/") and isinstance(item, h5py.Dataset):
            variables[place] = item[()]

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            file.visititems(keep)
    except _DAMAGE as error:
        raise InvalidData(f"model.weights.h5 cannot be read ({error})", path=path, mend=_COPY_AGAIN) from None
    return variables


def _under(place: str, variables: dict[str, Array]) -> dict[str, Array]:
    prefix = f"layers/{place}/"
    return {key.removeprefix(prefix): array for key, array in variables.items() if key.startswith(prefix)}


def _places(layers: list[SerializedLayer]) -> Iterator[str]:
    """Yield where each layer's variables lie; Keras goes by class, since the names of layers change between runs."""
    seen: Counter[str] = Counter()
    for layer in layers:
        place = _snake_case(layer.class_name)
        yield f"{place}_{seen[place]}" if seen[place] else place
        seen[place] += 1


def _snake_case(class_name: str) -> str:
    """Return "TimeDistributed" as "time_distributed", and "LSTM" as "lstm"."""
    if class_name.isupper():
        return class_name.lower()
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in class_name).lstrip("_")


def _in_order_of_data(layers: dict[str, KerasLayer], outputs: list[Any], path: Path) -> list[KerasLayer]:
    """Walk from the only output back to the only input."""
    names = [outputs[0]] if outputs and isinstance(outputs[0], str) else [output[0] for output in outputs]
    if len(names) != 1:
        raise UnsupportedModel(f"{path}: the model has {len(names)} outputs. Build one with the output to serve alone.")
    try:
        chain = [layers[names[0]]]
        while chain[-1].class_name != "InputLayer" and len(chain) <= len(layers):
            chain.append(layers[_source(chain[-1], layers)])
    except (KeyError, IndexError, TypeError):
        raise InvalidData("config.json: the layers do not connect", path=path, mend=_SAVE_AGAIN) from None
    aside = [layer for layer in layers.values() if layer not in chain and layer.class_name != "NotEqual"]
    if aside:
        raise _branches(aside[0])
    return chain[::-1]


def _source(layer: KerasLayer, layers: dict[str, KerasLayer]) -> str:
    """Return the name of the one layer that `layer` reads."""
    if len(layer.nodes) != 1:
        raise layer.unsupported(f"is called {len(layer.nodes)} times", "Call each layer once: sharing is not supported")
    (node,) = layer.nodes
    for name, value in node.named.items():
        if value in (None, False) or (name == "mask" and _is_padding_mask(value, layers)):
            continue
        raise layer.unsupported(f"is called with {name}", f"Build the model without that {name}")
    sources = list(_tensors(node.positional))
    if len(sources) != 1:
        raise _branches(layer)
    return sources[0]


def _is_padding_mask(value: Any, layers: dict[str, KerasLayer]) -> bool:
    """Whether a mask is what Embedding(mask_zero=True) makes: ids != 0."""
    makers = [layers[name] for name in _tensors(value)]
    if [maker.class_name for maker in makers] != ["NotEqual"]:
        return False
    args = makers[0].nodes[0].positional
    return args[1:] == [0] and [layers[name].class_name for name in _tensors(args)] == ["InputLayer"]


def _tensors(value: Any) -> Iterator[str]:
    """Yield the names of the layers whose outputs stand in a node's arguments."""
    if isinstance(value, dict) and value.get("class_name") == "__keras_tensor__":
        yield str(value["config"]["keras_history"][0])
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)


def _branches(layer: KerasLayer) -> UnsupportedModel:
    return layer.unsupported(
        "stands off the one line from input to output", "Only models without branches can be imported"
    )
