"""The linear branch of series, against kernels added up one after another in exact integers."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from gatewise import kernels
from gatewise.engines import EngineName
from gatewise.errors import ArtifactCorrupt, GoldenMismatch
from gatewise.kernels import KERNELS, KernelBranch, KernelFeatures
from gatewise.predictor import Predictor
from gatewise.schema import Prediction
from tests.artifacts import Made, config_of, kernel_scores, kernel_shares, reseal, weights_of

Copy = Callable[[Made], Path]
BOTH_ENGINES = pytest.mark.parametrize("engine", ["onnx", "torch"])
NAMES = pytest.mark.parametrize("name", ["wide.channels", "wide.thresholds", "wide.weight", "wide.bias"])
CONFIG = config_of("series", wide_dilations=(1, 2, 5), wide_channels=2, wide_thresholds=2)
WEIGHTS = weights_of(CONFIG)


def series(steps: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (scale * np.random.default_rng((seed, steps)).normal(size=(steps, 3))).astype(np.float32)


def features_of(inputs: np.ndarray) -> np.ndarray:
    branch = KernelFeatures(CONFIG.wide_dilations, WEIGHTS["wide.channels"], WEIGHTS["wide.thresholds"])
    return branch.of(inputs)


def test_there_is_a_kernel_for_every_three_of_nine_places() -> None:
    assert KERNELS.shape == (84, 9)
    assert len({tuple(kernel) for kernel in KERNELS}) == 84
    assert not KERNELS.sum(axis=1).any()
    assert {tuple(sorted(kernel)) for kernel in KERNELS.tolist()} == {(-1.0,) * 6 + (2.0,) * 3}


@settings(deadline=None, max_examples=12)
@given(steps=st.integers(1, 25), seed=st.integers(0, 99), scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_features_are_those_of_each_kernel_at_each_step_one_after_another(steps: int, seed: int, scale: float) -> None:
    inputs = series(steps, seed, scale)
    features = features_of(inputs)
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, kernel_shares(CONFIG, WEIGHTS, inputs), rtol=0, atol=1e-7)


def test_a_long_series_in_pieces_has_the_features_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = series(2000)
    whole = features_of(inputs)
    for size in (1, 7, 1000, 1999, 2000):
        monkeypatch.setattr(kernels, "_PIECE", size)
        np.testing.assert_array_equal(features_of(inputs), whole)


def test_a_sum_counts_the_same_in_whatever_order_it_is_added_up() -> None:
    # All channels read, every reading as far out as it may be: the largest sums that there can be.
    channels = np.ones((1, 84, kernels.MOST_CHANNELS), dtype=np.float32)
    inputs = np.full((20, kernels.MOST_CHANNELS), 1e9, dtype=np.float32)
    inputs[::2] *= -1
    inputs[7] = 3.00001
    branch = KernelFeatures((1,), channels, np.zeros((1, 84, 1), dtype=np.float32))
    grid = branch.on_grid(inputs).astype(np.int64)
    padded = np.pad(grid, ((4, 4), (0, 0))).sum(axis=1)
    exact = [[int(kernel.astype(np.int64) @ padded[t : t + 9]) for t in range(20)] for kernel in KERNELS]
    np.testing.assert_array_equal(branch.sums(branch.on_grid(inputs), 0), exact)
    assert np.abs(exact).max() < 2**24


def test_the_scores_are_the_features_times_the_weights() -> None:
    inputs = series(17)
    scores = KernelBranch(CONFIG, WEIGHTS).logits(inputs)
    np.testing.assert_allclose(scores, kernel_scores(CONFIG, WEIGHTS, inputs), rtol=0, atol=1e-4)
    assert scores.shape == (3,)


def test_large_terms_that_cancel_leave_no_error_of_rounding() -> None:
    random = np.random.default_rng(0)
    features, weight = (random.uniform(-1, 1, size=shape).astype(np.float32) for shape in ((2000,), (2000, 3)))
    weight *= 1000
    bias = -(features.astype(np.float64) @ weight).astype(np.float32)
    scores = kernels.kernel_logits(features, weight.astype(np.float64), bias)
    exact = [math.fsum(float(f) * float(w) for f, w in zip(features, column, strict=True)) for column in weight.T]
    np.testing.assert_allclose(scores, np.array(exact) + bias, rtol=0, atol=1e-6)


def test_channels_beyond_the_readings_are_not_read() -> None:
    inputs = series(9)
    other = inputs.copy()
    other[:, 2] = 7
    np.testing.assert_array_equal(features_of(inputs), features_of(other))


@NAMES
def test_a_branch_without_a_weight_or_with_another_is_corrupt(name: str) -> None:
    for wrong in ({}, {name: np.concatenate([WEIGHTS[name]] * 2)}):
        others = {key: array for key, array in WEIGHTS.items() if key != name}
        with pytest.raises(ArtifactCorrupt, match=rf"the weights have no {name} of shape \(.*restore the folder"):
            KernelBranch(CONFIG, others | wrong)


# In an artifact


@NAMES
def test_an_artifact_without_a_weight_of_the_branch_is_corrupt(name: str, kernel_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(kernel_artifact)
    weights = load_file(folder / "weights.safetensors")
    del weights[name]
    save_file(weights, folder / "weights.safetensors")
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match=f"the weights have no {name} of shape"):
        Predictor.load(folder)


@BOTH_ENGINES
@pytest.mark.parametrize(("name", "change"), [("wide.weight", 0.1), ("wide.bias", 0.01), ("wide.thresholds", 9000)])
def test_a_changed_branch_is_found_by_the_golden_items(
    engine: EngineName, name: str, change: float, kernel_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(kernel_artifact)
    weights = load_file(folder / "weights.safetensors")
    save_file({**weights, name: weights[name] + np.float32(change)}, folder / "weights.safetensors")
    reseal(folder)
    with pytest.raises(GoldenMismatch, match="a logit differs"):
        Predictor.load(folder, engine=engine)


@BOTH_ENGINES
@pytest.mark.parametrize("steps", [1, 2, 9, 24, 60])
def test_a_series_of_any_length_is_answered_as_by_hand(engine: EngineName, steps: int, kernel_artifact: Made) -> None:
    predictor = Predictor.load(kernel_artifact.folder, engine=engine)
    item: Any = np.random.default_rng(steps).normal(size=(steps, 2)).round(3).tolist()
    item[steps // 2][1] = None
    [alone] = predictor.predict([item])
    batched = predictor.predict([*kernel_artifact.items, item])[-1]
    expected = kernel_artifact.probabilities(item)
    for answer in (alone, batched):
        assert isinstance(answer, Prediction)
        np.testing.assert_allclose(list(answer.probabilities.values()), expected, rtol=0, atol=1e-5)


def test_the_branch_tells_series_apart_that_the_network_takes_for_one(kernel_artifact: Made) -> None:
    predictor = Predictor.load(kernel_artifact.folder)
    one, other = ([[0.0, 0.0]] * 12, [[9.0, 0.0], [-9.0, 0.0]] * 6)
    scores = [predictor.encode(item).wide for item in (one, other)]
    assert all(row is not None for row in scores)
    assert not np.array_equal(*scores)
