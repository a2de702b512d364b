"""How a linear branch joins a network: the factor of its scores, chosen on validation.

N rows, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gatewise.text import TextEncoder
from gatewise.timeseries import TimeSeriesEncoder
from training.calibration import fit_temperature
from training.dataset import Dataset

Floats = NDArray[np.float64]
Encoder = TextEncoder | TimeSeriesEncoder

_SHARES = np.geomspace(1 / 16, 16, 25)
# How far, in factors of e, a share lies from the one that is expected.
_DEVIATION = 0.7
# A branch that is expected to help must lower the loss by this part of it to be worth its time.
_WORTH = 0.02


class LinearBranch(Protocol):
    """A fitted linear classifier over what stands anywhere in a sequence."""

    def logits(self, data: Dataset, encoder: Encoder) -> NDArray[np.float32]:
        """Scores of every row, (N, K)."""

    def weights(self, share: float) -> dict[str, NDArray[np.float32]]:
        """The weights that serve, where the network's logits have the weight 1 and the branch's this one."""

    def parts(self) -> dict[str, Any]:
        """What the model's configuration says of it."""

    def again(self, train: Dataset, encoder: Encoder, labels: tuple[str, ...], *, seed: int) -> Self | None:
        """The branch fitted to other rows by the same recipe; None where they have nothing to fit it to."""

    @property
    def expected_share(self) -> float | None:
        """The factor to be expected before validation was seen; None where only validation tells."""


@dataclass(frozen=True)
class Blend:
    """What the branch gives a network, on validation.

    Attributes:
        share: the factor of the branch's scores where the network's have 1; 0 leaves it out.
        network, branch, both: accuracy of each alone and of both together.
        network_loss, both_loss: log-loss of the network alone and of both, each with its own temperature.
    """

    share: float
    network: float
    branch: float
    both: float
    network_loss: float
    both_loss: float

    def in_words(self) -> str:
        """One line for the reader."""
        told = "on validation the network alone has accuracy "
        told += f"{self.network:.4f}, the linear branch alone {self.branch:.4f}"
        if not self.share:
            return f"{told}; together they are no surer, so the branch is left out"
        return f"{told}, both together {self.both:.4f} (log-loss {self.network_loss:.4f} -> {self.both_loss:.4f})"


def blend(
    network: NDArray[np.float32],
    branch: NDArray[np.float32],
    truth: NDArray[np.int64],
    *,
    always: bool,
    expected_share: float | None = None,
) -> Blend:
    """Weigh the branch against a network on rows that neither was trained on.

    Args:
        network, branch: their logits, (N, K).
        truth: (N,) class indices.
        always: keep the branch though it be of no use.
        expected_share: few rows move the share little away from it, and keep the branch where it lowers the loss;
            without it the rows alone choose the share, and must lower the loss by more than chance does.
    """
    alone = row_losses(network, truth)
    losses = np.array([row_losses(network + np.float32(share) * branch, truth) for share in _SHARES])
    best = int((losses.sum(axis=1) + _surprise(expected_share)).argmin())
    gain = alone - losses[best]
    least = _by_chance(gain) if expected_share is None else _WORTH * alone.mean()
    share = float(_SHARES[best]) if always or gain.mean() > least else 0.0
    both = network + np.float32(share) * branch
    return Blend(
        share=share,
        network=_accuracy(network, truth),
        branch=_accuracy(branch, truth),
        both=_accuracy(both, truth),
        network_loss=float(alone.mean()),
        both_loss=float((losses[best] if share else alone).mean()),
    )


def row_losses(logits: NDArray[Any], truth: NDArray[np.int64]) -> Floats:
    """Negative log-likelihood of each row (N,), at the temperature that fits all of them best."""
    scores = logits.astype(np.float64) / fit_temperature(logits, truth)
    highest = scores.max(axis=1, keepdims=True)
    partition = np.log(np.exp(scores - highest).sum(axis=1)) + highest[:, 0]
    losses: Floats = partition - scores[np.arange(len(truth)), truth]
    return losses


def _surprise(expected_share: float | None) -> Floats:
    """Negative log-density of each share, up to a constant."""
    if expected_share is None:
        return np.zeros(len(_SHARES))
    surprise: Floats = (np.log(_SHARES / expected_share) / _DEVIATION) ** 2 / 2
    return surprise


def _by_chance(gain: Floats) -> float:
    """What the mean of such differences exceeds by chance once in forty times."""
    return float(1.96 * gain.std(ddof=1) / np.sqrt(len(gain))) if len(gain) > 1 else np.inf


def _accuracy(logits: NDArray[Any], truth: NDArray[np.int64]) -> float:
    return float((logits.argmax(axis=1) == truth).mean())
