"""The word part of a token's vector: trained from nothing, or with vectors that were trained elsewhere.

Whatever a table is made of while it trains, `table()` is the one array that serves.

V vocabulary, E embedding.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from training.config import EmbeddingMode

# The gate's bias to begin with: nine tenths are the pretrained vector.
_MOSTLY_PRETRAINED = 2.2


@dataclass(frozen=True, eq=False)
class PretrainedRows:
    """Vectors for a vocabulary.

    Attributes:
        rows: float32 (V, E); zero where there is none.
        known: (V,), True where there is one.
    """

    rows: NDArray[np.float32]
    known: NDArray[np.bool_]
    mode: EmbeddingMode


class WordTable(nn.Embedding):
    """A vector for each word, trained."""

    def begin(self) -> None:
        """Take up the pretrained vectors, once the weights have been drawn."""

    def table(self) -> Tensor:
        """The vectors of the whole vocabulary, (V, E)."""
        return self.weight


class FinetunedWordTable(WordTable):
    """Trained from the pretrained vectors on."""

    def __init__(self, pretrained: PretrainedRows) -> None:
        super().__init__(*pretrained.rows.shape)
        self.known: Tensor
        self.rows: Tensor
        self.register_buffer("known", torch.from_numpy(pretrained.known)[:, None], persistent=False)
        self.register_buffer("rows", torch.from_numpy(pretrained.rows), persistent=False)

    @torch.no_grad()
    def begin(self) -> None:
        """Begin with the pretrained vectors, where there are any."""
        self.weight.copy_(torch.where(self.known, self.rows, self.weight))


class FrozenWordTable(FinetunedWordTable):
    """Pretrained vectors as they are; the words that have none are trained."""

    def forward(self, ids: Tensor) -> Tensor:
        """Look ids (...) up as (..., E)."""
        return torch.where(self.known[ids], self.rows[ids], super().forward(ids))

    def table(self) -> Tensor:
        """The vectors of the whole vocabulary, (V, E)."""
        return torch.where(self.known, self.rows, self.weight)


class GatedWordTable(FinetunedWordTable):
    """Each pretrained vector mixed with one of the task's own; a gate, read from the pretrained one, says by how much.

    The gate is a function of the vector and not a number for each word, so that words which training never saw have
    one too. Source: after the gates by word type of Kiros et al. 2018.
    """

    def __init__(self, pretrained: PretrainedRows) -> None:
        super().__init__(pretrained)
        self.gate = nn.Linear(self.embedding_dim, self.embedding_dim)

    @torch.no_grad()
    def begin(self) -> None:
        """Own vectors of pretrained words begin at zero: a word that is never met keeps its direction."""
        self.weight.masked_fill_(self.known, 0.0)
        nn.init.zeros_(self.gate.weight)
        nn.init.constant_(self.gate.bias, _MOSTLY_PRETRAINED)

    def forward(self, ids: Tensor) -> Tensor:
        """Look ids (...) up as (..., E)."""
        return self._mixed(self.known[ids], self.rows[ids], super().forward(ids))

    def table(self) -> Tensor:
        """The vectors of the whole vocabulary, (V, E)."""
        return self._mixed(self.known, self.rows, self.weight)

    def _mixed(self, known: Tensor, rows: Tensor, own: Tensor) -> Tensor:
        share = torch.sigmoid(self.gate(rows))
        return torch.where(known, share * rows + (1 - share) * own, own)


_TABLES: dict[EmbeddingMode, type[FinetunedWordTable]] = {
    "frozen": FrozenWordTable,
    "finetuned": FinetunedWordTable,
    "gated": GatedWordTable,
}


def word_table(vocab_size: int, embedding_dim: int, pretrained: PretrainedRows | None) -> WordTable:
    """The table that the mode asks for; `begin` is to follow once its weights have been drawn."""
    return _TABLES[pretrained.mode](pretrained) if pretrained else WordTable(vocab_size, embedding_dim)
