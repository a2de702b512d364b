"""The chain of `gatewise.crf`, as it is trained.

B batch, T timesteps, K tags.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.crf import TagChain
from training.data import IGNORED

# Where a pair of tags cannot be in BIO it starts out as unlikely; a file that has it all the same still teaches it.
_FORBIDDEN = -8.0


class ChainLoss(nn.Module):
    """Negative log-likelihood of whole tag sequences.

    Args:
        labels: K tags; `I-x` starts out likely only after `B-x` and `I-x`.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__()
        continues = torch.tensor([[_continues(a, b) for b in labels] for a in labels])
        starts = torch.tensor([not tag.startswith("I-") for tag in labels])
        self.transitions = nn.Parameter(torch.where(continues, 0.0, _FORBIDDEN))
        self.start = nn.Parameter(torch.where(starts, 0.0, _FORBIDDEN))
        self.end = nn.Parameter(torch.zeros(len(labels)))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean over all real steps.

        Args:
            logits: the network's scores, (B, T, K).
            labels: tags (B, T), `IGNORED` beyond each sequence's length.
        """
        mask = labels != IGNORED
        tags = labels.clamp_min(0)
        # In mixed precision the products of many steps would each be rounded to three digits.
        with torch.autocast(logits.device.type, enabled=False):
            return (self._partition(logits, mask) - self._score(logits, tags, mask)).sum() / mask.sum()

    def _score(self, logits: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        own = logits.gather(2, tags[..., None])[..., 0].masked_fill(~mask, 0.0).sum(dim=1)
        steps = self.transitions[tags[:, :-1], tags[:, 1:]].masked_fill(~mask[:, 1:], 0.0).sum(dim=1)
        last = tags.gather(1, mask.sum(dim=1, keepdim=True) - 1)[:, 0]
        return own + steps + self.start[tags[:, 0]] + self.end[last]

    def _partition(self, logits: Tensor, mask: Tensor) -> Tensor:
        """Log of the sum over all tag sequences, (B,)."""
        # A product of matrices in place of a (B, K, K) log-sum-exp at each step: many times faster with many tags.
        factors = self.transitions.exp()
        total = self.start + logits[:, 0]
        for t in range(1, logits.shape[1]):
            highest = total.max(dim=1, keepdim=True).values.detach()
            summed = ((total - highest).exp() @ factors).clamp_min(1e-30).log() + highest + logits[:, t]
            total = torch.where(mask[:, t, None], summed, total)
        return torch.logsumexp(total + self.end, dim=1)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights that serve."""
        return {f"crf.{name}": value.detach().cpu().numpy() for name, value in self.named_parameters()}

    def decoder(self) -> TagChain:
        """The chain as it serves."""
        return TagChain(self.weights(), len(self.start))


def _continues(before: str, after: str) -> bool:
    return not after.startswith("I-") or before in (f"B-{after[2:]}", after)
