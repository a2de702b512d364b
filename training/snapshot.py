"""What a retraining works on, fixed when it begins: a killed one that goes on must not meet other feedback.

The file's first line says which version is champion; each other one is a sequence with its latest label.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from gatewise.artifact import jsonable
from gatewise.durable import replace_text
from gatewise.feedback import Collected, FeedbackStore
from training.merging import Feedback


@dataclass(frozen=True)
class Snapshot:
    """What a retraining works on.

    Attributes:
        champion: the version that was production.
        feedback: each sequence once, by the time of its latest label, the earliest first.
        repeats, conflicts: as `Collected` counts them.
    """

    champion: str
    feedback: list[Feedback]
    repeats: int
    conflicts: int

    @property
    def digest(self) -> str:
        """SHA-256 of the feedback, in whatever order it came."""
        lines = sorted(one.sha256 + orjson.dumps(one.label) for one in self.feedback)
        return hashlib.sha256(b"\n".join(lines)).hexdigest()


def take_snapshot(folder: Path, database: str, name: str, champion: str, since: datetime | None) -> Snapshot:
    """Read the feedback and keep it in the job's folder, or find there what was kept when the job began."""
    path = folder / "snapshot.jsonl"
    if path.exists():
        return _read(path)
    store = FeedbackStore(database)
    try:
        found = store.collect(name, since)
    finally:
        store.close()
    _write(path, champion, found)
    return _read(path)


def _write(path: Path, champion: str, found: Collected) -> None:
    head = {"champion": champion, "repeats": found.repeats, "conflicts": found.conflicts}
    rows = [
        {
            "sha256": item.sha256.hex(),
            "label": item.label,
            "at": item.received_at,
            "version": item.model_version,
            "source": item.source,
            "series": isinstance(item.sequence, np.ndarray),
            "sequence": jsonable(item.sequence),
        }
        for item in found.items
    ]
    replace_text(path, "".join(orjson.dumps(line).decode() + "\n" for line in (head, *rows)))


def _read(path: Path) -> Snapshot:
    # Not splitlines(): a text may hold a line separator of Unicode, which JSON leaves as it is.
    head, *rows = (orjson.loads(line) for line in path.read_bytes().split(b"\n") if line)
    return Snapshot(feedback=_feedback(rows), **head)


def _feedback(rows: Sequence[dict[str, Any]]) -> list[Feedback]:
    return [
        Feedback(
            np.array(row["sequence"], dtype=np.float32) if row["series"] else row["sequence"],
            row["label"],
            bytes.fromhex(row["sha256"]),
        )
        for row in rows
    ]
