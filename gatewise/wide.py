"""A linear classifier over the n-grams of a text's tokens, beside the network (Cheng et al. 2016, wide and deep).

On long texts, what words and phrases stand anywhere tells what a recurrence forgets. Each n-gram has a row of a table,
found by hashing; a text's scores are the sum of its distinct n-grams' rows over the square root of their number. They
are added to the network's logits. `training/wide.py` fits the table.

T tokens, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import ModelConfig
from gatewise.errors import ArtifactCorrupt
from gatewise.schema import FloatArray

Ids = NDArray[np.int64]

# Small enough that a hash times a factor stays within 64 bits.
_PRIME = 2_147_483_647
_PREVIOUS, _NEXT, _SPREAD = 1_000_003, 8_191, 40_503


def wide_rows(ids: Ids, order: int, buckets: int) -> Ids:
    """Distinct rows of the table, sorted, for the n-grams of 1 to `order` tokens of ids (T,)."""
    hashes = ids % _PRIME
    found = [hashes]
    for n in range(2, min(order, len(ids)) + 1):
        hashes = (hashes[:-1] * _PREVIOUS + ids[n - 1 :] * _NEXT + n) % _PRIME
        found.append(hashes)
    return np.unique(np.concatenate(found) * _SPREAD % _PRIME % buckets)


def wide_logits(rows: Ids, weight: FloatArray, bias: FloatArray) -> FloatArray:
    """Scores (K,) of a text whose n-grams have these rows of the table (buckets, K)."""
    scores: FloatArray = weight[rows].sum(axis=0) / np.float32(np.sqrt(len(rows))) + bias
    return scores


class WideBranch:
    """Reads the weights `wide.weight` (buckets, K) and `wide.bias` (K,)."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, FloatArray]) -> None:
        """Raise ArtifactCorrupt where a weight is missing or has another shape than the configuration says."""
        shapes = {"wide.weight": (config.wide_buckets, config.num_classes), "wide.bias": (config.num_classes,)}
        for name, shape in shapes.items():
            if name not in weights or weights[name].shape != shape:
                raise ArtifactCorrupt(f"the weights have no {name} of shape {shape}; restore the folder")
        self._order = config.wide_order
        self._weight = weights["wide.weight"]
        self._bias = weights["wide.bias"]

    def logits(self, ids: Ids) -> FloatArray:
        """What the branch adds to the logits (K,) of a text with these token ids (T,)."""
        return wide_logits(wide_rows(ids, self._order, len(self._weight)), self._weight, self._bias)


def wide_names() -> tuple[str, ...]:
    """The weights that are a linear branch's, of texts or of series, not the network's."""
    return ("wide.weight", "wide.bias", "wide.channels", "wide.thresholds")
