"""Make the small `.keras` files of this folder, and beside each what Keras answers.

    pip install "keras>=3" torch
    KERAS_BACKEND=torch python tests/data/keras/make.py

`answers.json` holds, for each file, the inputs (token ids, or readings) and Keras's own outputs for them. Weights are
random, biases too: a zero bias would hide a swapped one.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import keras
import numpy as np
from keras import layers

FOLDER = Path(__file__).parent
CHANNELS, UNITS, CLASSES, WORDS = 3, 5, 3, 11


def models() -> dict[str, keras.Model]:
    """The models by file name; between them they use everything that is imported."""
    return {
        "lstm_step": series(layers.LSTM(UNITS, return_sequences=True), *head(per_step=True)),
        "gru_step": series(layers.GRU(UNITS, return_sequences=True), *head(per_step=True)),
        "lstm_sequence": series(layers.LSTM(UNITS, dropout=0.2), *head()),
        "gru_sequence": series(layers.GRU(UNITS), *head()),
        "gru_reset_before": series(layers.GRU(UNITS, reset_after=False), *head()),
        "gru_reset_before_step": series(
            layers.GRU(UNITS, reset_after=False, return_sequences=True), layers.Dense(CLASSES, activation="softmax")
        ),
        "lstm_without_bias": series(layers.LSTM(UNITS, use_bias=False), layers.Dense(CLASSES, use_bias=False)),
        "gru_without_bias": series(layers.GRU(UNITS, use_bias=False), *head()),
        "bidirectional_lstm": series(layers.Bidirectional(layers.LSTM(UNITS)), *head()),
        "bidirectional_gru_step": series(
            layers.Bidirectional(layers.GRU(UNITS, reset_after=False, return_sequences=True)), *head(per_step=True)
        ),
        "stack": series(
            layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)),
            layers.Dropout(0.3),
            layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True)),
            layers.Activation("linear"),
            layers.GlobalAveragePooling1D(),
            layers.Dense(6, activation="relu"),
            *head(),
        ),
        "max_pooling": series(layers.GRU(UNITS, return_sequences=True), layers.GlobalMaxPooling1D(), *head()),
        "text": text(layers.Embedding(WORDS, 4), layers.SpatialDropout1D(0.2), layers.LSTM(UNITS), *head()),
        "text_masked": text(
            layers.Embedding(WORDS, 4, mask_zero=True), layers.Bidirectional(layers.GRU(UNITS)), *head()
        ),
        "two_classes": text(layers.Embedding(WORDS, 4), layers.GRU(UNITS), layers.Dense(1, activation="sigmoid")),
        "functional": functional(),
    }


def head(*, per_step: bool = False) -> list[keras.Layer]:
    dense = layers.Dense(4, activation="relu")
    return [layers.TimeDistributed(dense) if per_step else dense, layers.Dense(CLASSES, activation="softmax")]


def series(*parts: keras.Layer) -> keras.Model:
    return keras.Sequential([layers.Input((None, CHANNELS)), *parts])


def text(*parts: keras.Layer) -> keras.Model:
    return keras.Sequential([layers.Input((None,), dtype="int32"), *parts])


def functional() -> keras.Model:
    """Embedding(mask_zero=True) gives every layer above a mask, which a Functional model's file spells out."""
    ids = layers.Input((None,), dtype="int32")
    hidden = layers.Embedding(WORDS, 4, mask_zero=True)(ids)
    hidden = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True))(hidden)
    hidden = layers.Bidirectional(layers.LSTM(UNITS, return_sequences=True))(hidden)
    hidden = layers.TimeDistributed(layers.Dense(4, activation="relu"))(layers.Dropout(0.1)(hidden))
    return keras.Model(ids, layers.Dense(CLASSES, activation="softmax")(hidden))


def inputs(model: keras.Model, rng: np.random.Generator) -> list[np.ndarray]:
    """Two sequences of unequal length, each given to Keras alone."""
    if len(model.input_shape) == 2:
        return [rng.integers(1, WORDS, size=length) for length in (7, 3)]
    return [rng.normal(size=(length, CHANNELS)).round(3) for length in (7, 3)]


def compress(path: Path) -> None:
    """Keras stores the members as they are, ten times what they need; one file stays as Keras wrote it."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def main() -> None:
    answers = {}
    for seed, (name, model) in enumerate(models().items()):
        rng = np.random.default_rng(seed)
        model.set_weights([rng.normal(scale=0.6, size=weight.shape) for weight in model.get_weights()])
        sequences = inputs(model, rng)
        outputs = [np.asarray(model.predict(sequence[None], verbose=0))[0] for sequence in sequences]
        answers[name] = {
            "inputs": [sequence.tolist() for sequence in sequences],
            "outputs": [output.astype("float64").round(9).tolist() for output in outputs],
        }
        model.save(FOLDER / f"{name}.keras")
        if name != "lstm_step":
            compress(FOLDER / f"{name}.keras")
    lines = [f"{json.dumps(name)}: {json.dumps(answer)}" for name, answer in answers.items()]
    (FOLDER / "answers.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
