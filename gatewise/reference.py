"""The whole classifier in numpy, from `cells.py` to the logits: what the torch model and the ONNX graph are held to.

B batch, T timesteps, C channels, F features, S channels of a convolution, D directions, H hidden, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import LEFT_TO_RIGHT, ModelConfig, Pooling
from gatewise.cells import Array, run_layers

_NORM_EPSILON = 1e-5


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
    recurrent_inputs, steps = stem(config, weights, features, lengths)
    runs = run_layers(config, weights, recurrent_inputs, steps)[-1]
    outputs = {direction: run.outputs for direction, run in runs.items()}
    if config.task == "step":
        hidden = np.concatenate([*outputs.values(), *([features] if config.skip else [])], axis=2)
    else:
        summaries = [pool(method, outputs, steps, weights) for method in config.pooling]
        hidden = np.concatenate([*summaries, *branch(config, weights, features, lengths)], axis=1)
    for i in range(len(config.dense_sizes)):
        hidden = np.maximum(hidden @ weights[f"dense.{i}.weight"].T + weights[f"dense.{i}.bias"], 0)
    logits: Array = hidden @ weights["output.weight"].T + weights["output.bias"]
    return logits


def stem(
    config: ModelConfig, weights: Mapping[str, Array], features: Array, lengths: Array
) -> tuple[Array, NDArray[np.int64]]:
    """Return what the first recurrent layer reads of (B, T, F), and how many steps (B,) of it are real.

    Without a stem that is the features themselves; with one, a step for every `stem_stride` of them.
    """
    if config.stem_stride == 1:
        return features, lengths
    steps = -(-lengths // config.stem_stride)
    return _convolve(weights, "stem", _silenced(features, lengths), steps, config.stem_stride), steps


def branch(config: ModelConfig, weights: Mapping[str, Array], features: Array, lengths: Array) -> list[Array]:
    """Return the branch's average over each sequence's real steps, (B, S), in a list that is empty without a branch."""
    if not config.branch_channels:
        return []
    x = _silenced(features, lengths)
    for i in range(len(config.branch_channels)):
        x = _convolve(weights, f"branch.{i}", x, lengths)
    return [x.sum(axis=1) / lengths[:, None].astype(x.dtype)]


def _convolve(weights: Mapping[str, Array], name: str, x: Array, lengths: Array, stride: int = 1) -> Array:
    """Convolve (B, T, F) with zeros around it, normalize by channel, relu; zero beyond the outputs' lengths (B,)."""
    kernel = weights[f"{name}.conv.weight"]
    half = kernel.shape[2] // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, ((0, 0), (half, half), (0, 0))), 2 * half + 1, axis=1)
    y = np.einsum("btfk,sfk->bts", windows[:, ::stride], kernel)
    weight, bias, mean, variance = (weights[f"{name}.norm.{part}"] for part in ("weight", "bias", "mean", "variance"))
    y = (y - mean) / np.sqrt(variance + _NORM_EPSILON) * weight + bias
    return _silenced(np.maximum(y, 0), lengths)


def _silenced(x: Array, lengths: Array) -> Array:
    """(B, T, F) with zeros beyond each length."""
    return np.where((np.arange(x.shape[1]) < lengths[:, None])[:, :, None], x, np.zeros((), dtype=x.dtype))


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
