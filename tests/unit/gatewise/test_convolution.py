"""The stem and the branch: the reference against loops and torch's own layers, and their normalization in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from gatewise.batch import collate
from gatewise.convolution import ConvBlock, ConvBranch, StepNorm, silenced
from gatewise.model import SequenceClassifier
from gatewise.reference import branch, stem
from tests.artifacts import Weights, block_by_hand, config_of, inputs_of, weights_of

LENGTHS = np.array([11, 1, 4, 8, 2])


def in_double(weights: Weights) -> Weights:
    return {name: array.astype(np.float64) for name, array in weights.items()}


def padded(sequences: list[np.ndarray], beyond: float = 0.0) -> np.ndarray:
    """A batch in float64, with this value in its padding."""
    batch = collate([sequence.astype(np.float64) for sequence in sequences])
    filled: np.ndarray = np.where(batch.mask[..., None], batch.inputs, beyond)
    return filled


# The reference


@pytest.mark.parametrize("stride", [2, 3, 4, 7, 30])
@pytest.mark.parametrize("beyond", [0.0, 1e6])
def test_the_references_stem_is_the_sum_over_what_each_kernel_sees(stride: int, beyond: float) -> None:
    config = config_of("series", stem_stride=stride, stem_channels=6)
    weights = in_double(weights_of(config))
    sequences = [inputs_of(config, int(length)) for length in LENGTHS]
    outputs, steps = stem(config, weights, padded(sequences, beyond), LENGTHS)
    for row, count, sequence in zip(outputs, steps, sequences, strict=True):
        expected = block_by_hand(weights, "stem", sequence.astype(np.float64), stride)
        assert len(expected) == count
        np.testing.assert_allclose(row[:count], expected, rtol=0, atol=1e-12)
        assert not row[count:].any()


@pytest.mark.parametrize("beyond", [0.0, 1e6])
def test_the_references_branch_is_the_average_of_its_last_block_over_real_steps(beyond: float) -> None:
    config = config_of("series", head="stem_branch")
    weights = in_double(weights_of(config))
    sequences = [inputs_of(config, int(length)) for length in LENGTHS]
    [summaries] = branch(config, weights, padded(sequences, beyond), LENGTHS)
    for summary, sequence in zip(summaries, sequences, strict=True):
        x = sequence.astype(np.float64)
        for i in range(3):
            x = block_by_hand(weights, f"branch.{i}", x)
        np.testing.assert_allclose(summary, x.mean(axis=0), rtol=0, atol=1e-12)


def test_without_stem_and_branch_the_features_go_to_the_recurrence_as_they_are() -> None:
    config = config_of("series")
    features = np.ones((5, 11, 3))
    outputs, steps = stem(config, {}, features, LENGTHS)
    assert outputs is features
    assert steps is LENGTHS
    assert branch(config, {}, features, LENGTHS) == []


@settings(deadline=None, max_examples=60)
@given(length=st.integers(1, 40), stride=st.integers(2, 12), seed=st.integers(0, 100))
def test_a_stem_is_torchs_strided_convolution_and_normalization(length: int, stride: int, seed: int) -> None:
    config = config_of("series", stem_stride=stride, stem_channels=4)
    weights = in_double(weights_of(config, seed))
    x = inputs_of(config, length, seed).astype(np.float64)
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    y = functional.conv1d(torch.from_numpy(x.T)[None], tensors["stem.conv.weight"], stride=stride, padding=stride)
    norm = (tensors[f"stem.norm.{part}"] for part in ("mean", "variance", "weight", "bias"))
    expected = torch.relu(functional.batch_norm(y, *norm, training=False))[0].T.numpy()
    outputs, [steps] = stem(config, weights, x[None], np.array([length]))
    assert steps == len(expected) == -(-length // stride)
    np.testing.assert_allclose(outputs[0], expected, rtol=0, atol=1e-12)


# The network's layers, answering


def loaded(layer: Any, weights: Weights, name: str) -> Any:
    own = {key.removeprefix(f"{name}."): torch.from_numpy(array) for key, array in weights.items() if name in key}
    layer.load_state_dict(own, strict=True)
    return layer.double().eval()


@pytest.mark.parametrize("stride", [2, 3, 30])
def test_a_block_gives_every_sequence_of_a_batch_what_it_gets_alone(stride: int) -> None:
    config = config_of("series", stem_stride=stride, stem_channels=6)
    weights = weights_of(config)
    block = loaded(ConvBlock(3, 6, 2 * stride + 1, stride), weights, "stem")
    sequences = [inputs_of(config, int(length)) for length in LENGTHS]
    steps = -(-LENGTHS // stride)
    mask = torch.from_numpy(np.arange(steps.max()) < steps[:, None])
    outputs = block(torch.from_numpy(padded(sequences)).transpose(1, 2), mask).detach().numpy()
    for row, count, sequence in zip(outputs, steps, sequences, strict=True):
        expected = block_by_hand(in_double(weights), "stem", sequence.astype(np.float64), stride)
        np.testing.assert_allclose(row[:, :count].T, expected, rtol=0, atol=1e-12)
        assert not row[:, count:].any()


def test_a_branch_answers_alike_with_a_mask_and_where_none_is_needed() -> None:
    config = config_of("series", head="stem_branch")
    weights = weights_of(config)
    layer = loaded(ConvBranch(config), weights, "branch")
    x = torch.from_numpy(np.stack([inputs_of(config, 9, seed) for seed in range(3)]).astype(np.float64)).transpose(1, 2)
    lengths = torch.full((3,), 9)
    np.testing.assert_allclose(
        layer(x, lengths, torch.ones(3, 9, dtype=torch.bool)).detach(), layer(x, lengths, None).detach(), atol=1e-12
    )


def test_silencing_leaves_real_steps_and_clears_the_rest_whatever_stands_there() -> None:
    x = torch.full((2, 3, 4), float("nan"))
    x[0, :, :2] = 5.0
    x[1, :, :4] = 7.0
    mask = torch.tensor([[True, True, False, False], [True] * 4])
    np.testing.assert_array_equal(silenced(x, mask)[0], [[5, 5, 0, 0]] * 3)
    np.testing.assert_array_equal(silenced(x, mask)[1], [[7] * 4] * 3)
    assert silenced(x, None) is x


# Normalization in training


def steps_of(x: torch.Tensor, lengths: list[int]) -> np.ndarray:
    """The real steps of (B, S, T), one under another."""
    return np.concatenate([row[:, :length].T for row, length in zip(x.numpy(), lengths, strict=True)])


def test_in_training_the_statistics_are_those_of_the_real_steps_alone() -> None:
    torch.manual_seed(0)
    lengths = [5, 1, 3]
    x = torch.randn(3, 4, 5, dtype=torch.float64) * 3 + 2
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    norm = StepNorm(4).double().train()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0, 0.5]))
        norm.bias.copy_(torch.tensor([0.0, 1.0, 0.0, -2.0]))
    outputs = norm(torch.where(mask[:, None], x, 1e9), mask).detach()
    real = steps_of(x, lengths)
    mean, variance = real.mean(axis=0), real.var(axis=0)
    expected = (real - mean) / np.sqrt(variance + 1e-5) * norm.weight.detach().numpy() + norm.bias.detach().numpy()
    np.testing.assert_allclose(steps_of(outputs, lengths), expected, rtol=0, atol=1e-10)
    # The running ones start at 0 and 1, move by a tenth, and take the sample variance, as torch's do.
    np.testing.assert_allclose(norm.mean, 0.1 * mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(norm.variance, 0.9 + 0.1 * real.var(axis=0, ddof=1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("with_mask", [False, True])
def test_where_every_step_is_real_it_is_torchs_batch_normalization(with_mask: bool) -> None:
    torch.manual_seed(0)
    ours, theirs = StepNorm(3).double().train(), torch.nn.BatchNorm1d(3).double().train()
    mask = torch.ones(4, 6, dtype=torch.bool) if with_mask else None
    for step in range(5):
        x = torch.randn(4, 3, 6, dtype=torch.float64) * (step + 1)
        np.testing.assert_allclose(ours(x, mask).detach(), theirs(x).detach(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.mean, theirs.running_mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.variance, theirs.running_var, rtol=0, atol=1e-12)
    ours.eval(), theirs.eval()
    x = torch.randn(2, 3, 5, dtype=torch.float64)
    mask = torch.tensor([[True] * 5, [True, False, False, False, False]]) if with_mask else None
    np.testing.assert_allclose(ours(x, mask).detach(), theirs(x).detach(), rtol=0, atol=1e-12)


def test_unequal_lengths_gather_the_running_statistics_that_torch_gathers_of_the_steps_in_one_row() -> None:
    torch.manual_seed(0)
    ours, theirs = StepNorm(3).double().train(), torch.nn.BatchNorm1d(3).double().train()
    for lengths in ([5, 2, 1], [4, 4, 3], [1, 1, 1]):
        x = torch.randn(3, 3, max(lengths), dtype=torch.float64)
        mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
        ours(x, mask)
        theirs(torch.from_numpy(steps_of(x, lengths)))
    np.testing.assert_allclose(ours.mean, theirs.running_mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(ours.variance, theirs.running_var, rtol=0, atol=1e-12)


def test_the_gradient_of_a_normalized_batch_is_that_of_its_real_steps() -> None:
    torch.manual_seed(0)
    lengths = [5, 1, 3]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(9, 4, dtype=torch.float64)
    outputs = StepNorm(4).double().train()(x, mask)
    (outputs.transpose(1, 2)[mask] * weights).sum().backward()
    real = x.detach().transpose(1, 2)[mask].requires_grad_()
    normalized = (real - real.mean(dim=0)) / (real.var(dim=0, unbiased=False) + 1e-5).sqrt()
    (normalized * weights).sum().backward()
    assert x.grad is not None
    assert real.grad is not None
    np.testing.assert_allclose(x.grad.transpose(1, 2)[mask], real.grad, rtol=0, atol=1e-10)
    assert not x.grad.transpose(1, 2)[~mask].any()


@pytest.mark.parametrize("with_mask", [False, True])
def test_a_single_real_step_is_normalized_by_what_was_gathered_before(with_mask: bool) -> None:
    # One number has no variance; a last batch of one short series must not end a training.
    norm = StepNorm(2).train()
    with torch.no_grad():
        norm.mean.copy_(torch.tensor([1.0, 2.0]))
        norm.variance.copy_(torch.tensor([4.0, 9.0]))
    x = torch.tensor([[[3.0, 9.0], [5.0, 9.0]]]) if with_mask else torch.tensor([[[3.0], [5.0]]])
    mask = torch.tensor([[True, False]]) if with_mask else None
    outputs = norm(x, mask).detach()
    np.testing.assert_allclose(outputs[0, :, 0], [1.0, 1.0], rtol=0, atol=1e-5)
    np.testing.assert_array_equal(norm.mean, [1.0, 2.0])
    np.testing.assert_array_equal(norm.variance, [4.0, 9.0])


@pytest.mark.parametrize("head", ["stem", "branch", "stem_branch"])
def test_in_training_padding_changes_neither_logits_nor_what_is_gathered(head: str) -> None:
    config = config_of("series", "gru", head, bidirectional=True)
    batch = collate([inputs_of(config, int(length)) for length in LENGTHS])
    runs = []
    for more in (0, 13):
        torch.manual_seed(0)
        model = SequenceClassifier(config).double().train()
        inputs = np.pad(batch.inputs.astype(np.float64), [(0, 0), (0, more), (0, 0)])
        logits = model(torch.from_numpy(inputs), torch.from_numpy(batch.lengths))
        runs.append([logits.detach(), *(value for name, value in model.state_dict().items() if "norm" in name)])
    for one, other in zip(*runs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("head", ["stem_branch", "branch"])
def test_sequences_of_one_length_train_the_same_with_and_without_the_mask(head: str) -> None:
    config = config_of("series", "lstm", head)
    sequences = [inputs_of(config, 9, seed).astype(np.float64) for seed in range(4)]
    gradients = []
    # Padding alone turns the mask on.
    for more in (0, 2):
        torch.manual_seed(0)
        model = SequenceClassifier(config).double().train()
        inputs = torch.from_numpy(np.pad(np.stack(sequences), [(0, 0), (0, more), (0, 0)]))
        model(inputs, torch.full((4,), 9)).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert one is not None
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)
