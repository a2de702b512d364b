"""A linear-chain conditional random field over a model's tags (Lafferty et al. 2001): what tag follows which.

The network scores each tag at each step; here the scores of a whole sequence's tags are the sum of those and of a score
for each pair of neighbours. `training/crf.py` fits them.

T timesteps, K tags.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import ArtifactCorrupt
from gatewise.schema import FloatArray

Floats = NDArray[np.float64]
_SMALLEST = 1e-300


class TagChain:
    """Reads the weights `crf.transitions` (K, K), from tag to tag, `crf.start` (K,) and `crf.end` (K,)."""

    def __init__(self, weights: Mapping[str, FloatArray], num_classes: int) -> None:
        """Raise ArtifactCorrupt where a weight is missing or has another shape than the tags ask for."""
        K = num_classes
        for name, shape in (("crf.transitions", (K, K)), ("crf.start", (K,)), ("crf.end", (K,))):
            if name not in weights or weights[name].shape != shape:
                raise ArtifactCorrupt(f"the weights have no {name} of shape {shape}; restore the folder")
        self._transitions: Floats = weights["crf.transitions"].astype(np.float64)
        self._start: Floats = weights["crf.start"].astype(np.float64)
        self._end: Floats = weights["crf.end"].astype(np.float64)
        self._factors: Floats = np.exp(self._transitions)

    def best(self, logits: FloatArray) -> NDArray[np.int64]:
        """The most likely tags together (Viterbi 1967), indices (T,), of the network's scores (T, K)."""
        scores = logits.astype(np.float64)
        total = self._start + scores[0]
        came_from = []
        for step in scores[1:]:
            through = total[:, None] + self._transitions
            came_from.append(through.argmax(axis=0))
            total = through.max(axis=0) + step
        tags = [int((total + self._end).argmax())]
        for previous in reversed(came_from):
            tags.append(int(previous[tags[-1]]))
        return np.array(tags[::-1], dtype=np.int64)

    def log_marginals(self, logits: FloatArray) -> Floats:
        """Log-probability (T, K) of each tag at each step, over all ways to tag the rest; of scores (T, K)."""
        scores = logits.astype(np.float64)
        likely = np.exp(scores - scores.max(axis=1, keepdims=True))
        before = np.empty_like(likely)
        after = np.empty_like(likely)
        before[0] = _shares(np.exp(self._start) * likely[0])
        after[-1] = _shares(np.exp(self._end))
        for t in range(1, len(likely)):
            before[t] = _shares((before[t - 1] @ self._factors) * likely[t])
        for t in range(len(likely) - 2, -1, -1):
            after[t] = _shares(self._factors @ (likely[t + 1] * after[t + 1]))
        marginals = before * after
        logs: Floats = np.log(np.maximum(marginals / marginals.sum(axis=1, keepdims=True), _SMALLEST))
        return logs


def _shares(values: Floats) -> Floats:
    # Only proportions matter; without this the products of many steps would leave a float's range.
    scaled: Floats = np.maximum(values / values.sum(), _SMALLEST)
    return scaled


def crf_names() -> tuple[str, ...]:
    """The weights that are the chain's, not the network's."""
    return ("crf.transitions", "crf.start", "crf.end")
