"""The whole network in numpy against the same network written in torch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from gatewise.architecture import ModelConfig, Pooling
from gatewise.reference import classify, pool

LENGTHS = np.array([6, 1, 4])
B, T, H = 3, 6, 4
OUTPUTS = {
    "left_to_right": np.random.default_rng(0).normal(size=(B, T, H)),
    "right_to_left": np.random.default_rng(1).normal(size=(B, T, H)),
}


def sequences() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The real outputs of each sequence, in each direction."""
    for b, length in enumerate(LENGTHS):
        yield OUTPUTS["left_to_right"][b, :length], OUTPUTS["right_to_left"][b, :length]


def test_last_is_each_directions_own_last_step() -> None:
    expected = [np.concatenate([forward[-1], backward[0]]) for forward, backward in sequences()]
    np.testing.assert_array_equal(pool("last", OUTPUTS, LENGTHS, {}), expected)


def test_mean_and_max_go_over_real_steps_alone() -> None:
    both = [np.concatenate(pair, axis=1) for pair in sequences()]
    padded = {name: np.where(np.arange(T)[:, None] < LENGTHS[:, None, None], v, 1e9) for name, v in OUTPUTS.items()}
    for outputs in (OUTPUTS, padded):
        np.testing.assert_allclose(pool("mean", outputs, LENGTHS, {}), [s.mean(axis=0) for s in both], atol=1e-12)
        np.testing.assert_array_equal(pool("max", outputs, LENGTHS, {}), [s.max(axis=0) for s in both])


def test_attention_weighs_real_steps_by_the_softmax_of_their_scores() -> None:
    weight = np.random.default_rng(2).normal(size=(1, 2 * H))
    expected = []
    for pair in sequences():
        steps = torch.from_numpy(np.concatenate(pair, axis=1))
        shares = torch.softmax(steps @ torch.from_numpy(weight[0]), dim=0)
        expected.append((shares[:, None] * steps).sum(dim=0).numpy())
    np.testing.assert_allclose(pool("attention", OUTPUTS, LENGTHS, {"attention.weight": weight}), expected, atol=1e-12)


def test_attention_survives_scores_beyond_the_range_of_exp() -> None:
    weight = np.full((1, 2 * H), 1e4)
    assert np.isfinite(pool("attention", OUTPUTS, LENGTHS, {"attention.weight": weight})).all()


def network(config: ModelConfig) -> tuple[dict[str, torch.nn.Module], dict[str, np.ndarray]]:
    """A torch module for each part of the network, and all their weights by the architecture's names."""
    torch.manual_seed(0)
    module = torch.nn.LSTM if config.cell == "lstm" else torch.nn.GRU
    parts: dict[str, torch.nn.Module] = {}
    if config.vocab_size is not None and config.embedding_dim is not None:
        parts["embedding"] = torch.nn.Embedding(config.vocab_size, config.embedding_dim)
    size = config.feature_size
    for layer in range(config.num_layers):
        for direction in config.directions:
            parts[f"recurrent.{layer}.{direction}"] = module(size, config.hidden_size, batch_first=True)
        size = config.recurrent_size
    parts["attention"] = torch.nn.Linear(config.recurrent_size, 1, bias=False)
    size = config.pooled_size
    for i, units in enumerate(config.dense_sizes):
        parts[f"dense.{i}"] = torch.nn.Linear(size, units)
        size = units
    parts["output"] = torch.nn.Linear(size, config.num_classes)
    parts = {name: part.double() for name, part in parts.items()}
    weights = {f"{name}.{k}": v.numpy() for name, part in parts.items() for k, v in part.state_dict().items()}
    return parts, weights


def forward(config: ModelConfig, parts: dict[str, torch.nn.Module], x: torch.Tensor) -> torch.Tensor:
    """One sequence alone, unpadded, (1, T, ...)."""
    x = parts["embedding"](x) if config.kind == "text" else x
    for layer in range(config.num_layers):
        runs = [parts[f"recurrent.{layer}.left_to_right"](x)[0]]
        if config.bidirectional:
            runs.append(parts[f"recurrent.{layer}.right_to_left"](x.flip(1))[0].flip(1))
        x = torch.cat(runs, dim=2)
    if config.task == "sequence":
        H = config.hidden_size
        ways = {
            "last": torch.cat([x[:, -1, :H], x[:, 0, H:]], dim=1),
            "mean": x.mean(dim=1),
            "max": x.amax(dim=1),
            "attention": (torch.softmax(parts["attention"](x), dim=1) * x).sum(dim=1),
        }
        x = torch.cat([ways[method] for method in config.pooling], dim=1)
    for i in range(len(config.dense_sizes)):
        x = torch.relu(parts[f"dense.{i}"](x))
    logits: torch.Tensor = parts["output"](x)
    return logits


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("kind", ["text", "series"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("task", "pooling", "num_layers", "dense_sizes"),
    [
        ("sequence", ("last",), 1, (5,)),
        ("sequence", ("max", "last", "attention", "mean"), 2, (7, 5)),
        ("step", ("last",), 2, ()),
    ],
)
def test_a_padded_batch_gets_the_logits_that_torch_gives_each_sequence_alone(
    cell: str,
    kind: str,
    bidirectional: bool,
    task: str,
    pooling: tuple[Pooling, ...],
    num_layers: int,
    dense_sizes: tuple[int, ...],
) -> None:
    sizes = {"vocab_size": 9, "embedding_dim": 3} if kind == "text" else {"input_size": 3}
    config = ModelConfig.model_validate(
        {"kind": kind, "task": task, "cell": cell, "hidden_size": H, "num_layers": num_layers, "num_classes": 3}
        | {"bidirectional": bidirectional, "pooling": pooling, "dense_sizes": dense_sizes}
        | sizes
    )
    parts, weights = network(config)
    rng = np.random.default_rng(3)
    inputs = rng.integers(1, 9, size=(B, T)) if kind == "text" else rng.normal(size=(B, T, 3))
    logits = classify(config, weights, inputs, LENGTHS)
    assert logits.dtype == np.float64
    for b, length in enumerate(LENGTHS):
        with torch.no_grad():
            alone = forward(config, parts, torch.from_numpy(inputs[b : b + 1, :length]))[0].numpy()
        ours = logits[b, :length] if task == "step" else logits[b]
        np.testing.assert_allclose(ours, alone, rtol=0, atol=1e-12)
