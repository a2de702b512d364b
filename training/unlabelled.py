"""Sequences without labels: read as the train file was, and put together with its own for pretraining."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InvalidConfig, InvalidData
from training.data import EncodedDataset
from training.dataset import Dataset, join
from training.files import extension, require_file, text_lines
from training.readers import Columns, ReadOptions, stream
from training.splits import Splits, item_key

# Rows kept apart to measure what is learnt: this share of all, but never more than so many.
_HELD_OUT, _MOST_HELD_OUT = 0.05, 2_000


@dataclass(frozen=True)
class Unlabelled:
    """The unlabelled sequences that pretraining may read.

    Attributes:
        data: the rows that stand in none of the splits.
        notes: sentences for the user: how many there are, and what was left out.
        card: the manifest's account of them.
    """

    data: Dataset | None
    notes: list[str]
    card: dict[str, Any]

    def items(self) -> list[Any]:
        """The raw items."""
        return list(self.data.items) if self.data else []


def read_unlabelled(path: str, splits: Splits, options: ReadOptions) -> Unlabelled:
    """Read a file of sequences of the same form as the train file's; a label column in it is passed over.

    What stands in valid or test is left out, so that their scores stay those of sequences never read; what stands in
    train is read there.

    Raises:
        InvalidData: the file is wrong, or its sequences are of another form than train's.
    """
    train = splits.train
    data = _text_file(path) if _is_plain_text(path, train) else _table(path, train, options, splits.columns)
    if data.channels is not None and train.channels is not None and len(data.channels) != len(train.channels):
        problem = f"has {len(data.channels)} channels where {train.source} has {len(train.channels)}"
        raise InvalidData(problem, path=path, mend="Give sequences of the same channels")
    held = [part for part in (splits.valid, splits.test) if part is not None]
    measured = {item_key(item) for part in held for item in part.items}
    seen = {item_key(item) for item in train.items} | measured
    keys = [item_key(item) for item in data.items]
    new = [i for i, key in enumerate(keys) if key not in seen]
    left_out = sum(key in measured for key in keys)
    notes = [f"{path}: {len(data):,} sequences without labels, {len(new):,} of them in none of the splits."]
    if left_out:
        notes.append(f"{left_out:,} of them stand in valid or test and are left out of pretraining.")
    card = {"source": Path(path).name, "rows": len(data), "new_rows": len(new)}
    return Unlabelled(data.take(new) if new else None, notes, card)


def _is_plain_text(path: str, train: Dataset) -> bool:
    if extension(Path(path)) != ".txt":
        return False
    if train.kind == "series" or train.task == "step":
        raise InvalidConfig(f"--unlabelled: {path} is plain text, and the sequences are {_form(train)}")
    return True


def _form(train: Dataset) -> str:
    return "series" if train.kind == "series" else "lists of tokens"


def _text_file(path: str) -> Dataset:
    """A text on each line; blank lines are passed over."""
    require_file(Path(path))
    lines = [(row, line.strip()) for row, line in enumerate(text_lines(Path(path), None), 1)]
    kept = [(row, line) for row, line in lines if line]
    if not kept:
        raise InvalidData("is empty", path=path, mend="Give a file with a text on each line")
    rows = np.array([row for row, _ in kept], dtype=np.int64)
    return Dataset("text", "sequence", [line for _, line in kept], None, None, None, path, rows)


def _table(path: str, train: Dataset, options: ReadOptions, columns: Columns) -> Dataset:
    pinned: dict[str, Any] = {"kind": train.kind, "task": train.task, "channels": train.channels}
    if train.groups is not None:
        # A group keeps rows together in dividing, which is not done here.
        pinned["group_by"] = None
    like: Mapping[str, str | None] = columns
    pieces = list(stream(path, options.model_copy(update=pinned), labelled=False, like=like))
    if not pieces:
        raise InvalidData("is empty", path=path, mend="Give a file with rows")
    return join(pieces)


def pretraining_rows(
    train: EncodedDataset, more: list[NDArray[Any]], window: int | None, seed: int
) -> tuple[EncodedDataset, EncodedDataset]:
    """Put the encoded rows of train and the unlabelled ones together; return what is learnt from, and what is held out.

    Args:
        window: longer rows are cut into pieces of so many steps; None cuts none.
    """
    rows = [*train.inputs, *more]
    if window:
        rows = [row[start : start + window] for row in rows for start in range(0, len(row), window)]
    order = np.random.default_rng((seed, len(rows))).permutation(len(rows))
    held_out = min(max(1, round(_HELD_OUT * len(rows))), _MOST_HELD_OUT)
    return _chosen(rows, order[held_out:]), _chosen(rows, order[:held_out])


def _chosen(rows: list[NDArray[Any]], order: NDArray[np.int64]) -> EncodedDataset:
    return EncodedDataset([rows[i] for i in order], [0] * len(order))
