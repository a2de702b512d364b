"""The embedding as it is trained; `fold` gives what `gatewise.embedding` serves.

B batch, T timesteps, E embedding, F forms: the vocabulary, then every spelling of train and valid that it lacks.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.architecture import ModelConfig
from gatewise.embedding import ngram_rows, pair_rows
from gatewise.text import UNKNOWN_ID, TokenIds
from training.word_tables import PretrainedRows, word_table


class Forms:
    """Numbers the spellings of a job's texts, so that a row of a batch is one array of integers.

    Args:
        words: the vocabulary in the order of its ids.
        buckets: rows of the character table; with 0 unknown tokens need no spelling.
        pretrained: vectors that the words begin with.
    """

    def __init__(self, words: list[str], buckets: int, pretrained: PretrainedRows | None = None) -> None:
        self.vocab_size = len(words)
        self.buckets = buckets
        self.pretrained = pretrained
        self._words = words
        self._unknown: dict[str, int] = {}

    def number(self, text: TokenIds, *, grows: bool = True) -> NDArray[np.int64]:
        """Return the forms (T,) of an encoded text.

        Args:
            grows: whether an unknown spelling that is new gets a number; else it stays the unknown token.
        """
        if not self.buckets or not text.unknown:
            return text.ids
        forms = text.ids.copy()
        for position, token in text.unknown:
            if grows:
                self._unknown.setdefault(token, self.vocab_size + len(self._unknown))
            forms[position] = self._unknown.get(token, UNKNOWN_ID)
        return forms

    def bags(self) -> NDArray[np.int64]:
        """Rows of the character table for each form, (F, N), filled up with `buckets`; none for padding and unknown."""
        spellings = [*self._words[UNKNOWN_ID + 1 :], *self._unknown]
        rows = [np.empty(0, dtype=np.int64)] * (UNKNOWN_ID + 1) + [ngram_rows(s, self.buckets) for s in spellings]
        # Never of no width, which torch does not take, though every text be empty.
        bags = np.full((len(rows), max(map(len, rows)) or 1), self.buckets, dtype=np.int64)
        for bag, row in zip(bags, rows, strict=True):
            bag[: len(row)] = row
        return bags


class TokenEmbedding(nn.Module):
    """Word, character and pair parts, summed.

    Args:
        word_dropout: share of tokens that count as unknown in training; they keep their characters, as unknown ones do.
    """

    def __init__(self, config: ModelConfig, forms: Forms, word_dropout: float) -> None:
        super().__init__()
        assert config.vocab_size is not None
        assert config.embedding_dim is not None
        self.vocab_size = config.vocab_size
        self.word_dropout = word_dropout
        self.words = word_table(config.vocab_size, config.embedding_dim, forms.pretrained)
        self.ngrams = self.pairs = None
        if config.ngram_buckets:
            self.bags: Tensor
            self.register_buffer("bags", torch.from_numpy(forms.bags()), persistent=False)
            self.ngrams = nn.EmbeddingBag(
                config.ngram_buckets + 1, config.embedding_dim, mode="mean", padding_idx=config.ngram_buckets
            )
        if config.pair_buckets:
            self.pairs = nn.Embedding(config.pair_buckets, config.embedding_dim)
        for table in (self.words, self.ngrams, self.pairs):
            if table is not None:
                nn.init.uniform_(table.weight, -0.05, 0.05)
        self.words.begin()

    def forward(self, forms: Tensor) -> Tensor:
        """Embed forms (B, T) as (B, T, E)."""
        features, ids = self.tokens(forms)
        if self.pairs is not None:
            previous = nn.functional.pad(ids[:, :-1], (1, 0))
            features = features + self.pairs(pair_rows(previous, ids, self.pairs.num_embeddings))
        return features

    def tokens(self, forms: Tensor) -> tuple[Tensor, Tensor]:
        """Embed forms (B, T) each by itself, without its pairs; return also the ids that were looked up, (B, T)."""
        ids = forms.masked_fill(forms >= self.vocab_size, UNKNOWN_ID)
        if self.training and self.word_dropout:
            ids = ids.masked_fill(torch.rand(ids.shape, device=ids.device) < self.word_dropout, UNKNOWN_ID)
        features: Tensor = self.words(ids)
        if self.ngrams is not None:
            # Each spelling of the batch once: texts repeat their words.
            present, places = torch.unique(forms, return_inverse=True)
            features = features + self.ngrams(self.bags[present])[places]
        return features, ids

    @torch.no_grad()
    def fold(self) -> dict[str, NDArray[np.float32]]:
        """The weights that serve, by the names of `gatewise.architecture`: known tokens hold their characters."""
        weights = {"embedding.weight": self.words.table().clone()}
        if self.ngrams is not None:
            weights["embedding.weight"] += self.ngrams(self.bags[: self.vocab_size])
            weights["ngrams.weight"] = self.ngrams.weight[:-1].clone()
        if self.pairs is not None:
            weights["pairs.weight"] = self.pairs.weight.clone()
        return {name: weight.cpu().numpy() for name, weight in weights.items()}
