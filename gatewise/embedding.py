"""Tokens to vectors: a vector for each known token, hashed pieces for unknown ones, hashed pairs of neighbours.

A token's vector is the sum of up to four parts. The word part is a row of a table. The character part is the mean of
rows for the token's character n-grams (Bojanowski et al. 2017), found by hashing, so that a word never seen is not
a blank. The affix part is the sum of rows for its first letters, its last ones, the whole in lower case and its shape,
which tell its grammar and would drown in a mean of all. For known tokens both are already added to the word part when
the model is saved. The pair part is a row for the token and the one before it, found by hashing too (Joulin et al.
2016): it tells word order without a recurrence.

T timesteps, E embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import ModelConfig
from gatewise.errors import ArtifactCorrupt
from gatewise.schema import FloatArray

Ids = NDArray[np.int64]

_NGRAM_SIZES = (3, 4, 5)
# A word's end tells most of its grammar and its beginning most of its meaning; what is between is left out beyond this.
_LONGEST_TOKEN = 40
_PREFIX_SIZES, _SUFFIX_SIZES = (1, 2, 3), (1, 2, 3, 4)
_REPEATED = re.compile(r"(.)\1\1+")
_PREVIOUS, _CURRENT, _PRIME = 1_000_003, 8_191, 2_147_483_647

# numpy arrays and torch tensors share the operators that the pair hash needs, and must give the same rows.
Integers = TypeVar("Integers", bound=Any)


def ngram_rows(token: str, buckets: int) -> Ids:
    """Rows of the character table for a token, at least one: its n-grams of 3 to 5 characters, its ends marked."""
    if len(token) > _LONGEST_TOKEN:
        token = token[: _LONGEST_TOKEN // 2] + token[-_LONGEST_TOKEN // 2 :]
    marked = f"<{token}>"
    pieces = {marked[i : i + n] for n in _NGRAM_SIZES for i in range(len(marked) - n + 1)} or {marked}
    return np.array(sorted(crc32(piece.encode()) % buckets for piece in pieces), dtype=np.int64)


def affix_rows(token: str, buckets: int) -> Ids:
    """Rows of the affix table for a token, (9,).

    In lower case its first 1 to 3 characters, its last 1 to 4, and the whole; then its shape, which keeps its capitals.
    """
    whole = token[:_LONGEST_TOKEN].lower()
    ending = token[-max(_SUFFIX_SIZES) :].lower()
    pieces = [whole[:n] for n in _PREFIX_SIZES] + [ending[-n:] for n in _SUFFIX_SIZES] + [whole, _shape(token)]
    return np.array([crc32(f"{i}{piece}".encode()) % buckets for i, piece in enumerate(pieces)], dtype=np.int64)


def _shape(token: str) -> str:
    """The kinds of a token's characters, runs shortened: `Xxx` for Monday, `dd-dd` for 1996-97."""
    kinds = "".join(
        "X" if c.isupper() else "x" if c.isalpha() else "d" if c.isnumeric() else c for c in token[:_LONGEST_TOKEN]
    )
    return _REPEATED.sub(r"\1\1", kinds)


def pair_rows(previous: Integers, current: Integers, buckets: int) -> Integers:
    """Rows of the pair table for neighbouring token ids, elementwise; 0 stands before the first."""
    rows: Integers = (previous * _PREVIOUS + current * _CURRENT) % _PRIME % buckets
    return rows


class TokenEmbedder:
    """Embeds one encoded text in numpy; what serving runs, and what the torch embedding of training is held to."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, FloatArray]) -> None:
        """Raise ArtifactCorrupt where a table is missing or has another shape than the configuration says."""
        E = config.embedding_dim or 0
        self._words = _table(weights, "embedding.weight", (config.vocab_size or 0, E))
        self._ngrams = _table(weights, "ngrams.weight", (config.ngram_buckets, E)) if config.ngram_buckets else None
        self._affixes = _table(weights, "affixes.weight", (config.affix_buckets, E)) if config.affix_buckets else None
        self._pairs = _table(weights, "pairs.weight", (config.pair_buckets, E)) if config.pair_buckets else None

    def embed(self, ids: Ids, unknown: Sequence[tuple[int, str]] = ()) -> FloatArray:
        """Return features (T, E).

        Args:
            ids: token ids, (T,).
            unknown: position and spelling of the tokens that the vocabulary lacks.
        """
        features: FloatArray = self._words[ids]
        for position, token in unknown:
            if self._ngrams is not None:
                features[position] += self._ngrams[ngram_rows(token, len(self._ngrams))].mean(axis=0)
            if self._affixes is not None:
                features[position] += self._affixes[affix_rows(token, len(self._affixes))].sum(axis=0)
        if self._pairs is not None:
            previous = np.concatenate([[0], ids[:-1]])
            features += self._pairs[pair_rows(previous, ids, len(self._pairs))]
        return features


def _table(weights: Mapping[str, FloatArray], name: str, shape: tuple[int, int]) -> FloatArray:
    if name not in weights:
        raise ArtifactCorrupt(f"the weights have no {name}; restore the folder")
    if weights[name].shape != shape:
        raise ArtifactCorrupt(f"{name} has shape {weights[name].shape}, and the model {shape}; restore the folder")
    return weights[name]


def embedding_names() -> tuple[str, ...]:
    """The weights that are the embedding's, not the recurrent network's."""
    return ("embedding.weight", "ngrams.weight", "affixes.weight", "pairs.weight")
