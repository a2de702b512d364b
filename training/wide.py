"""The linear branch of texts, `gatewise.wide`, fitted on the train split.

N rows, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from gatewise.text import TextEncoder
from gatewise.wide import wide_logits, wide_rows
from training.blending import Encoder, Floats, row_losses
from training.dataset import Dataset
from training.linear import fit_linear

Ids = NDArray[np.int64]

ORDER = 3
# An n-gram that one text alone holds tells nothing of another text.
_LEAST_TEXTS = 2
# With fewer rows too many n-grams would share one.
_LEAST_BUCKETS, _MOST_BUCKETS = 1 << 15, 1 << 22
# Rows for each n-gram that counts, so that one never seen seldom reads the weight of another.
_ROWS_EACH = 64
# Numbers in a table: 32 MB in the artifact.
_LARGEST = 1 << 23
_WEIGHTINGS: tuple[Literal["idf", "nb"], ...] = ("idf", "nb")
_STRENGTHS = (10.0, 30.0, 100.0)


class Recipe(NamedTuple):
    """How n-grams weigh before they are fitted, by rarity or by what sets classes apart, and how freely they are."""

    weighting: Literal["idf", "nb"]
    strength: float


@dataclass(frozen=True)
class Wide:
    """A fitted branch.

    Attributes:
        weight, bias: float32 (buckets, K) and (K,).
        recipe: what it was fitted with.
    """

    # Its table is large and must show its worth.
    expected_share: ClassVar[None] = None

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    recipe: Recipe

    @property
    def buckets(self) -> int:
        """Rows of the table."""
        return len(self.weight)

    def logits(self, data: Dataset, encoder: Encoder) -> NDArray[np.float32]:
        """Scores of every row, (N, K)."""
        assert isinstance(encoder, TextEncoder)
        return self.scores(_rows(data, encoder, self.buckets))

    def scores(self, rows: Sequence[Ids]) -> NDArray[np.float32]:
        """Scores (N, K) of texts by their rows of the table."""
        return np.stack([wide_logits(row, self.weight, self.bias) for row in rows])

    def weights(self, share: float) -> dict[str, NDArray[np.float32]]:
        """The weights that serve, where the network's logits have the weight 1 and the branch's this one."""
        return {"wide.weight": self.weight * np.float32(share), "wide.bias": self.bias * np.float32(share)}

    def parts(self) -> dict[str, Any]:
        """What the model's configuration says of it."""
        return {"wide_buckets": self.buckets, "wide_order": ORDER}

    def again(self, train: Dataset, encoder: Encoder, labels: tuple[str, ...], *, seed: int) -> Wide | None:
        """The branch fitted to other rows; None where no n-gram stands in two of their texts."""
        assert isinstance(encoder, TextEncoder)
        return fit_wide(train, encoder, labels, self.recipe, seed=seed)


def choose_wide(
    train: Dataset, valid: Dataset, encoder: TextEncoder, labels: tuple[str, ...], *, seed: int
) -> Wide | None:
    """Fit the branch with every `Recipe` and keep the best on validation.

    Returns:
        None where no n-gram stands in two texts, or where so many labels leave too few n-grams a row of their own.
    """
    ngrams = _count(train, encoder, labels)
    if ngrams is None:
        return None
    assert valid.labels is not None
    known = [i for i, label in enumerate(valid.labels) if label in labels]
    rows = _rows(valid.take(known), encoder, ngrams.buckets)
    truth = np.array([labels.index(valid.labels[i]) for i in known])
    recipes = [Recipe(weighting, strength) for weighting in _WEIGHTINGS for strength in _STRENGTHS]
    return min(
        (ngrams.fit(recipe, seed) for recipe in recipes), key=lambda wide: row_losses(wide.scores(rows), truth).mean()
    )


def fit_wide(
    train: Dataset, encoder: TextEncoder, labels: tuple[str, ...], recipe: Recipe, *, seed: int
) -> Wide | None:
    """Fit the branch with a recipe that was chosen before."""
    ngrams = _count(train, encoder, labels)
    return ngrams.fit(recipe, seed) if ngrams else None


def _rows(data: Dataset, encoder: TextEncoder, buckets: int) -> list[Ids]:
    return [wide_rows(text.whole, ORDER, buckets) for text in encoder.encode_many(data.items)]


@dataclass(frozen=True)
class _Ngrams:
    """What the train texts hold.

    Attributes:
        held: sparse (N, columns), 1 where a text holds an n-gram that counts.
        sizes: number of distinct n-grams of each text, those that do not count included, (N,).
        columns: the row of the table of each n-gram that counts.
        truth: class indices (N,).
    """

    held: Any
    sizes: Ids
    columns: Ids
    buckets: int
    truth: Ids
    num_classes: int

    def fit(self, recipe: Recipe, seed: int) -> Wide:
        """Fit the table."""
        texts = np.asarray(self.held.sum(axis=0))[0]
        weight = _rarity(self.held) if recipe.weighting == "idf" else _contrast(self.held, self.truth, self.num_classes)
        # Their mean square is 1, so that a strength means the same everywhere.
        weight /= np.sqrt((weight**2 * texts).sum() / texts.sum())
        features = sparse.diags(1 / np.sqrt(self.sizes)) @ self.held @ sparse.diags(weight)
        coefficients, bias = fit_linear(features, self.truth, self.num_classes, recipe.strength, seed)
        table = np.zeros((self.buckets, self.num_classes), dtype=np.float32)
        table[self.columns] = coefficients * weight[:, None]
        return Wide(table, bias, recipe)


def _count(train: Dataset, encoder: TextEncoder, labels: tuple[str, ...]) -> _Ngrams | None:
    assert train.labels is not None
    most = min(_MOST_BUCKETS, _power_of_two(_LARGEST // len(labels)))
    if most < _LEAST_BUCKETS:
        return None
    rows = _rows(train, encoder, most)
    held_by_two = int((np.bincount(np.concatenate(rows)) >= _LEAST_TEXTS).sum())
    if not held_by_two:
        return None
    buckets = min(most, max(_LEAST_BUCKETS, _power_of_two(_ROWS_EACH * held_by_two)))
    # A power of two divides a larger one, so that these are the rows of the smaller table.
    rows = [np.unique(row % buckets) for row in rows]
    columns = np.flatnonzero(np.bincount(np.concatenate(rows), minlength=buckets) >= _LEAST_TEXTS)
    place = np.full(buckets, -1, dtype=np.int64)
    place[columns] = np.arange(len(columns))
    kept = [found[found >= 0] for found in (place[row] for row in rows)]
    indices, ends = np.concatenate(kept), np.cumsum([0, *map(len, kept)])
    held = sparse.csr_matrix((np.ones(len(indices)), indices, ends), (len(rows), len(columns)))
    index = {label: k for k, label in enumerate(labels)}
    truth = np.array([index[label] for label in train.labels])
    return _Ngrams(held, np.array([len(row) for row in rows]), columns, buckets, truth, len(labels))


def _power_of_two(number: int) -> int:
    """The largest one that is not above the number."""
    return 1 << number.bit_length() - 1


def _rarity(held: Any) -> Floats:
    """Inverse document frequency (columns,): what few texts hold tells more of them."""
    texts = np.asarray(held.sum(axis=0))[0]
    weights: Floats = np.log((1 + held.shape[0]) / (1 + texts)) + 1
    return weights


def _contrast(held: Any, truth: Ids, num_classes: int) -> Floats:
    """Naive Bayes' log-count ratio (columns,) of the class that it sets apart most (Wang & Manning 2012)."""
    rows = np.arange(len(truth))
    classes = sparse.csr_matrix((np.ones(len(truth)), (rows, truth)), (len(truth), num_classes))
    counts = (held.T @ classes).toarray() + 1
    others = counts.sum(axis=1, keepdims=True) - counts
    ratios = np.log(counts / counts.sum(axis=0)) - np.log(others / others.sum(axis=0))
    weights: Floats = np.abs(ratios).max(axis=1)
    return weights
