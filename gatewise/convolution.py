"""Convolutions over sequences of unequal length, by torch: the strided stem and the convolutional branch.

Every convolution reads zeros beyond a sequence's length, as it does beyond the batch's end, so that an answer cannot
depend on padding. `reference.py` says what they compute; the tests hold this file to it.

B batch, T timesteps, F features, S channels of a convolution.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from gatewise.architecture import ModelConfig


class ConvBlock(nn.Module):
    """Convolution, normalization by channel, relu."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = StepNorm(outputs)
        nn.init.kaiming_uniform_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Run the block.

        Args:
            x: (B, F, T), zero beyond each length.
            mask: (B, ceil(T / stride)), True at the real steps of the outputs; None where all are real.
        Returns:
            (B, S, ceil(T / stride)), zero beyond each length.
        """
        return silenced(torch.relu(self.norm(self.conv(x), mask)), mask)


class StepNorm(nn.Module):
    """Batch normalization (Ioffe & Szegedy 2015) over the real steps of a batch alone; torch's counts the padding."""

    def __init__(self, size: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.momentum = momentum
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size))
        self.mean: Tensor
        self.variance: Tensor
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Normalize (B, S, T): by the statistics of the batch's real steps in training, by their running mean after."""
        if not self.training or mask is None:
            return self._normalize(x, steps=x.shape[0] * x.shape[2])
        real = x.transpose(1, 2)[mask]
        normalized = self._normalize(real, steps=len(real))
        return (
            x.new_zeros(x.shape[0], x.shape[2], x.shape[1]).masked_scatter(mask[..., None], normalized).transpose(1, 2)
        )

    def _normalize(self, x: Tensor, *, steps: int) -> Tensor:
        # One step has no variance: a last batch of one short series is normalized as in answering.
        by_batch = self.training and steps > 1
        return nn.functional.batch_norm(
            x, self.mean, self.variance, self.weight, self.bias, by_batch, self.momentum, self.epsilon
        )


class ConvBranch(nn.ModuleList):
    """Convolution blocks and the average of their outputs over time (Wang et al. 2017, a fully convolutional net)."""

    def __init__(self, config: ModelConfig) -> None:
        widths = itertools.pairwise((config.feature_size, *config.branch_channels))
        super().__init__(ConvBlock(*pair, k) for pair, k in zip(widths, config.branch_kernels, strict=True))

    def forward(self, x: Tensor, lengths: Tensor, mask: Tensor | None) -> Tensor:
        """Summarize (B, F, T), zero beyond each length, as (B, S)."""
        for block in self:
            x = block(x, mask)
        return x.sum(dim=2) / lengths[:, None]


def silenced(x: Tensor, mask: Tensor | None) -> Tensor:
    """(B, F, T) with zeros where the mask (B, T) is False."""
    return x if mask is None else x.masked_fill(~mask[:, None], 0.0)
