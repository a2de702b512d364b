"""A Keras file in the store: it answers with Keras's own stored probabilities, and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.errors import InvalidConfig, InvalidData, ModelNotFound
from gatewise.predictor import Predictor
from gatewise.store import Store
from training.importing import import_keras_file

FOLDER = Path(__file__).parents[2] / "data" / "keras"
ANSWERS = json.loads((FOLDER / "answers.json").read_text())
TEXTS = {"text", "text_masked", "two_classes", "functional"}
# These end in Dense(classes) without a softmax: Keras answers logits.
LOGITS = {"lstm_without_bias"}
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    # As TextVectorization.get_vocabulary() gives it: "" for padding, [UNK], and the words.
    path = tmp_path / "vocabulary.txt"
    path.write_text("\n".join(["", "[UNK]", *WORDS[2:]]) + "\n", encoding="utf-8")
    return path


def probabilities(predictor: Predictor, item: Any) -> np.ndarray:
    answer = predictor.predict([item], probabilities=True)[0]
    found = answer.probabilities
    assert found is not None
    rows = found if isinstance(found, list) else [found]
    values = np.array([list(row.values()) for row in rows])
    return values if isinstance(found, list) else values[0]


@pytest.mark.parametrize("engine", ["onnx", "torch"])
@pytest.mark.parametrize("name", sorted(ANSWERS))
def test_the_registered_model_answers_as_keras_did(name: str, engine: Any, vocabulary: Path) -> None:
    version = import_keras_file(FOLDER / f"{name}.keras", vocabulary=vocabulary if name in TEXTS else None)
    predictor = Predictor.load(version.path, engine=engine)
    for sequence, expected in zip(ANSWERS[name]["inputs"], ANSWERS[name]["outputs"], strict=True):
        item: Any = sequence
        if name in TEXTS:
            words = [WORDS[i] if i > 1 else "unheard" for i in sequence]
            item = words if predictor.manifest.task == "step" else " ".join(words)
        expected = np.array(expected)
        if name in LOGITS:
            expected = np.exp(expected) / np.exp(expected).sum(axis=-1, keepdims=True)
        if expected.shape[-1] == 1:
            expected = np.concatenate([1 - expected, expected], axis=-1)
        np.testing.assert_allclose(probabilities(predictor, item), expected, rtol=0, atol=1e-5)


def test_names_of_labels_and_channels_are_taken(tmp_path: Path) -> None:
    version = import_keras_file(
        FOLDER / "lstm_sequence.keras", name="vowels", labels=("a", "e", "i"), channels=("x", "y", "z")
    )
    assert version.name == "vowels"
    manifest = Predictor.load(version.path).manifest
    assert (manifest.labels, manifest.channels) == (("a", "e", "i"), ("x", "y", "z"))
    assert import_keras_file(FOLDER / "lstm_sequence.keras").name == "lstm-sequence"
    assert Predictor.load(Store().get("lstm-sequence").path).manifest.labels == ("0", "1", "2")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("lstm_sequence", {"labels": ("a", "b")}, "^--labels: 2 names for 3 classes"),
        ("lstm_sequence", {"labels": ("a", "b", "a")}, "^--labels: a name stands twice"),
        ("lstm_sequence", {"channels": ("a",)}, "^--channels: 1 names for 3 channels"),
        ("text", {}, "^--vocabulary: the model takes token ids"),
        ("text", {"vocabulary": "nowhere.txt"}, "^--vocabulary: nowhere.txt cannot be read"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_by_its_flag(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidConfig, match=message):
        import_keras_file(FOLDER / f"{name}.keras", **options)
    with pytest.raises(ModelNotFound):
        Store().get(name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n[UNK]\n" + "\n".join(map(str, range(10))), "12 tokens for an Embedding of 11"),
        ("\n[UNK]\nsame\nother\nsame\n", "a token stands twice"),
        (b"\n[UNK]\n\xff\n", "cannot be read as UTF-8"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidConfig, match=f"^--vocabulary: .*{message}"):
        import_keras_file(FOLDER / "text.keras", vocabulary=path)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidData, match=r"nowhere\.keras: there is no such file"):
        import_keras_file("nowhere.keras")
