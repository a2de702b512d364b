"""What a week sends to a model: a real data set, half of it known before, the rest day by day.

T timesteps, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.accuracy.sets import SETS
from gatewise.artifact import jsonable
from training.dataset import Dataset
from training.readers import ReadOptions, read

DAYS, WRONG = 7, 0.1
DRIFTS_ON, SCALE, SHIFT = 4, 0.3, 20.0


@dataclass(frozen=True)
class Day:
    """What comes on one day.

    Attributes:
        rows: with their true labels.
        reported: the labels that come back for them, of which a tenth is wrong.
        test: the test rows, as they would come that day.
    """

    number: int
    rows: Dataset
    reported: list[str]
    test: Dataset

    @property
    def has_drifted(self) -> bool:
        """Whether the first channel is another than it was."""
        return self.rows.kind == "series" and self.number >= DRIFTS_ON


@dataclass(frozen=True)
class World:
    """A data set as a week.

    Attributes:
        known: the half to train on before the first day.
    """

    known: Dataset
    test: Dataset
    days: list[Day]


def make_world(name: str, data: Path, seed: int = 0) -> World:
    """Divide a set of `benchmarks.accuracy`: the same for the same seed."""
    chosen = SETS[name]
    reading = ReadOptions(**chosen.reading)
    rows, test = (read(data / str(file), reading) for file in (chosen.train, chosen.test))
    rng = np.random.default_rng(seed)
    known, *parts = _parts(len(rows), rng)
    days = [_day(number, rows.take(part), test, rng) for number, part in enumerate(parts, 1)]
    return World(rows.take(known), test, days)


def write(rows: Dataset, path: Path) -> None:
    """Write labelled rows as JSON lines."""
    assert rows.labels is not None
    lines = [{"sequence": jsonable(i), "label": label} for i, label in zip(rows.items, rows.labels, strict=True)]
    path.write_bytes(b"".join(orjson.dumps(line) + b"\n" for line in lines))


def _parts(rows: int, rng: np.random.Generator) -> list[Any]:
    order = rng.permutation(rows)
    return [order[: rows // 2], *np.array_split(order[rows // 2 :], DAYS)]


def _day(number: int, rows: Dataset, test: Dataset, rng: np.random.Generator) -> Day:
    day = Day(number, rows, _reported(rows, rng), test)
    return replace(day, rows=_drifted(rows), test=_drifted(test)) if day.has_drifted else day


def _reported(rows: Dataset, rng: np.random.Generator) -> list[str]:
    """The labels, a tenth of them another one of the set's."""
    assert rows.labels is not None
    names = sorted(set(rows.labels))
    wrong = set(rng.choice(len(rows), size=round(WRONG * len(rows)), replace=False).tolist())
    others = [[name for name in names if name != label] for label in rows.labels]
    return [str(rng.choice(others[i])) if i in wrong else label for i, label in enumerate(rows.labels)]


def _drifted(rows: Dataset) -> Dataset:
    """The first channel as another sensor would give it."""
    items = [item.copy() for item in rows.items]
    for item in items:
        item[:, 0] = SCALE * item[:, 0] + SHIFT
    return replace(rows, items=items)
