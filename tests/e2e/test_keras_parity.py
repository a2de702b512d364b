"""The documented models, built and run by a real Keras, against what Gatewise makes of their files.

Keras is installed into a temporary folder for this test alone and runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gatewise.reference import classify
from training.keras_import import read_keras

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(900)]

CHANNELS, CLASSES, BATCH = 8, 6, 3
CASES = [
    (cell, reset_after, timesteps, seed)
    for cell, reset_after in [("LSTM", True), ("GRU", True), ("GRU", False)]
    for timesteps, seed in [(20, 1), (64, 2), (128, 3)]
]
NEEDED = ["keras>=3", "namex", "optree", "absl-py", "ml-dtypes"]

# argv: folder, cases, channels, classes, batch
BUILD = """
import json, sys
import keras, numpy as np
folder, cases, channels, classes, batch = sys.argv[1], *map(json.loads, sys.argv[2:])
for i, (cell, reset_after, timesteps, seed) in enumerate(cases):
    keras.utils.set_random_seed(seed)
    options = {"reset_after": reset_after} if cell == "GRU" else {}
    model = keras.Sequential([
        keras.Input((timesteps, channels)),
        getattr(keras.layers, cell)(128, return_sequences=True, **options),
        keras.layers.Dense(64, activation="relu"),
        keras.layers.Dense(classes, activation="softmax"),
    ])
    rng = np.random.default_rng(seed)
    # Keras begins with biases of zero and one, which would hide a swapped one; its kernels stay as they are.
    is_bias = [weight.path.endswith("bias") for weight in model.weights]
    values = zip(model.get_weights(), is_bias)
    model.set_weights([rng.normal(scale=0.3, size=v.shape) if bias else v for v, bias in values])
    model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
    inputs = rng.normal(size=(batch, timesteps, channels)).astype("float32")
    np.savez(f"{folder}/{i}.npz", inputs=inputs, outputs=model.predict(inputs, verbose=0))
    model.save(f"{folder}/{i}.keras")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file and the answers of each case, made by Keras on the torch that is installed."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("models")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), *NEEDED]
    installed = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if installed.returncode:
        pytest.skip(f"Keras could not be installed: {installed.stderr.strip().splitlines()[-1:]}")
    # KERAS_HOME keeps the user's ~/.keras/keras.json, which may choose another precision, out of the test.
    keras = {"KERAS_BACKEND": "torch", "KERAS_HOME": str(site / "home"), "PYTHONPATH": str(site)}
    arguments = [str(folder), *map(json.dumps, (CASES, CHANNELS, CLASSES, BATCH))]
    command = [sys.executable, "-c", BUILD, *arguments]
    ran = subprocess.run(command, env={**os.environ, **keras}, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    return folder


@pytest.mark.parametrize("case", range(len(CASES)), ids=["-".join(map(str, case)) for case in CASES])
def test_the_documented_model_answers_as_real_keras_does(built: Path, case: int) -> None:
    cell, reset_after, timesteps, _ = CASES[case]
    answers = np.load(built / f"{case}.npz")
    model = read_keras(built / f"{case}.keras")
    logits = classify(model.config, model.weights, answers["inputs"], np.full(BATCH, timesteps))
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    ours = shares / shares.sum(axis=-1, keepdims=True)
    assert (model.config.cell, model.config.reset_after) == (cell.lower(), reset_after)
    assert (model.config.task, model.config.hidden_size, model.config.dense_sizes) == ("step", 128, (64,))
    assert ours.shape == (BATCH, timesteps, CLASSES)
    np.testing.assert_allclose(ours, answers["outputs"], rtol=0, atol=1e-5)
