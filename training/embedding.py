"""The embedding as it is trained; `fold` gives what `gatewise.embedding` serves.

B batch, T timesteps, E embedding, N pieces of a spelling, F forms: the vocabulary, then every spelling of train and
valid that it lacks.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.architecture import ModelConfig
from gatewise.embedding import affix_rows, ngram_rows, pair_rows
from gatewise.text import UNKNOWN_ID, TokenIds
from training.word_tables import PretrainedRows, word_table


class Forms:
    """Numbers the spellings of a job's texts, so that a row of a batch is one array of integers.

    Args:
        words: the vocabulary in the order of its ids.
        ngram_buckets, affix_buckets: rows of those tables; with none, unknown tokens need no spelling.
        pretrained: vectors that the words begin with.
    """

    def __init__(
        self,
        words: list[str],
        ngram_buckets: int = 0,
        affix_buckets: int = 0,
        pretrained: PretrainedRows | None = None,
    ) -> None:
        self.vocab_size = len(words)
        self.ngram_buckets = ngram_buckets
        self.affix_buckets = affix_buckets
        self.pretrained = pretrained
        self._words = words
        self._unknown: dict[str, int] = {}

    def number(self, text: TokenIds, *, grows: bool = True) -> NDArray[np.int64]:
        """Return the forms (T,) of an encoded text.

        Args:
            grows: whether an unknown spelling that is new gets a number; else it stays the unknown token.
        """
        if not (self.ngram_buckets or self.affix_buckets) or not text.unknown:
            return text.ids
        forms = text.ids.copy()
        for position, token in text.unknown:
            if grows:
                self._unknown.setdefault(token, self.vocab_size + len(self._unknown))
            forms[position] = self._unknown.get(token, UNKNOWN_ID)
        return forms

    def ngrams(self) -> NDArray[np.int64]:
        """Rows of the character table for each form, (F, N), filled up with `ngram_buckets`."""
        return self._bags(ngram_rows, self.ngram_buckets)

    def affixes(self) -> NDArray[np.int64]:
        """Rows of the affix table for each form, (F, N), filled up with `affix_buckets`."""
        return self._bags(affix_rows, self.affix_buckets)

    def _bags(self, rows_of: Callable[[str, int], NDArray[np.int64]], buckets: int) -> NDArray[np.int64]:
        spellings = [*self._words[UNKNOWN_ID + 1 :], *self._unknown]
        # Padding and the unknown token have no spelling.
        rows = [np.empty(0, dtype=np.int64)] * (UNKNOWN_ID + 1) + [rows_of(s, buckets) for s in spellings]
        # Never of no width, which torch does not take, though every text be empty.
        bags = np.full((len(rows), max(map(len, rows)) or 1), buckets, dtype=np.int64)
        for bag, row in zip(bags, rows, strict=True):
            bag[: len(row)] = row
        return bags


class SpellingTable(nn.EmbeddingBag):
    """Forms to vectors, each the mean or the sum of the rows that its spelling has.

    Args:
        bags: rows for each form, (F, N), filled up with `buckets`.
    """

    def __init__(self, bags: NDArray[np.int64], buckets: int, dim: int, *, mode: str) -> None:
        super().__init__(buckets + 1, dim, mode=mode, padding_idx=buckets)
        self.bags: Tensor
        self.register_buffer("bags", torch.from_numpy(bags), persistent=False)

    def forward(self, forms: Tensor) -> Tensor:  # type: ignore[override]
        """Embed forms (F,) as (F, E)."""
        vectors: Tensor = super().forward(self.bags[forms])
        return vectors


class TokenEmbedding(nn.Module):
    """Word, character, affix and pair parts, summed.

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
        self.ngrams = self.affixes = self.pairs = None
        if config.ngram_buckets:
            self.ngrams = SpellingTable(forms.ngrams(), config.ngram_buckets, config.embedding_dim, mode="mean")
        if config.affix_buckets:
            self.affixes = SpellingTable(forms.affixes(), config.affix_buckets, config.embedding_dim, mode="sum")
        if config.pair_buckets:
            self.pairs = nn.Embedding(config.pair_buckets, config.embedding_dim)
        for table in (self.words, self.ngrams, self.affixes, self.pairs):
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
        tables = self._spelling_tables()
        if tables:
            # Each spelling of the batch once: texts repeat their words.
            present, places = torch.unique(forms, return_inverse=True)
            features = features + torch.stack([table(present) for table in tables]).sum(dim=0)[places]
        return features, ids

    def _spelling_tables(self) -> list[SpellingTable]:
        return [table for table in (self.ngrams, self.affixes) if table is not None]

    @torch.no_grad()
    def fold(self) -> dict[str, NDArray[np.float32]]:
        """The weights that serve, by the names of `gatewise.architecture`: known tokens hold their characters."""
        weights = {"embedding.weight": self.words.table().clone()}
        known = torch.arange(self.vocab_size, device=self.words.weight.device)
        for table in self._spelling_tables():
            weights["embedding.weight"] += table(known)
        if self.ngrams is not None:
            weights["ngrams.weight"] = self.ngrams.weight[:-1].clone()
        if self.affixes is not None:
            weights["affixes.weight"] = self.affixes.weight[:-1].clone()
        if self.pairs is not None:
            weights["pairs.weight"] = self.pairs.weight.clone()
        return {name: weight.cpu().numpy() for name, weight in weights.items()}
