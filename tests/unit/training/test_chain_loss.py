"""The chain of tags as it is trained: its loss against every way to tag a sequence, and where it starts out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.artifacts import Weights, chain_marginals, likeliest_tags, tag_paths
from training.crf import ChainLoss
from training.data import IGNORED

LABELS = ("B-P", "B-Q", "I-P", "I-Q", "O")


def chain_of(labels: tuple[str, ...], seed: int = 0) -> ChainLoss:
    """A chain whose weights have moved from where they began."""
    torch.manual_seed(seed)
    chain = ChainLoss(labels)
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.add_(torch.randn_like(parameter))
    return chain


def batch_of(lengths: list[int], K: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores with nonsense in their padding, and tags."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2, size=(len(lengths), max(lengths), K)).astype(np.float32)
    tags = random.integers(0, K, size=(len(lengths), max(lengths)))
    beyond = np.arange(max(lengths)) >= np.array(lengths)[:, None]
    logits[beyond] = 77.0
    tags[beyond] = IGNORED
    return torch.from_numpy(logits), torch.from_numpy(tags)


def loss_by_hand(weights: Weights, logits: torch.Tensor, tags: torch.Tensor, lengths: list[int]) -> float:
    """The sum over rows of log(sum over all ways) - (score of the true one), over the number of real steps."""
    total = 0.0
    for row, truth, length in zip(logits.detach().numpy(), tags.numpy(), lengths, strict=True):
        paths, scores = tag_paths(weights, row[:length])
        [own] = scores[(paths == truth[:length]).all(axis=1)]
        total += np.logaddexp.reduce(scores) - own
    return total / sum(lengths)


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), labels=st.integers(2, 5), seed=st.integers(0, 1000))
def test_the_loss_is_that_of_the_true_tags_among_all_ways_to_tag(lengths: list[int], labels: int, seed: int) -> None:
    chain = chain_of(LABELS[:labels], seed)
    logits, tags = batch_of(lengths, labels, seed)
    expected = loss_by_hand(chain.weights(), logits, tags, lengths)
    assert chain(logits, tags).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_padding_and_batch_mates_change_neither_the_loss_of_a_row_nor_its_gradient() -> None:
    chain = chain_of(LABELS)
    lengths = [4, 1, 3]
    logits, tags = batch_of(lengths, 5)
    alone = [chain(logits[i : i + 1, :n], tags[i : i + 1, :n]).item() * n for i, n in enumerate(lengths)]
    assert chain(logits, tags).item() == pytest.approx(sum(alone) / sum(lengths), rel=1e-5)
    logits.requires_grad_()
    chain(logits, tags).backward()
    assert logits.grad is not None
    assert not logits.grad[tags == IGNORED].any()


def test_the_gradient_is_the_marginal_less_the_truth() -> None:
    chain = chain_of(LABELS)
    lengths = [4, 2]
    logits, tags = batch_of(lengths, 5)
    logits.requires_grad_()
    chain(logits, tags).backward()
    assert logits.grad is not None
    for row, gradient, truth, n in zip(logits.detach().numpy(), logits.grad.numpy(), tags, lengths, strict=True):
        expected = chain_marginals(chain.weights(), row[:n]) - np.eye(5)[truth[:n]]
        np.testing.assert_allclose(gradient[:n], expected / sum(lengths), rtol=0, atol=1e-5)


def test_mixed_precision_does_not_reach_the_loss() -> None:
    chain = chain_of(LABELS)
    logits, tags = batch_of([40, 30, 7], 5)
    plain = chain(logits, tags)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = chain(logits, tags)
    assert mixed.item() == plain.item()


@pytest.mark.parametrize("T", [1, 2000])
@pytest.mark.parametrize("size", [1e3, -1e3])
def test_a_loss_of_scores_of_any_size_and_length_is_finite_and_has_a_finite_gradient(T: int, size: float) -> None:
    chain = ChainLoss(LABELS)
    random = np.random.default_rng(0)
    logits = torch.from_numpy(np.sign(random.normal(size=(2, T, 5))).astype(np.float32) * size).requires_grad_()
    tags = torch.from_numpy(random.integers(0, 5, size=(2, T)))
    loss = chain(logits, tags)
    loss.backward()
    assert torch.isfinite(loss)
    assert loss.item() >= 0
    for tensor in (logits, *chain.parameters()):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_an_inside_tag_starts_out_likely_only_after_a_tag_of_its_kind() -> None:
    chain = ChainLoss(LABELS)
    may_follow = {
        "I-P": {"B-P", "I-P"},
        "I-Q": {"B-Q", "I-Q"},
        "B-P": set(LABELS),
        "B-Q": set(LABELS),
        "O": set(LABELS),
    }
    for i, before in enumerate(LABELS):
        assert (chain.start[i].item() == 0) == (not before.startswith("I-"))
        assert chain.end[i].item() == 0
        for j, after in enumerate(LABELS):
            assert (chain.transitions[i, j].item() == 0) == (before in may_follow[after])
    assert set(chain.transitions.unique().tolist()) == {0.0, -8.0}


def test_labels_that_are_no_spans_start_out_free() -> None:
    chain = ChainLoss(("asleep", "In", "awake"))
    assert not any(parameter.any() for parameter in chain.parameters())


def test_the_weights_that_serve_decode_as_the_loss_scores() -> None:
    chain = chain_of(LABELS)
    assert {name: array.dtype for name, array in chain.weights().items()} == dict.fromkeys(
        ("crf.transitions", "crf.start", "crf.end"), np.dtype(np.float32)
    )
    logits = np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)
    best = chain.decoder().best(logits)
    assert best.tolist() == likeliest_tags(chain.weights(), logits)
    # No other way to tag is likelier, so none has a lower loss.
    losses = [
        chain(torch.from_numpy(logits)[None], torch.from_numpy(tags)[None]).item()
        for tags in (best, *np.random.default_rng(1).integers(0, 5, size=(50, 5)))
    ]
    assert losses[0] == min(losses)


def test_a_chain_learns_that_one_tag_never_follows_another() -> None:
    """Of scores that say nothing, tags that go round and round are learned by the chain alone."""
    chain = ChainLoss(("a", "b", "c"))
    optimizer = torch.optim.Adam(chain.parameters(), lr=0.1)
    tags = torch.tensor([[(start + t) % 3 for t in range(7)] for start in range(3)])
    for _ in range(60):
        optimizer.zero_grad()
        loss = chain(torch.zeros(3, 7, 3), tags)
        loss.backward()
        optimizer.step()
    # Where it begins is one of three; nothing after is uncertain.
    assert loss.item() == pytest.approx(np.log(3) / 7, rel=0.2)
    hint = np.zeros((7, 3), dtype=np.float32)
    hint[3, 1] = 2.0
    assert chain.decoder().best(hint).tolist() == [1, 2, 0, 1, 2, 0, 1]
