"""How a challenger that shadows production compares with it: one JSON file for each pair of versions.

All workers of a machine add to it what they saw since the last time.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from gatewise.durable import exclusive, replace_text

_BINS_PER_DOUBLING = 16  # a duration is known to 2 %
_NORMAL_95 = 1.959964


class Durations(BaseModel):
    """Durations by their logarithm, so that those of many workers add up and their quantiles are known.

    Attributes:
        bins: how many there are in each bin; bin i begins at 2 ** (i / 16) microseconds.
    """

    model_config = ConfigDict(extra="forbid")

    count: int = 0
    total_seconds: float = 0.0
    bins: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """Count one."""
        self.count += 1
        self.total_seconds += seconds
        self.bins[math.floor(math.log2(max(seconds * 1e6, 1.0)) * _BINS_PER_DOUBLING)] += 1

    def merge(self, other: Durations) -> None:
        """Add others."""
        self.count += other.count
        self.total_seconds += other.total_seconds
        self.bins.update(other.bins)

    @property
    def mean_ms(self) -> float | None:
        """Milliseconds; None of none."""
        return 1000 * self.total_seconds / self.count if self.count else None

    def quantile_ms(self, share: float) -> float | None:
        """The middle of the bin in which so many of them end, in milliseconds."""
        left = share * self.count
        for i in sorted(self.bins):
            left -= self.bins[i]
            if left <= 0 and self.count:
                return float(2 ** ((i + 0.5) / _BINS_PER_DOUBLING) / 1000)
        return None

    def summary(self) -> dict[str, float | None]:
        """Mean and quantiles, in milliseconds."""
        return {"mean": self.mean_ms, "p50": self.quantile_ms(0.5), "p99": self.quantile_ms(0.99)}


class Comparison(BaseModel):
    """What a pair of versions answered to the same sequences, each alone and one after the other.

    Attributes:
        rows: sequences that both answered.
        agreed: of these, those with the same label; with the same labels at every step.
        failed: sequences that the challenger refused or broke on.
        dropped: sampled requests that found the shadow busy.
        differences: labels of the champion, and what the challenger answered instead, with how often; of a model that
            labels steps, by step.
    """

    model_config = ConfigDict(extra="forbid")

    champion: str
    challenger: str
    rows: int = 0
    agreed: int = 0
    failed: int = 0
    dropped: int = 0
    differences: dict[str, Counter[str]] = {}
    champion_seconds: Durations = Durations()
    challenger_seconds: Durations = Durations()

    def add(self, champion: list[str], challenger: list[str]) -> bool:
        """Count the labels of one sequence, one or one for each step; whether they agree."""
        self.rows += 1
        agree = champion == challenger
        self.agreed += agree
        if not agree and len(champion) != len(challenger):
            champion, challenger = [f"{len(champion)} steps"], [f"{len(challenger)} steps"]
        for one, other in zip(champion, challenger, strict=True):
            if one != other:
                self.differences.setdefault(one, Counter())[other] += 1
        return agree

    def merge(self, other: Comparison) -> None:
        """Add what another worker saw of the same pair."""
        self.rows += other.rows
        self.agreed += other.agreed
        self.failed += other.failed
        self.dropped += other.dropped
        for label, instead in other.differences.items():
            self.differences.setdefault(label, Counter()).update(instead)
        self.champion_seconds.merge(other.champion_seconds)
        self.challenger_seconds.merge(other.challenger_seconds)

    @property
    def agreement(self) -> float | None:
        """Share of the rows; None of none."""
        return self.agreed / self.rows if self.rows else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the agreement, at 95 % (Wilson 1927)."""
        if not self.rows:
            return None
        n, p, z2 = self.rows, self.agreed / self.rows, _NORMAL_95**2
        middle = (p + z2 / (2 * n)) / (1 + z2 / n)
        half = _NORMAL_95 * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n)) / (1 + z2 / n)
        return max(0.0, middle - half), min(1.0, middle + half)

    def summary(self) -> dict[str, Any]:
        """All of it in figures, for programs."""
        return {
            **self.model_dump(include={"champion", "challenger", "rows", "failed", "dropped", "differences"}),
            "agreement": self.agreement,
            "interval": self.interval,
            "champion_ms": self.champion_seconds.summary(),
            "challenger_ms": self.challenger_seconds.summary(),
        }


class Comparisons:
    """The comparisons of one model, in a folder. Any number of processes may add to them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, found: Comparison) -> None:
        """Add to what is known of a pair."""
        path = self._folder / f"{found.champion}..{found.challenger}.json"
        with exclusive(self._folder / "lock"):
            whole = _read(path)
            if whole is None:
                whole = found
            else:
                whole.merge(found)
            replace_text(path, whole.model_dump_json(indent=1) + "\n")

    def list(self) -> list[Comparison]:
        """What is known of each pair, the newest challenger first."""
        found = [one for path in self._folder.glob("*.json") if (one := _read(path)) is not None]
        return sorted(found, key=lambda one: (one.challenger, one.champion), reverse=True)


def _read(path: Path) -> Comparison | None:
    """What a file says; one that is damaged counts as none: it is a count, and is counted anew."""
    try:
        return Comparison.model_validate_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
