"""Read CSV, TSV, JSONL, JSON, Parquet, `.ts` and `.npz`, plain or gzipped, as labelled sequences.

This is the door; files.py opens the file, formats.py and ts_format.py parse it, columns.py finds what is what,
records.py and long_format.py make the items.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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

__all__ = ["Columns", "ReadOptions", "Sister", "read", "read_with_sister", "stream"]

# "sequence" and "label" to the names of their columns.
Columns = Mapping[str, str | None]


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
        return _read(Path(path), self.options, labelled=True, like=self.columns)[0]

    @property
    def columns(self) -> dict[str, str | None]:
        """The names of the columns of sequences and labels; None where there is no such single column."""
        return {"sequence": self.plan.sequence, "label": self.plan.label}


def read_with_sister(path: str | Path, options: ReadOptions) -> tuple[Dataset, Sister]:
    """Read a labelled file; return also what reads its sister files in the same way."""
    dataset, plan = _read(Path(path), options, labelled=True)
    pinned: dict[str, object] = {"kind": dataset.kind, "task": dataset.task}
    if plan.layout in ("long", "channels"):
        pinned["channels"] = dataset.channels
    return dataset, Sister(options.model_copy(update=pinned), plan)


def stream(
    path: str | Path,
    options: ReadOptions | None = None,
    *,
    labelled: bool,
    like: Columns | None = None,
    rows: int = 1024,
) -> Iterator[Dataset]:
    """Yield what `read` gives, `rows` items at a time.

    Row-per-sequence CSV, TSV, JSONL and Parquet are never held whole; the other forms are read first.

    Args:
        like: names of the columns of sequences and labels in another file, taken here too where they are.
    """
    held: list[Dataset] = []
    for dataset in _datasets(Path(path), options or ReadOptions(), labelled, like):
        held.append(dataset)
        if sum(map(len, held)) >= rows:
            whole = join(held)
            full = len(whole) - len(whole) % rows
            for start in range(0, full, rows):
                yield whole.take(range(start, start + rows))
            held = [whole.take(range(full, len(whole)))] if full < len(whole) else []
    if held:
        yield join(held)


def _read(path: Path, options: ReadOptions, labelled: bool, like: Columns | None = None) -> tuple[Dataset, Plan]:
    found, plan = _open(path, options, labelled, like)
    if plan.layout == "long":
        return read_long(found, plan, str(path)), plan
    rows = Rows(plan, str(path))
    return join([rows.dataset(piece) for piece in found]), plan


def _datasets(path: Path, options: ReadOptions, labelled: bool, like: Columns | None) -> Iterator[Dataset]:
    found, plan = _open(path, options, labelled, like)
    if plan.layout == "long":
        yield read_long(found, plan, str(path))
        return
    rows = Rows(plan, str(path))
    for piece in found:
        yield rows.dataset(piece)


def _open(path: Path, options: ReadOptions, labelled: bool, like: Columns | None) -> tuple[Iterator[Piece], Plan]:
    """Return the file's pieces and what its columns are, which the first piece decides for all."""
    require_file(path)
    found = pieces(path, options.encoding)
    first = next(found, None)
    if first is None:
        raise InvalidData("is empty", path=path, mend="Give a file with rows")
    if like is not None:
        left_open = {key: name for key, name in like.items() if getattr(options, key) is None}
        options = options.model_copy(update={key: name for key, name in left_open.items() if name in first.names})
    return chain([first], found), make_plan(first, options, labelled=labelled, path=str(path))
