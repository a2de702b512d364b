"""The torch network against the numpy reference, and what a batch, padding and dropout may not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.architecture import ModelConfig
from gatewise.batch import collate
from gatewise.model import LockedDropout, SequenceClassifier
from tests.artifacts import (
    CELLS,
    HEADS,
    PER_STEP,
    Weights,
    classifier_weights,
    config_of,
    expected_logits,
    inputs_of,
    weights_of,
)

LENGTHS = (6, 1, 9, 2)
DROPOUT = {"embedding_dropout": 0.5, "recurrent_dropout": 0.5, "dense_dropout": 0.5}


def network(config: ModelConfig, weights: Weights) -> SequenceClassifier:
    """The network with these weights, ready to answer; every name and shape must fit."""
    model = SequenceClassifier(config)
    own = classifier_weights(weights)
    model.load_state_dict({name: torch.from_numpy(array) for name, array in own.items()}, strict=True)
    return model.eval()


def logits_of(model: SequenceClassifier, sequences: list[np.ndarray], padding: int = 0) -> list[np.ndarray]:
    """Logits of each sequence in one batch, padded by so many more steps than the longest."""
    batch = collate(sequences)
    steps = [(0, padding) if axis == 1 else (0, 0) for axis in range(batch.inputs.ndim)]
    with torch.inference_mode():
        logits = model(torch.from_numpy(np.pad(batch.inputs, steps)), torch.from_numpy(batch.lengths)).numpy()
    per_step = model.config.task == "step"
    return [row[:length] if per_step else row for row, length in zip(logits, batch.lengths, strict=True)]


@pytest.mark.parametrize("kind", ["text", "series"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_padded_batch_gets_the_references_logits(
    kind: str, head: str, num_layers: int, bidirectional: bool, cell: str
) -> None:
    config = config_of(kind, cell, head, num_layers=num_layers, bidirectional=bidirectional)
    weights = weights_of(config)
    sequences = [inputs_of(config, length) for length in LENGTHS]
    model = network(config, weights)
    for sequence, logits in zip(sequences, logits_of(model, sequences), strict=True):
        np.testing.assert_allclose(logits, expected_logits(config, weights, sequence), rtol=0, atol=1e-6)
    in_double = [inputs.astype(np.float64) for inputs in sequences]
    for sequence, logits in zip(in_double, logits_of(model.double(), in_double), strict=True):
        np.testing.assert_allclose(logits, expected_logits(config, weights, sequence), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dense_sizes", [(), (7, 5)])
@pytest.mark.parametrize("head", ["last", "step"])
def test_dense_layers_may_be_none_or_several(dense_sizes: tuple[int, ...], head: str) -> None:
    config = config_of("series", head=head, dense_sizes=dense_sizes)
    weights, sequence = weights_of(config), inputs_of(config, 5)
    [logits] = logits_of(network(config, weights), [sequence])
    np.testing.assert_allclose(logits, expected_logits(config, weights, sequence), rtol=0, atol=1e-6)


PROPERTY_MODELS = [
    network(config, weights_of(config))
    for config in (
        config_of("text", "lstm", "all", num_layers=2, bidirectional=True),
        config_of("text", "gru_reset_before", "step", bidirectional=True),
        config_of("series", "gru", "all", bidirectional=True),
        config_of("series", "lstm", "step", num_layers=2),
        config_of("series", "lstm", "stem_branch", bidirectional=True),
        config_of("text", "gru", "branch", bidirectional=True),
        config_of("series", "gru", "stem", bidirectional=True, stem_stride=7),
        config_of("text", "lstm", "skip", bidirectional=True),
    )
]


@settings(deadline=None, max_examples=40)
@given(
    model=st.sampled_from(PROPERTY_MODELS),
    length=st.integers(1, 30),
    mates=st.lists(st.integers(1, 40), max_size=5),
    place=st.integers(0, 5),
    padding=st.integers(0, 50),
    seed=st.integers(0, 1000),
)
def test_neither_padding_nor_batch_mates_change_logits(
    model: SequenceClassifier, length: int, mates: list[int], place: int, padding: int, seed: int
) -> None:
    sequence = inputs_of(model.config, length, seed)
    batch = [inputs_of(model.config, mate, seed + 1) for mate in mates]
    place = min(place, len(batch))
    batch.insert(place, sequence)
    [alone] = logits_of(model, [sequence])
    [padded] = logits_of(model, [sequence], padding)
    batched = logits_of(model, batch, padding)[place]
    np.testing.assert_allclose(padded, alone, rtol=0, atol=2e-6)
    np.testing.assert_allclose(batched, alone, rtol=0, atol=2e-6)


@pytest.mark.parametrize("head", HEADS)
def test_what_stands_in_the_padding_reaches_neither_logits_nor_gradients(head: str) -> None:
    # Without dense layers, whose relu might stop the gradient of a whole sequence.
    config = config_of("series", "gru", head, num_layers=2, bidirectional=True, dense_sizes=())
    model = network(config, weights_of(config))
    batch = collate([inputs_of(config, length) for length in LENGTHS])
    lengths = torch.from_numpy(batch.lengths)
    inputs = torch.from_numpy(np.where(batch.mask[..., None], batch.inputs, np.float32(1e6))).requires_grad_()
    logits = model(inputs, lengths)
    clean = model(torch.from_numpy(batch.inputs), lengths)
    real = torch.from_numpy(batch.mask) if head in PER_STEP else slice(None)
    np.testing.assert_allclose(logits[real].detach(), clean[real].detach(), rtol=0, atol=2e-6)
    logits[real].sum().backward()
    assert inputs.grad is not None
    gradient = inputs.grad.numpy()
    assert not gradient[~batch.mask].any()
    assert gradient[batch.mask].all()


@pytest.mark.parametrize("kind", ["text", "series"])
@pytest.mark.parametrize("head", ["all", "step"])
def test_dropout_is_off_when_the_network_answers(kind: str, head: str) -> None:
    config = config_of(kind, head=head)
    with_dropout = config.model_copy(update=DROPOUT)
    weights = weights_of(config)
    sequences = [inputs_of(config, length) for length in LENGTHS]
    model = network(with_dropout, weights)
    for one, other in zip(logits_of(network(config, weights), sequences), logits_of(model, sequences), strict=True):
        np.testing.assert_array_equal(one, other)
    model.train()
    # Two draws of so few units can be the same, eight are not.
    torch.manual_seed(0)
    assert len({logits_of(model, sequences)[0].tobytes() for _ in range(8)}) > 1


def test_locked_dropout_drops_the_same_features_at_every_step_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    p, B, T, F = 0.3, 40, 7, 250
    x = torch.randn(B, T, F)
    factors = (LockedDropout(p).train()(x) / x).numpy()
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1], (B, T, F)), rtol=1e-6)
    kept = factors[:, 0] > 0
    np.testing.assert_allclose(factors[:, 0][kept], 1 / (1 - p), rtol=1e-6)
    # A share of B*F = 10,000 draws stays within four of its standard deviations.
    assert abs(kept.mean() - (1 - p)) < 4 * np.sqrt(p * (1 - p) / (B * F))
    assert abs(factors.mean() - 1) < 4 * np.sqrt(p / (1 - p) / (B * F))
    assert (kept != kept[0]).any(axis=1)[1:].all(), "each sequence has features of its own dropped"


def test_locked_dropout_does_nothing_in_eval_or_at_zero() -> None:
    x = torch.randn(2, 3, 4)
    assert LockedDropout(0.9).eval()(x) is x
    assert LockedDropout(0.0).train()(x) is x


@pytest.mark.parametrize("cell", CELLS)
def test_weights_begin_as_keras_draws_them(cell: str) -> None:
    torch.manual_seed(1)
    config = config_of("text", cell, "last", hidden_size=32, bidirectional=True, dense_sizes=(16,))
    weights = {name: value.numpy() for name, value in SequenceClassifier(config).state_dict().items()}
    for prefix in ("recurrent.0.left_to_right", "recurrent.0.right_to_left"):
        U, W = weights[f"{prefix}.weight_hh_l0"], weights[f"{prefix}.weight_ih_l0"]
        np.testing.assert_allclose(U.T @ U, np.eye(32), atol=1e-5)
        assert 0.9 < np.abs(W).max() / np.sqrt(6 / sum(W.shape)) <= 1
        forget = np.zeros(len(U))
        forget[32:64] = 1.0 if cell == "lstm" else 0.0
        np.testing.assert_array_equal(weights[f"{prefix}.bias_ih_l0"] + weights[f"{prefix}.bias_hh_l0"], forget)
    for name in ("dense.0", "output"):
        W = weights[f"{name}.weight"]
        assert 0.8 < np.abs(W).max() / np.sqrt(6 / sum(W.shape)) <= 1
        assert not weights[f"{name}.bias"].any()
