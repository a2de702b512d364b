"""What was measured, a file for each fit, so that a killed run goes on where it was.

results/records/<set>/<system>[-<cell>][-without-<part>]-seed<n>.json
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.durable import replace_text

Record = dict[str, Any]
GATEWISE = "gatewise"


@dataclass(frozen=True)
class Key:
    """One fit.

    Attributes:
        system: `gatewise`, or a comparator's name.
        cell: `lstm` or `gru`; empty for comparators.
        without: the part of the recipe that is left out; empty where none is.
    """

    set: str
    system: str
    cell: str
    seed: int
    without: str = ""

    @property
    def file(self) -> str:
        """The record's place in the results."""
        names = [self.system, self.cell, f"without-{self.without}" if self.without else "", f"seed{self.seed}"]
        return f"{self.set}/{'-'.join(name for name in names if name)}.json"

    def __str__(self) -> str:
        told = [self.set, self.system, self.cell.upper(), f"without {self.without}" if self.without else ""]
        return " ".join([*filter(None, told), f"seed {self.seed}"])


class Records:
    """The records of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "records"

    def read(self, key: Key) -> Record | None:
        """The record of a fit; None where it was not made yet."""
        path = self.folder / key.file
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def write(self, key: Key, record: Record) -> None:
        """Keep a record, whole or not at all."""
        path = self.folder / key.file
        path.parent.mkdir(parents=True, exist_ok=True)
        fields = {"set": key.set, "system": key.system, "cell": key.cell, "seed": key.seed, "without": key.without}
        replace_text(path, json.dumps(fields | record, indent=1, sort_keys=True) + "\n")

    def all(self) -> Iterator[tuple[Key, Record]]:
        """Every record, in the order of the files' names."""
        for path in sorted(self.folder.glob("*/*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            yield Key(*(record[name] for name in ("set", "system", "cell", "seed", "without"))), record


def packed(values: NDArray[np.float64]) -> str:
    """Values as a line of text, in 32-bit floats."""
    return base64.b85encode(zlib.compress(values.astype("<f4").tobytes(), 9)).decode()


def unpacked(text: str) -> NDArray[np.float64]:
    """The values that `packed` wrote."""
    return np.frombuffer(zlib.decompress(base64.b85decode(text)), dtype="<f4").astype(np.float64)
