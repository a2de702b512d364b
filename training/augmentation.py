"""Other readings of the same series, drawn anew at every step of training: its speed, its scale, its channels, noise.

B batch, T timesteps, F features of the model: a series' values, then maybe their differences and missing-reading masks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gatewise.timeseries import TimeSeriesEncoderConfig
from training.config import TrainingConfig

# Points at which a warp draws a speed; between them it changes evenly.
_KNOTS = 4


class SeriesAugmentation:
    """Draws variants of encoded readings; each series keeps its length and its label.

    A channel and its differences are changed alike; masks of missing readings are left as they are.
    """

    def __init__(self, config: TrainingConfig, encoder: TimeSeriesEncoderConfig) -> None:
        self.warp, self.scale, self.mixing, self.noise = (
            config.time_warp,
            config.scaling,
            config.channel_mixing,
            config.input_noise,
        )
        self._channels = len(encoder.channels)
        self._values = encoder.input_size - self._channels * encoder.allow_missing

    def __call__(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return a variant of (B, T, F); beyond the lengths (B,) it means nothing."""
        values, masks = x[..., : self._values], x[..., self._values :]
        if self.warp:
            values = warped(values, lengths, self.warp)
        if self.scale or self.mixing:
            values = self._mixed(values)
        if self.noise:
            # After standardizing and differencing: noise on raw readings would drown the differences.
            values = values + self.noise * torch.randn_like(values)
        return torch.cat([values, masks], dim=2)

    def _mixed(self, values: Tensor) -> Tensor:
        """Multiply each channel by a factor near 1, and add a little of the others to it."""
        B, T, _ = values.shape
        C = self._channels
        mixer = torch.eye(C, device=values.device) * (1 + self.scale * torch.randn(B, 1, C, device=values.device))
        if C > 1:
            mixer = mixer + self.mixing * torch.randn(B, C, C, device=values.device) / C**0.5
        return (values.view(B, T, -1, C) @ mixer[:, None]).reshape(B, T, -1)


def warped(x: Tensor, lengths: Tensor, amount: float) -> Tensor:
    """Read each sequence of (B, T, F) at a speed that varies along it, from its first step to its last.

    Args:
        amount: standard deviation of the speed around 1.
    """
    B, T, _ = x.shape
    device = x.device
    knots = 1 + amount * torch.randn(B, 1, _KNOTS, device=device)
    speed = torch.nn.functional.interpolate(knots, T, mode="linear", align_corners=True)[:, 0].clamp_min(0.1)
    steps = torch.arange(T, device=device)
    time = speed.cumsum(dim=1) - speed[:, :1]
    last = (lengths.to(device) - 1)[:, None]
    # So that the last real step is read at the sequence's end whatever the speeds were.
    time = time * (last / time.gather(1, last).clamp_min(1e-6))
    time = torch.where(steps <= last, time.minimum(last), steps)
    before = time.floor().long()
    after = (before + 1).clamp_max(T - 1)
    share = (time - before)[..., None]
    rows = torch.arange(B, device=device)[:, None]
    return x[rows, before] * (1 - share) + x[rows, after] * share
