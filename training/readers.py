"""Read CSV, TSV, JSONL, JSON, Parquet, `.ts` and `.npz`, plain or gzipped, as labelled sequences.

This is the door; files.py opens the file, formats.py and ts_format.py parse it, columns.py finds what is what,
records.py and long_format.py make the items.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from gatewise.errors import InvalidData
from training.columns import Plan, ReadOptions, make_plan
from training.dataset import Dataset, join
from training.files import require_file
from training.formats import Piece, pieces
from training.long_format import read_long
from training.records import Rows

__all__ = ["ReadOptions", "Sister", "read", "read_with_sister", "stream"]


def read(path: str | Path, options: ReadOptions | None = None, *, labelled: bool = True) -> Dataset:
    """Read a whole file.

    Args:
        path: the file, in any of the formats, decided by its extension and else by its content.
        options: what the file does not say itself.
        labelled: whether every item must have a label; else the dataset has none, whatever the file holds.
    Raises:
        InvalidData: the first thing that is wrong, with file, row, column and mend.
    """
    return _read(Path(path), options or ReadOptions(), labelled)[0]


@dataclass(frozen=True)
class Sister:
    """Reads the other files of a data set as its first one was read."""

    options: ReadOptions
    plan: Plan

    def read(self, path: str | Path) -> Dataset:
        """Read a labelled file; its columns are those that the first file's were, where it has them."""
        return _read(Path(path), self.options, labelled=True, like=self.plan)[0]


def read_with_sister(path: str | Path, options: ReadOptions) -> tuple[Dataset, Sister]:
    """Read a labelled file; return also what reads its sister files in the same way."""
    dataset, plan = _read(Path(path), options, labelled=True)
    pinned: dict[str, object] = {"kind": dataset.kind, "task": dataset.task}
    if plan.layout in ("long", "channels"):
        pinned["channels"] = dataset.channels
    return dataset, Sister(options.model_copy(update=pinned), plan)


def stream(
    path: str | Path, options: ReadOptions | None = None, *, labelled: bool, rows: int = 1024
) -> Iterator[Dataset]:
    """Yield what `read` gives, `rows` items at a time.

    Row-per-sequence CSV, TSV, JSONL and Parquet are never held whole; the other forms are read first.
    """
    held: list[Dataset] = []
    for dataset in _datasets(Path(path), options or ReadOptions(), labelled):
        held.append(dataset)
        if sum(map(len, held)) >= rows:
            whole = join(held)
            full = len(whole) - len(whole) % rows
            for start in range(0, full, rows):
                yield whole.take(range(start, start + rows))
            held = [whole.take(range(full, len(whole)))] if full < len(whole) else []
    if held:
        yield join(held)


def _read(path: Path, options: ReadOptions, labelled: bool, like: Plan | None = None) -> tuple[Dataset, Plan]:
    found, plan = _open(path, options, labelled, like)
    if plan.layout == "long":
        return read_long(found, plan, str(path)), plan
    rows = Rows(plan, str(path))
    return join([rows.dataset(piece) for piece in found]), plan


def _datasets(path: Path, options: ReadOptions, labelled: bool) -> Iterator[Dataset]:
    found, plan = _open(path, options, labelled)
    if plan.layout == "long":
        yield read_long(found, plan, str(path))
        return
    rows = Rows(plan, str(path))
    for piece in found:
        yield rows.dataset(piece)


def _open(path: Path, options: ReadOptions, labelled: bool, like: Plan | None = None) -> tuple[Iterator[Piece], Plan]:
    """Return the file's pieces and what its columns are, which the first piece decides for all."""
    require_file(path)
    found = pieces(path, options.encoding)
    first = next(found, None)
    if first is None:
        raise InvalidData("is empty", path=path, mend="Give a file with rows")
    if like is not None:
        columns = {"sequence": like.sequence, "label": like.label}
        present = {key: name for key, name in columns.items() if name in first.names}
        options = options.model_copy(update=present)
    return chain([first], found), make_plan(first, options, labelled=labelled, path=str(path))
