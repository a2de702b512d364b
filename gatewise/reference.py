"""The whole classifier in numpy, from `cells.py` to the logits: what the torch model and the ONNX graph are held to.

B batch, T timesteps, C channels, D directions, H hidden, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gatewise.architecture import LEFT_TO_RIGHT, ModelConfig, Pooling
from gatewise.cells import Array, run_layers


def classify(config: ModelConfig, weights: Mapping[str, Array], inputs: Array, lengths: Array) -> Array:
    """Return the logits of a right-padded batch, in the weights' dtype.

    Args:
        weights: by the names of `gatewise.architecture`.
        inputs: embedded tokens or encoded readings, (B, T, F); token ids (B, T) are looked up in `embedding.weight`.
        lengths: real timesteps of each sequence, (B,), each at least 1.
    Returns:
        (B, K), or (B, T, K) for a model that labels each step; beyond a sequence's length they mean nothing.
    Raises:
        ShapeMismatch: the inputs do not fit the weights or the lengths.
    """
    inputs, lengths = np.asarray(inputs), np.asarray(lengths)
    features = weights["embedding.weight"][inputs] if inputs.ndim == 2 else inputs
    runs = run_layers(config, weights, features, lengths)[-1]
    outputs = {direction: run.outputs for direction, run in runs.items()}
    if config.task == "step":
        hidden = np.concatenate(list(outputs.values()), axis=2)
    else:
        hidden = np.concatenate([pool(method, outputs, lengths, weights) for method in config.pooling], axis=1)
    for i in range(len(config.dense_sizes)):
        hidden = np.maximum(hidden @ weights[f"dense.{i}.weight"].T + weights[f"dense.{i}.bias"], 0)
    return hidden @ weights["output.weight"].T + weights["output.bias"]


def pool(method: Pooling, outputs: Mapping[str, Array], lengths: Array, weights: Mapping[str, Array]) -> Array:
    """Return one vector (B, D*H) for each sequence, of its real timesteps alone.

    Args:
        method: "last" takes each direction's own last step, which is step 0 for right_to_left; "mean" and "max" go
            over the steps; "attention" is the mean weighted by the softmax of outputs @ attention.weight.
        outputs: the last layer's outputs in each direction, (B, T, H).
    """
    if method == "last":
        rows = np.arange(len(lengths))
        ends = {direction: lengths - 1 if direction == LEFT_TO_RIGHT else 0 for direction in outputs}
        return np.concatenate([values[rows, ends[direction]] for direction, values in outputs.items()], axis=1)
    hidden = np.concatenate(list(outputs.values()), axis=2)
    is_real = (np.arange(hidden.shape[1]) < lengths[:, None])[:, :, None]
    pooled: Array
    if method == "mean":
        pooled = hidden.sum(axis=1, where=is_real) / lengths[:, None].astype(hidden.dtype)
    elif method == "max":
        pooled = hidden.max(axis=1, where=is_real, initial=-np.inf)
    else:
        scores = np.where(is_real, hidden @ weights["attention.weight"].T, -np.inf)
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        pooled = (hidden * shares).sum(axis=1) / shares.sum(axis=1)
    return pooled
