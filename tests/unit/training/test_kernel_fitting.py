"""The linear branch of series as it is fitted: against scikit-learn on the same features, and what it can learn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from gatewise.engines import EngineName
from gatewise.errors import InvalidSequence
from gatewise.kernels import KernelFeatures
from gatewise.predictor import Predictor
from gatewise.timeseries import TimeSeriesEncoder, TimeSeriesEncoderConfig
from tests.artifacts import config_of, expected_logits, weights_of
from training.blending import blend
from training.data import EncodedDataset
from training.dataset import Dataset
from training.kernels import Kernels, fit_kernels
from training.packaging import Packer

LABELS = ("slow", "fast", "still")
CHANNELS = ("a", "b", "c")
ENCODER = TimeSeriesEncoder(TimeSeriesEncoderConfig(channels=CHANNELS, mean=(0.0,) * 3, scale=(1.0,) * 3))


def waves(rows: int, *, classes: int = 3, seed: int = 0, shortest: int = 20, longest: int = 40) -> Dataset:
    """A wave in channel b, of another frequency for each class and of any phase, among noise."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, size=rows)
    items = []
    for k, steps in zip(truth, random.integers(shortest, longest + 1, size=rows), strict=True):
        item = random.normal(size=(steps, 3))
        item[:, 1] = 0.5 * item[:, 1] + (2 if k < 2 else 0) * np.sin(
            [1.0, 2.2, 0.0][k] * np.arange(steps) + random.uniform(0, 6)
        )
        items.append(item.astype(np.float32))
    return Dataset("series", "sequence", items, [LABELS[k] for k in truth], CHANNELS, None, "w.npz", np.arange(rows))


def fitted(data: Dataset, classes: int = 3, seed: int = 0) -> Kernels:
    branch = fit_kernels(data, ENCODER, LABELS[:classes], seed=seed)
    assert branch is not None
    return branch


def truth_of(data: Dataset) -> np.ndarray:
    return np.array([LABELS.index(label) for label in data.labels or ()])


@pytest.mark.parametrize("classes", [2, 3])
def test_a_fitted_branch_predicts_as_scikit_learn_does_on_standardized_features(classes: int) -> None:
    train, others = waves(90, classes=classes), waves(60, classes=classes, seed=1)
    branch = fitted(train, classes)
    kernels = KernelFeatures(branch.dilations, branch.channels, branch.thresholds)
    known, new = (
        np.stack([kernels.of(ENCODER.encode(item).inputs) for item in data.items]) for data in (train, others)
    )
    model = LogisticRegression(C=0.1, tol=1e-3)
    scaler = StandardScaler().fit(known)
    expected = model.fit(scaler.transform(known), truth_of(train)).predict_proba(scaler.transform(new))
    np.testing.assert_allclose(softmax(branch.logits(others, ENCODER), axis=1), expected, rtol=0, atol=2e-3)
    assert (expected.argmax(axis=1) == truth_of(others)).mean() > 0.9


@pytest.mark.parametrize("engine", ["onnx", "torch"])
def test_a_packed_model_adds_its_share_of_the_branch_to_the_network(engine: EngineName, tmp_path: Path) -> None:
    valid = waves(40, seed=1)
    config = config_of("series", "gru", "all")
    weights = weights_of(config)
    branch = fitted(waves(90))
    encoded = EncodedDataset(ENCODER.encode_many(valid.items), truth_of(valid).tolist())
    packer = Packer("waves", "2026-11-28T08:45:12+00:00", LABELS, ENCODER, valid, encoded, {}, say=lambda line: None)
    packed = packer.pack(tmp_path / "artifact", config, weights, branch)
    assert packed.blend is not None
    assert packed.blend.both > packed.blend.network
    predictor = Predictor.load(tmp_path / "artifact", engine=engine)
    assert predictor.manifest.model.wide_dilations == branch.dilations
    network = np.stack([expected_logits(config, weights, ENCODER.encode(item).inputs) for item in valid.items])
    expected = network + packed.blend.share * branch.logits(valid, ENCODER)
    for result, logits in zip(predictor.run_each(valid.items), expected, strict=True):
        assert not isinstance(result, InvalidSequence)
        np.testing.assert_allclose(predictor.scores(*result), logits, rtol=0, atol=2e-5)


def test_what_is_fitted_has_the_shapes_that_the_configuration_says() -> None:
    branch = fitted(waves(30))
    parts = branch.parts()
    dilations = len(parts["wide_dilations"])
    assert parts["wide_channels"] == 3
    assert branch.weights(0.5)["wide.channels"].shape == (dilations, 84, 3)
    assert branch.weights(0.5)["wide.thresholds"].shape == (dilations, 84, parts["wide_thresholds"])
    assert branch.weights(0.5)["wide.weight"].shape == (dilations * 84 * parts["wide_thresholds"], 3)
    assert {array.dtype for array in branch.weights(0.5).values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(branch.weights(0.5)["wide.bias"], branch.bias / 2)
    np.testing.assert_array_equal(branch.weights(0.5)["wide.thresholds"], branch.thresholds)


def test_every_kernel_reads_a_channel_and_sees_its_thresholds_crossed() -> None:
    data = waves(60)
    branch = fitted(data)
    assert set(np.unique(branch.channels)) == {0, 1}
    assert branch.channels.any(axis=2).all()
    kernels = KernelFeatures(branch.dilations, branch.channels, branch.thresholds)
    features = np.stack([kernels.of(ENCODER.encode(item).inputs) for item in data.items])
    # A threshold that is never, or always, exceeded tells no series from another.
    assert (features.std(axis=0) > 0).mean() > 0.95
    np.testing.assert_array_equal(branch.thresholds, np.round(branch.thresholds))


@pytest.mark.parametrize(("longest", "expected"), [(1, (1,)), (9, (1,)), (17, (1, 2)), (33, (1, 2, 3, 4))])
def test_the_widest_kernel_spans_a_long_series(longest: int, expected: tuple[int, ...]) -> None:
    data = waves(20, shortest=longest, longest=longest)
    assert fitted(data).dilations == expected


def test_fitting_again_gives_the_same_bytes_and_another_seed_others() -> None:
    first, again, other = (fitted(waves(40), seed=seed) for seed in (3, 3, 4))
    for name, array in first.weights(1.0).items():
        assert array.tobytes() == again.weights(1.0)[name].tobytes()
    assert not np.array_equal(first.channels, other.channels)


def test_more_rows_than_are_needed_are_fitted_to_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.kernels._MOST_ROWS", 40)
    read: list[int] = []
    plain = KernelFeatures.of
    monkeypatch.setattr(KernelFeatures, "of", lambda self, inputs: (read.append(1), plain(self, inputs))[1])
    branch = fitted(waves(200))
    assert len(read) == 40
    others = waves(60, seed=1)
    assert (branch.logits(others, ENCODER).argmax(axis=1) == truth_of(others)).mean() > 0.8


@pytest.mark.parametrize("change", ["still", "one row of a class", "one step"])
def test_series_that_tell_little_are_fitted_without_a_warning(change: str) -> None:
    data = waves(12, classes=2)
    if change == "still":
        data = replace(data, items=[np.zeros((9, 3), dtype=np.float32) for _ in data.items])
    elif change == "one row of a class":
        data = replace(data, labels=["fast", *["slow"] * 11])
    else:
        data = replace(data, items=[item[:1] for item in data.items])
    branch = fitted(data, 2)
    assert all(np.isfinite(array).all() for array in branch.weights(1.0).values())
    assert np.isfinite(branch.logits(data, ENCODER)).all()


def test_a_class_without_a_row_is_never_likely() -> None:
    # Fitted anew for a part of the rows, a branch may meet all classes but one.
    data = waves(60, classes=2)
    logits = fitted(data).logits(data, ENCODER)
    assert logits.shape == (60, 3)
    assert (logits[:, :2].argmax(axis=1) == truth_of(data)).mean() > 0.9
    assert (softmax(logits, axis=1)[:, 2] < 0.05).all()


def test_of_too_many_classes_there_is_no_branch() -> None:
    labels = (*LABELS, *map(str, range(300)))
    assert fit_kernels(waves(20), ENCODER, labels, seed=0) is None


# Joining a network where there are few rows


def drawn(rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truth, and the logits of two that each know something of it."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, 3, size=rows)
    one, other = (1.5 * np.eye(3)[truth] + random.normal(size=(rows, 3)) for _ in range(2))
    return truth, one.astype(np.float32), other.astype(np.float32)


def test_few_rows_leave_the_share_about_where_it_is_expected() -> None:
    truth, network, branch = drawn(6)
    for expected in (0.25, 1.0):
        share = blend(network, branch, truth, always=True, expected_share=expected).share
        assert expected / 3 < share < 3 * expected


def test_many_rows_choose_the_share_by_themselves() -> None:
    truth, network, branch = drawn(5000)
    shares = [blend(network, branch, truth, always=False, expected_share=share).share for share in (0.25, 1.0, None)]
    assert max(shares) / min(shares) < 1.3


def test_a_branch_that_is_expected_to_help_is_kept_though_rows_are_too_few_to_show_it() -> None:
    truth, network, branch = drawn(24)
    assert blend(network, branch, truth, always=False).share == 0
    kept = blend(network, branch, truth, always=False, expected_share=Kernels.expected_share)
    assert kept.share > 0
    assert kept.both_loss < kept.network_loss


def test_a_branch_that_tells_nothing_is_left_out_though_it_was_expected_to_help() -> None:
    truth, network, _ = drawn(400)
    noise = np.random.default_rng(9).normal(size=(400, 3)).astype(np.float32)
    left = blend(network, noise, truth, always=False, expected_share=Kernels.expected_share)
    assert (left.share, left.both_loss) == (0, left.network_loss)
