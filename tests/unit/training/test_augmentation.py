"""Variants of series: what they may change and what they must leave, on series whose every reading is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gatewise.timeseries import TimeSeriesEncoder, TimeSeriesEncoderConfig
from training.augmentation import SeriesAugmentation, warped
from training.config import TrainingConfig

LENGTHS = torch.tensor([12, 1, 5, 2])
EVERYTHING = {"time_warp": 0.3, "scaling": 0.2, "channel_mixing": 0.3, "input_noise": 0.1}


def encoder_of(channels: int = 3, *, differences: bool = True, missing: bool = True) -> TimeSeriesEncoderConfig:
    one = (1.0,) * channels
    return TimeSeriesEncoderConfig(
        channels=tuple("abcdef"[:channels]),
        mean=(0.0,) * channels,
        scale=one,
        difference_scale=one if differences else None,
        allow_missing=missing,
    )


def augmentation_of(encoder: TimeSeriesEncoderConfig, **settings: float) -> SeriesAugmentation:
    return SeriesAugmentation(TrainingConfig(**settings), encoder)


def batch_of(encoder: TimeSeriesEncoderConfig, rows: int = 4, steps: int = 12, seed: int = 0) -> torch.Tensor:
    """Readings with differences and masks where the encoder has them, in the encoder's own order."""
    random = np.random.default_rng(seed)
    items = random.normal(size=(rows, steps, len(encoder.channels))).astype(np.float32)
    if encoder.allow_missing:
        items[random.random(items.shape) < 0.2] = np.nan
    return torch.from_numpy(np.stack([TimeSeriesEncoder(encoder).encode(item).inputs for item in items]))


def drawn(augmentation: SeriesAugmentation, x: torch.Tensor, lengths: torch.Tensor, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return augmentation(x, lengths)


# All of it


def test_without_settings_nothing_changes() -> None:
    encoder = encoder_of()
    x = batch_of(encoder)
    assert torch.equal(augmentation_of(encoder)(x, LENGTHS), x)


@pytest.mark.parametrize("setting", EVERYTHING)
def test_each_setting_changes_the_values_and_none_the_masks_or_the_shape(setting: str) -> None:
    encoder = encoder_of()
    x = batch_of(encoder)
    before = x.clone()
    y = drawn(augmentation_of(encoder, **{setting: EVERYTHING[setting]}), x, LENGTHS)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert torch.equal(y[..., 6:], x[..., 6:])
    assert not torch.equal(y[..., :6], x[..., :6])
    assert torch.equal(x, before), "the batch itself is left alone"


def test_a_seed_draws_the_same_variant_and_another_seed_another() -> None:
    encoder = encoder_of()
    x, augmentation = batch_of(encoder), augmentation_of(encoder, **EVERYTHING)
    assert torch.equal(drawn(augmentation, x, LENGTHS, 1), drawn(augmentation, x, LENGTHS, 1))
    assert not torch.equal(drawn(augmentation, x, LENGTHS, 1), drawn(augmentation, x, LENGTHS, 2))


@pytest.mark.parametrize("beyond", [1e6, -3.0])
def test_what_stands_beyond_a_length_does_not_reach_a_real_step(beyond: float) -> None:
    encoder = encoder_of()
    x, augmentation = batch_of(encoder), augmentation_of(encoder, **EVERYTHING)
    real = torch.arange(12) < LENGTHS[:, None]
    clean, dirty = (
        drawn(augmentation, torch.where(real[..., None], x, value), LENGTHS)[real] for value in (0.0, beyond)
    )
    np.testing.assert_allclose(clean, dirty, rtol=0, atol=1e-5)


def test_series_of_one_channel_without_differences_or_masks_are_varied_too() -> None:
    encoder = encoder_of(1, differences=False, missing=False)
    x = batch_of(encoder)
    y = drawn(augmentation_of(encoder, **EVERYTHING), x, LENGTHS)
    assert y.shape == x.shape
    assert torch.isfinite(y).all()


# Speed


def ramp(lengths: torch.Tensor, steps: int) -> torch.Tensor:
    """A series whose reading at each step is the step: read at any time, it says which."""
    return torch.arange(steps, dtype=torch.float32)[None, :, None].expand(len(lengths), steps, 1)


@settings(deadline=None, max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    more=st.integers(0, 5),
    amount=st.sampled_from([0.01, 0.1, 0.5]),
    seed=st.integers(0, 1000),
)
def test_a_warp_reads_every_series_from_its_first_step_to_its_last_and_never_back(
    lengths: list[int], more: int, amount: float, seed: int
) -> None:
    torch.manual_seed(seed)
    ends = torch.tensor(lengths)
    times = warped(ramp(ends, max(lengths) + more), ends, amount)[..., 0].numpy()
    for row, length in zip(times, lengths, strict=True):
        assert row[0] == 0
        assert row[length - 1] == pytest.approx(length - 1, abs=1e-3)
        assert (np.diff(row[:length]) > 0).all()


def test_a_warp_of_nothing_is_the_series_itself() -> None:
    x = batch_of(encoder_of())
    np.testing.assert_allclose(warped(x, LENGTHS, 0.0), x, rtol=0, atol=1e-5)


def test_a_warped_reading_is_that_between_two_steps() -> None:
    """Every channel is read at the time that the ramp beside it tells, on the line between two readings."""
    torch.manual_seed(0)
    readings = torch.randn(4, 12, 3)
    x = torch.cat([ramp(LENGTHS, 12), readings], dim=2)
    y = warped(x, LENGTHS, 0.4).numpy()
    moved = 0.0
    for row, before, length in zip(y, readings.numpy(), LENGTHS.tolist(), strict=True):
        for channel in range(3):
            expected = np.interp(row[:length, 0], np.arange(length), before[:length, channel])
            np.testing.assert_allclose(row[:length, 1 + channel], expected, rtol=0, atol=1e-3)
        moved = max(moved, np.abs(row[:length, 0] - np.arange(length)).max())
    assert moved > 0.3


def test_speeds_differ_among_the_series_of_a_batch_and_are_neither_fast_nor_slow_on_average() -> None:
    torch.manual_seed(0)
    lengths = torch.full((4000,), 21)
    times = warped(ramp(lengths, 21), lengths, 0.2)[..., 0]
    middle = times[:, 10]
    assert middle.std() > 0.2
    assert middle.mean().item() == pytest.approx(10, abs=4 * middle.std().item() / 4000**0.5)


# Scale and channels


def test_scaling_multiplies_a_channel_and_its_differences_by_one_factor_for_a_whole_series() -> None:
    encoder = encoder_of(missing=False)
    x = batch_of(encoder, rows=2000, steps=4)
    y = drawn(augmentation_of(encoder, scaling=0.1), x, torch.full((2000,), 4))
    values, differences = y[..., :3] / x[..., :3], y[:, 1:, 3:] / x[:, 1:, 3:]
    factors = values[:, 0]
    np.testing.assert_allclose(values, factors[:, None].expand_as(values), rtol=1e-3)
    np.testing.assert_allclose(differences, factors[:, None].expand_as(differences), rtol=1e-3)
    assert factors.mean().item() == pytest.approx(1, abs=0.01)
    assert factors.std(dim=0).numpy() == pytest.approx([0.1] * 3, rel=0.1)
    assert abs(np.corrcoef(factors.T.numpy())[0, 1]) < 0.1, "each channel has a factor of its own"


def test_mixing_adds_to_each_channel_shares_of_all_and_to_its_differences_the_same() -> None:
    encoder = encoder_of(missing=False)
    x = batch_of(encoder, rows=1500, steps=8)
    y = drawn(augmentation_of(encoder, channel_mixing=0.3), x, torch.full((1500,), 8))
    mixers = []
    for before, after in zip(x.double().numpy(), y.double().numpy(), strict=True):
        mixer = np.linalg.lstsq(before[:, :3], after[:, :3], rcond=None)[0]
        np.testing.assert_allclose(before[:, :3] @ mixer, after[:, :3], rtol=0, atol=1e-4)
        np.testing.assert_allclose(before[:, 3:] @ mixer, after[:, 3:], rtol=0, atol=1e-3)
        mixers.append(mixer)
    np.testing.assert_allclose(np.mean(mixers, axis=0), np.eye(3), rtol=0, atol=0.03)
    np.testing.assert_allclose(np.std(mixers, axis=0), np.full((3, 3), 0.3 / 3**0.5), rtol=0.1)


def test_one_channel_alone_has_none_to_mix_with() -> None:
    encoder = encoder_of(1, missing=False)
    x = batch_of(encoder)
    np.testing.assert_allclose(drawn(augmentation_of(encoder, channel_mixing=0.5), x, LENGTHS), x, rtol=0, atol=1e-6)


def test_noise_has_the_deviation_asked_for_at_every_value_and_difference() -> None:
    encoder = encoder_of()
    x = batch_of(encoder, rows=500)
    noise = (drawn(augmentation_of(encoder, input_noise=0.2), x, torch.full((500,), 12)) - x)[..., :6]
    assert noise.std(dim=(0, 1)).numpy() == pytest.approx([0.2] * 6, rel=0.1)
    assert noise.mean().item() == pytest.approx(0, abs=0.01)
