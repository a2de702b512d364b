"""What single steps tell, added to a network's logits in training, and in its head when it is saved."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from gatewise.architecture import ModelConfig
from tests.artifacts import config_of, expected_logits
from tests.unit.training.small_runs import CPU
from training.config import TrainingConfig
from training.data import IGNORED, EncodedDataset
from training.fitting import Candidate, fit
from training.module import Network
from training.residual import StepScores, fit_step_scores, with_skip

LABELS = ("down", "flat", "up")


def steps(rows: int, *, classes: int = 3, seed: int = 0) -> EncodedDataset:
    """Steps whose label is the largest of their first features, but for noise."""
    random = np.random.default_rng(seed)
    inputs = [random.normal(size=(n, 3)).astype(np.float32) for n in random.integers(5, 40, size=rows)]
    labels = [(row[:, :classes] + 0.5 * random.normal(size=(len(row), classes))).argmax(axis=1) for row in inputs]
    return EncodedDataset(inputs, labels)


def scores_of(seed: int = 0, classes: int = 3) -> StepScores:
    random = np.random.default_rng(seed)
    return StepScores(*(random.normal(size=shape).astype(np.float32) for shape in ((classes, 3), (classes,))))


@pytest.mark.parametrize("classes", [2, 3])
def test_single_steps_are_told_as_scikit_learn_tells_them(classes: int) -> None:
    train = steps(40, classes=classes)
    scores = fit_step_scores(train, classes, 0)
    features, truth = np.concatenate(train.inputs), np.concatenate(train.labels)
    expected = LogisticRegression(C=1.0, tol=1e-3).fit(features, truth).predict_proba(features)
    logits = scores(torch.from_numpy(features)[None])[0].numpy()
    np.testing.assert_allclose(softmax(logits, axis=1), expected, rtol=0, atol=2e-3)


def test_a_step_without_a_label_tells_nothing() -> None:
    train = steps(10)
    odd = EncodedDataset([*train.inputs, np.full((9, 3), 50, dtype=np.float32)], [*train.labels, np.full(9, IGNORED)])
    for one, other in zip(fit_step_scores(train, 3, 0).buffers(), fit_step_scores(odd, 3, 0).buffers(), strict=True):
        assert torch.equal(one, other)


def test_of_very_many_steps_some_spread_over_all_are_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.residual._MOST_STEPS", 300)
    train = steps(60)
    scores = fit_step_scores(train, 3, 0)
    features, truth = np.concatenate(train.inputs), np.concatenate(train.labels)
    assert len(truth) > 1000
    assert (scores(torch.from_numpy(features)[None])[0].argmax(dim=1).numpy() == truth).mean() > 0.7


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("head", ["step", "skip"])
def test_what_serves_gives_the_sum_of_both(cell: str, head: str) -> None:
    config = config_of("series", cell, head, dense_sizes=())
    network = Network(config, None, 0.0, steps=scores_of()).eval()
    row = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    with torch.no_grad():
        inputs, lengths = torch.from_numpy(row)[None], torch.tensor([7])
        logits = network(inputs, lengths)[0].numpy()
        alone = network.classifier(inputs, lengths)[0].numpy()
    np.testing.assert_allclose(logits, alone + scores_of()(inputs)[0].numpy(), rtol=0, atol=1e-6)
    served = with_skip(config)
    assert served.skip
    np.testing.assert_allclose(logits, expected_logits(served, network.weights(), row), rtol=0, atol=1e-5)


def test_a_variant_of_the_readings_is_for_the_network_alone() -> None:
    network = Network(config_of("series", "gru", "step", dense_sizes=()), None, 0.0, steps=scores_of()).eval()
    inputs, variant, lengths = torch.randn(2, 5, 3), torch.randn(2, 5, 3), torch.tensor([5, 5])
    with torch.no_grad():
        expected = network.classifier(variant, lengths) + scores_of()(inputs)
        torch.testing.assert_close(network(variant, lengths, inputs), expected)


def trained(folder: Path, *, resume: bool = False, residual: bool = True, say: Any = None) -> Candidate:
    config = TrainingConfig(hidden_size=4, dense_sizes=(), epochs=2, batch_size=8, residual=residual)
    model = ModelConfig(
        kind="series", task="step", cell="gru", input_size=3, hidden_size=4, dense_sizes=(), num_classes=3
    )
    lines: list[str] = []
    return fit(
        model, config, steps(20), steps(8, seed=1), LABELS, None, folder,
        say=say or lines.append, resume=resume, devices=CPU,
    )  # fmt: skip


def test_training_leaves_the_scores_as_they_were_fitted(tmp_path: Path) -> None:
    candidate = trained(tmp_path)
    assert candidate.model.skip
    fitted = fit_step_scores(steps(20), 3, 0)
    assert isinstance(fitted.weight, torch.Tensor)
    np.testing.assert_array_equal(candidate.weights["output.weight"][:, 4:], fitted.weight.numpy())
    plain = trained(tmp_path / "plain", residual=False)
    assert not plain.model.skip
    assert plain.weights["output.weight"].shape == (3, 4)
    assert candidate.epochs[0]["train_loss"] < 0.8 * plain.epochs[0]["train_loss"]


def test_a_finished_training_is_found_again(tmp_path: Path) -> None:
    first = trained(tmp_path)
    told: list[str] = []
    again = trained(tmp_path, resume=True, say=told.append)
    assert "was finished before" in told[0]
    assert again.model == first.model
    for name, array in first.weights.items():
        np.testing.assert_array_equal(array, again.weights[name])
