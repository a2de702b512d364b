"""Imported models against the answers that Keras itself gave (tests/data/keras/make.py), and what is refused."""

from __future__ import annotations

import copy
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gatewise.errors import InvalidData, UnsupportedModel
from gatewise.reference import classify
from training.keras_import import KerasModel, read_keras

FOLDER = Path(__file__).parents[2] / "data" / "keras"
ANSWERS = json.loads((FOLDER / "answers.json").read_text())
Change = Callable[[dict[str, Any]], object]  # to config.json, in place
LOGITS = {"lstm_without_bias"}  # ends in Dense without softmax: Keras answers logits


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def logits_of(model: KerasModel, sequence: list[Any]) -> np.ndarray:
    inputs = np.array(sequence, dtype=np.int64 if model.config.kind == "text" else np.float32)
    return np.asarray(classify(model.config, model.weights, inputs[None], np.array([len(inputs)]))[0])


@pytest.mark.parametrize("name", ANSWERS)
def test_an_imported_model_answers_as_keras_did(name: str) -> None:
    model = read_keras(FOLDER / f"{name}.keras")
    for sequence, expected in zip(ANSWERS[name]["inputs"], ANSWERS[name]["outputs"], strict=True):
        logits = logits_of(model, sequence)
        answer = logits if name in LOGITS else softmax(logits)
        if name == "two_classes":
            answer = answer[1:]
        np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["lstm_step", "bidirectional_gru_step", "stack", "max_pooling", "text_masked", "functional"]
)
def test_padding_does_not_change_what_an_imported_model_answers(name: str) -> None:
    model = read_keras(FOLDER / f"{name}.keras")
    long, short = (np.array(sequence) for sequence in ANSWERS[name]["inputs"])
    batch = np.zeros((2, *long.shape), dtype=long.dtype)
    batch[0], batch[1, : len(short)] = long, short
    answer = softmax(classify(model.config, model.weights, batch, np.array([len(long), len(short)])))
    for one, expected in zip(answer, ANSWERS[name]["outputs"], strict=True):
        one = one[: len(expected)] if model.config.task == "step" else one
        np.testing.assert_allclose(one, expected, rtol=0, atol=1e-5)


def test_the_configuration_says_what_the_layers_said() -> None:
    stack, step = read_keras(FOLDER / "stack.keras").config, read_keras(FOLDER / "gru_reset_before_step.keras").config
    text = read_keras(FOLDER / "text_masked.keras").config
    assert (stack.kind, stack.input_size, stack.cell, stack.num_layers, stack.bidirectional) == (
        "series",
        3,
        "lstm",
        2,
        True,
    )
    assert (stack.task, stack.pooling, stack.dense_sizes, stack.num_classes) == ("sequence", ("mean",), (6, 4), 3)
    assert (step.task, step.cell, step.reset_after, step.dense_sizes) == ("step", "gru", False, ())
    assert (text.kind, text.vocab_size, text.embedding_dim, text.pooling) == ("text", 11, 4, ("last",))


def test_weights_are_contiguous_float32_by_the_names_of_the_architecture() -> None:
    model = read_keras(FOLDER / "bidirectional_lstm.keras")
    parts = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    recurrent = {f"recurrent.0.{d}.{part}" for d in ("left_to_right", "right_to_left") for part in parts}
    assert set(model.weights) == recurrent | {"dense.0.weight", "dense.0.bias", "output.weight", "output.bias"}
    assert {array.dtype for array in model.weights.values()} == {np.dtype("float32")}
    assert all(array.flags.c_contiguous for array in model.weights.values())
    assert model.class_names is None


def members_of(name: str) -> dict[str, bytes]:
    with zipfile.ZipFile(FOLDER / f"{name}.keras") as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def write(folder: Path, members: dict[str, bytes]) -> Path:
    path = folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return path


def changed(folder: Path, name: str, change: Change) -> Path:
    """Write one of the stored models with a change in its config.json."""
    members = members_of(name)
    config = json.loads(members["config.json"])
    change(config)
    return write(folder, {**members, "config.json": json.dumps(config).encode()})


def layer_of(config: dict[str, Any], class_name: str) -> dict[str, Any]:
    return next(layer for layer in config["config"]["layers"] if layer["class_name"] == class_name)


def in_lstm(**properties: object) -> Change:
    return lambda config: layer_of(config, "LSTM")["config"].update(properties)


def in_dense(i: int = 2, **properties: object) -> Change:
    return lambda config: config["config"]["layers"][i]["config"].update(properties)


def in_bidirectional(**properties: object) -> Change:
    return lambda config: layer_of(config, "Bidirectional")["config"].update(properties)


def inside_bidirectional(layer: str, **properties: object) -> Change:
    return lambda config: layer_of(config, "Bidirectional")["config"][layer]["config"].update(properties)


def wrap(wrapper: str, class_name: str) -> Change:
    return lambda config: layer_of(config, wrapper)["config"]["layer"].update(class_name=class_name)


def insert(class_name: str, at: int, **properties: object) -> Change:
    layer = {"module": "keras.layers", "class_name": class_name, "config": {"name": "extra", **properties}}
    return lambda config: config["config"]["layers"].insert(at, layer)


def repeat_recurrent(config: dict[str, Any]) -> None:
    layers = config["config"]["layers"]
    layers[1:2] = [copy.deepcopy(layers[1]) for _ in range(9)]


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("lstm_sequence", in_lstm(activation="relu"), r"\(LSTM\): activation is 'relu', and only 'tanh'"),
        ("lstm_sequence", in_lstm(recurrent_activation="hard_sigmoid"), "recurrent_activation is 'hard_sigmoid'"),
        ("lstm_sequence", in_lstm(go_backwards=True), "go_backwards is True.*Bidirectional"),
        ("lstm_sequence", in_lstm(return_state=True), "return_state is True.*return_state=False"),
        ("lstm_sequence", in_dense(activation="tanh"), r"\(Dense\): activation is 'tanh', and only"),
        ("lstm_sequence", in_dense(activation="linear"), "'linear' in a hidden layer"),
        ("lstm_sequence", in_dense(-1, activation="sigmoid"), r"3 unit\(s\) with sigmoid"),
        ("lstm_sequence", insert("Masking", 1, mask_value=0.0), r"'extra' \(Masking\).*also inside.*set_weights"),
        ("lstm_sequence", insert("Conv1D", 1, filters=4), r"'extra' \(Conv1D\).*Gatewise imports Embedding, LSTM"),
        ("lstm_sequence", insert("BatchNormalization", 2), r"\(BatchNormalization\): cannot be imported where"),
        ("lstm_sequence", insert("Sequential", 1, layers=[]), "inner model's layers"),
        ("lstm_sequence", insert("Activation", 4, activation="softmax"), "activation inside the Dense layer"),
        ("lstm_sequence", insert("Embedding", 3), r"'extra' \(Embedding\): cannot be imported where it stands"),
        ("lstm_sequence", lambda c: c["config"]["layers"].pop(1), "has no LSTM or GRU layer"),
        ("lstm_sequence", lambda c: layer_of(c, "LSTM").update(module="mine"), "is not Keras's own"),
        ("lstm_sequence", lambda c: c.update(class_name="MyModel", module="mine"), "a class of its own, MyModel"),
        ("bidirectional_lstm", in_bidirectional(merge_mode="sum"), "merge_mode is 'sum'.*'concat'"),
        ("bidirectional_lstm", inside_bidirectional("layer", activation="relu"), "activation is 'relu'"),
        ("bidirectional_lstm", inside_bidirectional("backward_layer", units=7), "its two directions differ"),
        ("bidirectional_lstm", wrap("Bidirectional", "SimpleRNN"), "wraps SimpleRNN"),
        ("lstm_step", wrap("TimeDistributed", "LSTM"), "wraps LSTM"),
        ("lstm_step", repeat_recurrent, "is recurrent layer 9.*at most 8"),
        ("stack", inside_bidirectional("layer", return_sequences=False), "return_sequences is False below another"),
        ("max_pooling", lambda c: layer_of(c, "GlobalMaxPooling1D")["config"].update(keepdims=True), "keepdims"),
    ],
)  # fmt: skip
def test_what_cannot_be_stated_exactly_is_refused_by_name(
    tmp_path: Path, name: str, change: Change, message: str
) -> None:
    path = changed(tmp_path, name, change)
    with pytest.raises(UnsupportedModel, match=f"(?s){message}") as caught:
        read_keras(path)
    assert str(path) in caught.value.message


def test_recurrent_layers_that_differ_are_refused_by_what_differs(tmp_path: Path) -> None:
    members = members_of("stack")
    config = json.loads(members["config.json"])
    for layer in ("layer", "backward_layer"):
        config["config"]["layers"][3]["config"][layer]["config"]["units"] = 9
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        for direction in ("forward_layer", "backward_layer"):
            variables = file[f"layers/bidirectional_1/{direction}/cell/vars"]
            for place, shape in (("0", (10, 36)), ("1", (9, 36)), ("2", (36,))):
                del variables[place]
                variables[place] = np.zeros(shape, dtype=np.float32)
    members |= {"config.json": json.dumps(config).encode(), "model.weights.h5": buffer.getvalue()}
    with pytest.raises(UnsupportedModel, match=r"differs.*hidden_size is 9, not 5.*Train it again with the same cell"):
        read_keras(write(tmp_path, members))


def call_of(config: dict[str, Any], class_name: str) -> dict[str, Any]:
    """The first call of a Functional model's layer."""
    node: dict[str, Any] = layer_of(config, class_name)["inbound_nodes"][0]
    return node


def output_of(config: dict[str, Any], reader: str) -> Any:
    """The tensor that a layer reads."""
    return call_of(config, reader)["args"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["config"].update(output_layers=[["dense", 0, 0], ["dropout", 0, 0]]), "2 outputs"),
        (lambda c: layer_of(c, "Dense")["inbound_nodes"].append(call_of(c, "Dense")), "is called 2 times"),
        (lambda c: call_of(c, "Dense")["args"].append(output_of(c, "Dropout")), "off the one line"),
        (lambda c: call_of(c, "Dense").update(args=[output_of(c, "Dropout")]), "off the one line"),
        (lambda c: call_of(c, "Bidirectional")["kwargs"].update(initial_state=[1]), "called with initial_state"),
        (lambda c: call_of(c, "Dropout")["kwargs"].update(training=True), "called with training"),
        (lambda c: call_of(c, "NotEqual").update(args=[*call_of(c, "NotEqual")["args"][:1], 5]), "called with mask"),
    ],
)  # fmt: skip
def test_a_functional_model_off_the_one_line_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read_keras(changed(tmp_path, "functional", change))


def with_weights(folder: Path, change: Callable[[h5py.File], object]) -> Path:
    members = members_of("lstm_sequence")
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    return write(folder, {**members, "model.weights.h5": buffer.getvalue()})


def replace_kernel(value: np.ndarray | None) -> Callable[[h5py.File], object]:
    def change(file: h5py.File) -> None:
        variables = file["layers/lstm/cell/vars"]
        del variables["0"]
        if value is not None:
            variables["0"] = value

    return change


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (None, InvalidData, "layer 'lstm.*' \\(LSTM\\): has no variable cell/vars/0"),
        (np.zeros((3, 19), np.float32), InvalidData, r"has shape \(3, 19\)"),
        (np.full((3, 20), np.nan, np.float32), InvalidData, "NaN or infinite.*diverged"),
        (np.zeros((3, 20), np.int8), UnsupportedModel, "holds int8 weights.*quantized"),
    ],
)
def test_weights_that_do_not_fit_the_layers_are_named(
    tmp_path: Path, value: np.ndarray | None, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        read_keras(with_weights(tmp_path, replace_kernel(value)))


@pytest.mark.parametrize("member", ["metadata.json", "config.json", "model.weights.h5"])
def test_an_archive_without_a_member_names_it(tmp_path: Path, member: str) -> None:
    members = members_of("lstm_sequence")
    del members[member]
    with pytest.raises(InvalidData, match=f"lacks.*{member}.*save it again"):
        read_keras(write(tmp_path, members))


@pytest.mark.parametrize(
    ("member", "content", "message"),
    [
        ("config.json", b"{", "config.json is not JSON"),
        ("config.json", b"[]", "config.json:"),
        (
            "config.json",
            b'{"module": "keras", "class_name": "Sequential", "config": {}}',
            "config.json: layers: Field required",
        ),
        ("model.weights.h5", b"\x89HDF\r\n\x1a\nno", "model.weights.h5 cannot be read"),
    ],
)
def test_a_damaged_member_is_named(tmp_path: Path, member: str, content: bytes, message: str) -> None:
    with pytest.raises(InvalidData, match=message):
        read_keras(write(tmp_path, {**members_of("lstm_sequence"), member: content}))


def test_a_file_that_is_not_a_keras_archive_says_what_to_do(tmp_path: Path) -> None:
    whole = (FOLDER / "lstm_sequence.keras").read_bytes()
    cases: list[tuple[str, bytes, type[Exception], str]] = [
        ("truncated.keras", whole[: len(whole) // 2], InvalidData, "cannot be read.*Copy or save it again"),
        ("empty.keras", b"", InvalidData, "is not a .keras file"),
        ("text.keras", b"hello", InvalidData, "is not a .keras file"),
        ("old.h5", b"\x89HDF\r\n\x1a\n....", UnsupportedModel, "HDF5 file.*save it again"),
    ]
    for name, content, error, message in cases:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(error, match=message):
            read_keras(tmp_path / name)
    with pytest.raises(InvalidData, match="no such file"):
        read_keras(tmp_path / "absent.keras")
    with pytest.raises(UnsupportedModel, match="is a folder"):
        read_keras(tmp_path)


def test_a_flipped_byte_is_found_by_the_archives_checksum(tmp_path: Path) -> None:
    content = bytearray((FOLDER / "lstm_step.keras").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (tmp_path / "flipped.keras").write_bytes(content)
    with pytest.raises(InvalidData, match="cannot be read"):
        read_keras(tmp_path / "flipped.keras")


def test_a_file_of_keras_2_is_refused_with_the_mend(tmp_path: Path) -> None:
    members = {**members_of("lstm_sequence"), "metadata.json": b'{"keras_version": "2.15.0"}'}
    with pytest.raises(UnsupportedModel, match=r"written by Keras 2\.15\.0.*Open it with Keras 3"):
        read_keras(write(tmp_path, members))
