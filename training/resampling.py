"""How sure a figure is: bootstrap intervals over rows and seeds, and a paired test of two candidates on the same rows.

N rows, R resamples, S seeds.
Source: Efron & Tibshirani 1993 (the percentile bootstrap), Noreen 1989 and Yeh 2000 (approximate randomization).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.tallies import Floats, Tally, pooled

RESAMPLES = 1000
# Of fewer rows, all for one candidate are what lot gives in more than 5%: they tell nothing.
FEWEST_ROWS = 6
# What never happened in N rows happens, with 95% confidence, in at most 3/N of all.
RULE_OF_THREE = 3.0
LEVEL = 0.95
_ROUNDING = 1e-12
# Counts of so many rows are held at a time.
_HELD = 4_000_000


@dataclass(frozen=True)
class PairedTest:
    """The difference of two candidates in one metric, on the same rows.

    Attributes:
        of: their names; `difference` is the first one's figure less the second one's, of all seeds together.
        low, high: of the difference, at 95%; None where the rows are too few to tell anything.
        p_value: of a difference as large where which of the two gave which answer is drawn by lot, row by row.
    """

    of: tuple[str, str]
    metric: str
    difference: float
    low: float | None
    high: float | None
    p_value: float
    method: str

    @property
    def is_clear(self) -> bool:
        """Whether chance does not explain the difference: of the rows alone, nor of rows and seeds."""
        if self.low is None or self.high is None or self.p_value >= 1 - LEVEL:
            return False
        return self.low > 0 or self.high < 0


def intervals(figures: Sequence[Sequence[Tally]]) -> list[tuple[float, float] | None]:
    """The interval of each figure, at 95%.

    Args:
        figures: each with a tally for every seed, all of the same rows. A resample draws rows, and as many seeds.
    Returns:
        low and high; None where the rows are too few. Where every row is right no resample has a mistake,
        and the bound is that of the rule of three (Hanley & Lippman-Hand 1983).
    """
    return [
        _within_one(_quantiles(values), tallies[0].rows) if tallies[0].rows >= FEWEST_ROWS else None
        for values, tallies in zip(_resampled(figures), figures, strict=True)
    ]


def paired_test(names: tuple[str, str], metric: str, ours: Sequence[Tally], theirs: Sequence[Tally]) -> PairedTest:
    """Compare two candidates, each with a tally for every seed, all of the same rows."""
    one, other = _resampled([ours, theirs])
    a, b = pooled(ours), pooled(theirs)
    quantiles = _quantiles(one - other) if a.rows >= FEWEST_ROWS else None
    drawn = "rows and seeds" if len(ours) > 1 or len(theirs) > 1 else "rows"
    return PairedTest(
        of=names,
        metric=metric,
        difference=a.value - b.value,
        low=quantiles[0] if quantiles else None,
        high=quantiles[1] if quantiles else None,
        p_value=_randomization(a, b),
        method=f"p by randomization of {a.rows} rows, interval by bootstrap over {drawn}, {RESAMPLES} draws each",
    )


def _resampled(figures: Sequence[Sequence[Tally]]) -> list[Floats]:
    """Of each figure its value in R resamples, (R,); the rows drawn are the same for all, the seeds each one's own."""
    rows = figures[0][0].rows
    rng = np.random.default_rng(0)
    values: list[list[list[Floats]]] = [[[] for _ in tallies] for tallies in figures]
    for counts in _row_counts(rows, rng):
        for of_figure, tallies in zip(values, figures, strict=True):
            for of_seed, tally in zip(of_figure, tallies, strict=True):
                of_seed.append(tally.of(counts))
    found = []
    for of_figure in values:
        by_seed = np.stack([np.concatenate(parts) for parts in of_figure])
        drawn = rng.integers(len(by_seed), size=by_seed.shape)
        found.append(np.take_along_axis(by_seed, drawn, axis=0).mean(axis=0))
    return found


def _row_counts(rows: int, rng: np.random.Generator) -> Iterator[Floats]:
    """How often each of N rows is drawn, for R draws of N, in pieces (R', N)."""
    for size in _pieces(rows):
        drawn = rng.integers(rows, size=(size, rows)) + rows * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * rows).reshape(size, rows).astype(np.float64)


def _randomization(ours: Tally, theirs: Tally) -> float:
    observed = abs(ours.value - theirs.value)
    moved = theirs.sums - ours.sums
    first, second = (np.asarray(tally.sums.sum(axis=0)).ravel() for tally in (ours, theirs))
    rng = np.random.default_rng(1)
    as_large = 0
    for size in _pieces(ours.rows):
        swapped = rng.integers(2, size=(size, ours.rows)).astype(np.float64)
        change = (moved.T @ swapped.T).T
        differences = np.abs(ours.figure(first + change) - theirs.figure(second - change))
        as_large += int((differences >= observed - _ROUNDING).sum())
    return (1 + as_large) / (1 + RESAMPLES)


def _pieces(rows: int) -> Iterator[int]:
    most = max(1, _HELD // rows)
    for start in range(0, RESAMPLES, most):
        yield min(most, RESAMPLES - start)


def _quantiles(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _within_one(bounds: tuple[float, float], rows: int) -> tuple[float, float]:
    unseen = min(RULE_OF_THREE / rows, 1.0)
    if bounds == (1.0, 1.0):
        return 1.0 - unseen, 1.0
    return (0.0, unseen) if bounds == (0.0, 0.0) else bounds
