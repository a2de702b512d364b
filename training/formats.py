"""One reader for each file format; all give the file as pieces of columns. What a column means is decided elsewhere."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from gatewise.errors import InvalidData, MissingDependency
from training import ts_format
from training.files import Format, failures_named, find_format, open_bytes, text_lines

PIECE_ROWS = 1024
CELL_LIMIT = 256 * 1024 * 1024
INDEX_NAMES = frozenset({"", "Unnamed: 0"})


class Absent:
    """What a column holds where a JSON object does not have its key."""


ABSENT = Absent()


@dataclass(frozen=True)
class Piece:
    """Some consecutive rows of a file.

    Attributes:
        names: the columns.
        rows: int64, each row's line or record in the file.
        column: the values of a column by its name.
        has_header: whether the names are the file's first line, which may turn out to be data.
    """

    names: Sequence[str]
    rows: NDArray[np.int64]
    column: Callable[[str], list[Any]]
    has_header: bool = False


def pieces(path: Path, encoding: str | None) -> Iterator[Piece]:
    """Yield the file's rows in order, PIECE_ROWS or fewer at a time."""
    if (format := find_format(path)) == "json" and not _begins_with_bracket(path, encoding):
        format = "jsonl"
    readers: dict[Format, Callable[[], Iterator[Piece]]] = {
        "csv": lambda: _delimited(path, encoding, "csv"),
        "tsv": lambda: _delimited(path, encoding, "tsv"),
        "jsonl": lambda: _json_lines(path, encoding),
        "json": lambda: _json_array(path, encoding),
        "parquet": lambda: _parquet(path),
        "ts": lambda: _ts(path, encoding),
        "npz": lambda: _npz(path),
    }
    return readers[format]()


def _batches(records: Iterable[tuple[int, Any]]) -> Iterator[tuple[NDArray[np.int64], list[Any]]]:
    iterator = iter(records)
    while batch := list(islice(iterator, PIECE_ROWS)):
        yield np.array([row for row, _ in batch], dtype=np.int64), [record for _, record in batch]


# --- CSV and TSV


def _delimited(path: Path, encoding: str | None, format: Format) -> Iterator[Piece]:
    lines = text_lines(path, encoding)
    skipped, first = 0, ""
    for first in lines:
        if first.strip():
            break
        skipped += 1
    if not first.strip():
        raise InvalidData("is empty", path=path)
    delimiter = "\t" if format == "tsv" else _delimiter(first)
    is_literal = delimiter == "\t" and _quotes_are_literal(path, encoding)
    records = _csv_records(chain([first], lines), path, delimiter, skipped, is_literal)
    names = [name.strip() for name in next(records)[1]]
    body = iter(records)
    start = next(body, None)
    if start is None:
        raise InvalidData("has a line of column names and no rows", path=path, mend="Add rows beneath it")
    if len(start[1]) == len(names) + 1 and "" not in names:
        names = ["", *names]  # R's write.csv leaves the row names' column out of the header
    _check_names(names, path)
    checked = _equally_wide(chain([start], body), len(names), path, delimiter)
    for rows, batch in _batches(checked):
        # The defaults bind now: the lambda outlives this turn of the loop.
        yield Piece(names, rows, lambda name, batch=batch: [r[names.index(name)] for r in batch], has_header=True)  # type: ignore[misc]


def _delimiter(header: str) -> str:
    bare = re.sub(r'"[^"]*"', "", header)
    return next((delimiter for delimiter in ",\t;|" if delimiter in bare), ",")


def _quotes_are_literal(path: Path, encoding: str | None) -> bool:
    """Whether a tab-separated file was written without quoting, so that a quote is a character like others.

    It was, when every line has as many tabs as the first and yet a cell begins with a quote that does not close it.
    """
    tabs, has_open_quote = None, False
    for line in text_lines(path, encoding):
        if not line.strip():
            continue
        tabs = line.count("\t") if tabs is None else tabs
        if line.count("\t") != tabs:
            return False
        if '"' in line and not has_open_quote:
            cells = line.rstrip("\r\n").split("\t")
            has_open_quote = any(cell[:1] == '"' and not re.fullmatch(r'"(?:[^"]|"")*"', cell) for cell in cells)
    return has_open_quote


def _csv_records(
    lines: Iterable[str], path: Path, delimiter: str, skipped: int, is_literal: bool
) -> Iterator[tuple[int, list[str]]]:
    csv.field_size_limit(CELL_LIMIT)
    quoting: Literal[0, 3] = csv.QUOTE_NONE if is_literal else csv.QUOTE_MINIMAL
    reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=quoting)
    while True:
        row = reader.line_num + 1 + skipped
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise _csv_error(str(error), path, row, reader.line_num + skipped) from None
        if record:
            yield row, record


def _csv_error(message: str, path: Path, row: int, last: int) -> InvalidData:
    if "unexpected end" in message or "larger than" in message:
        problem = "a quoted cell opens in this row and never closes, so the rest of the file would be one cell"
        return InvalidData(problem, path=path, row=row, mend="Close the quote, or write it twice where it is text")
    where = "" if last <= row else f" (the cell runs on to line {last})"
    problem = f"a quote stands inside a quoted cell{where}"
    return InvalidData(problem, path=path, row=row, mend='Write a quote inside a quoted cell twice, ""')


def _check_names(names: list[str], path: Path) -> None:
    named = [name for name in names if name]
    if twice := next((name for name in named if named.count(name) > 1), None):
        raise InvalidData("stands twice in the header", path=path, row=1, column=twice, mend="Rename one of them")


def _equally_wide(
    records: Iterable[tuple[int, list[str]]], width: int, path: Path, delimiter: str
) -> Iterator[tuple[int, list[str]]]:
    shown = {"\t": "tab"}.get(delimiter, delimiter)
    for row, record in records:
        if len(record) == width:
            yield row, record
        elif len(record) > 1 or record[0].strip():
            problem = f"has {len(record)} cells where the header has {width}"
            mend = f"Put a cell that holds a {shown} between double quotes, and give every row {width} cells"
            raise InvalidData(problem, path=path, row=row, mend=mend)


# --- JSON


def _begins_with_bracket(path: Path, encoding: str | None) -> bool:
    line = next((line for line in text_lines(path, encoding) if line.strip()), "")
    return line.lstrip().startswith("[")


def _json_lines(path: Path, encoding: str | None) -> Iterator[Piece]:
    return _objects(_json_records(path, encoding), path)


def _json_records(path: Path, encoding: str | None) -> Iterator[tuple[int, Any]]:
    for row, line in enumerate(text_lines(path, encoding), 1):
        if line.strip():
            yield row, _load_line(line, path, row)


def _load_line(line: str, path: Path, row: int) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        pass
    try:
        return json.loads(line)  # it takes NaN, Infinity and lone surrogates, which are judged where they stand
    except (ValueError, RecursionError) as error:
        mend = "Write one whole JSON object on each line"
        raise InvalidData(f"is not JSON ({error})", path=path, row=row, mend=mend) from None


def _json_array(path: Path, encoding: str | None) -> Iterator[Piece]:
    text = "".join(text_lines(path, encoding))
    try:
        records = orjson.loads(text)
    except orjson.JSONDecodeError:
        try:
            records = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InvalidData(f"is not JSON ({error})", path=path, mend="Write an array of objects") from None
    return _objects(enumerate(records, 1), path)


def _objects(records: Iterable[tuple[int, Any]], path: Path) -> Iterator[Piece]:
    is_empty = True
    for rows, batch in _batches(_only_objects(records, path)):
        is_empty = False
        names = list(dict.fromkeys(chain.from_iterable(batch)))
        yield Piece(names, rows, lambda name, batch=batch: [record.get(name, ABSENT) for record in batch])  # type: ignore[misc]
    if is_empty:
        raise InvalidData("is empty", path=path)


def _only_objects(records: Iterable[tuple[int, Any]], path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for row, record in records:
        if not isinstance(record, dict):
            problem = f"is a JSON {type(record).__name__}, not an object"
            raise InvalidData(problem, path=path, row=row, mend='Write rows such as {"text": "...", "label": "..."}')
        yield row, record


# --- Parquet


def _parquet(path: Path) -> Iterator[Piece]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingDependency("reading Parquet needs pyarrow: pip install pyarrow") from None
    with failures_named(path), open_bytes(path) as file:
        if not path.stat().st_size:
            raise InvalidData("is empty", path=path)
        try:
            # A gzip stream cannot seek cheaply, and Parquet begins at its end.
            table = pq.ParquetFile(file if path.suffix.lower() != ".gz" else io.BytesIO(file.read()))
            first = 1
            for batch in table.iter_batches(batch_size=PIECE_ROWS):
                rows = np.arange(first, first + len(batch), dtype=np.int64)
                first += len(batch)
                yield Piece(list(batch.schema.names), rows, lambda name, b=batch: _arrow_values(b.column(name)))  # type: ignore[misc]
        except (pa.ArrowException, OSError) as error:
            raise InvalidData(f"is not a whole Parquet file ({error})", path=path, mend="Write it again") from None
    if first == 1:
        raise InvalidData("has columns and no rows", path=path)


def _arrow_values(column: Any) -> list[Any]:
    """Return a column's values; lists of numbers come as arrays, ten times sooner than as Python lists."""
    import pyarrow as pa

    def is_list(kind: Any) -> bool:
        return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))

    if not is_list(column.type) or column.null_count:
        return list(column.to_pylist())
    lengths, steps, width = _list_lengths(column), column.flatten(), None
    if is_list(steps.type):
        widths = _list_lengths(steps)
        if steps.null_count or not len(widths) or (widths != widths[0]).any():
            return list(column.to_pylist())
        steps, width = steps.flatten(), int(widths[0])
    if not (pa.types.is_floating(steps.type) or pa.types.is_integer(steps.type)):
        return list(column.to_pylist())
    values = steps.to_numpy(zero_copy_only=False)
    return list(np.split(values if width is None else values.reshape(-1, width), np.cumsum(lengths)[:-1]))


def _list_lengths(column: Any) -> NDArray[np.int64]:
    import pyarrow.compute as pc

    lengths: NDArray[np.int64] = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    return lengths


# --- .ts


def _ts(path: Path, encoding: str | None) -> Iterator[Piece]:
    names = ["series", "label"]
    is_empty = True
    for rows, batch in _batches(ts_format.cases(text_lines(path, encoding, is_tolerant=True), path)):
        is_empty = False
        held = names if batch[0][1] is not None else names[:1]
        yield Piece(held, rows, lambda name, batch=batch: [case[names.index(name)] for case in batch])  # type: ignore[misc]
    if is_empty:
        raise InvalidData("has a header and no series", path=path, mend="Add series beneath @data")


# --- .npz


def _npz(path: Path) -> Iterator[Piece]:
    arrays = _load_arrays(path)
    lengths = arrays.pop("lengths", None)
    columns: dict[str, Sequence[Any] | NDArray[Any]] = {name: array for name, array in arrays.items() if array.ndim}
    if lengths is not None:
        columns = {name: _cut_to_lengths(array, lengths, path, name) for name, array in arrays.items() if array.ndim}
    counts = {name: len(column) for name, column in columns.items()}
    if not counts or not max(counts.values()):
        raise InvalidData("holds no rows", path=path)
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise InvalidData(f"the arrays differ in their number of rows: {told}", path=path, mend="Give them one length")
    count = next(iter(counts.values()))
    for start in range(0, count, PIECE_ROWS):
        rows = np.arange(start, min(start + PIECE_ROWS, count), dtype=np.int64) + 1
        yield Piece(list(columns), rows, lambda name, s=start: list(columns[name][s : s + PIECE_ROWS]))  # type: ignore[misc]


def _load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    mend = "Save plain arrays with numpy.savez; for unequal lengths give values and lengths"
    with failures_named(path), open_bytes(path) as file:
        content = io.BytesIO(file.read())
    if not content.getbuffer().nbytes:
        raise InvalidData("is empty", path=path)
    if not zipfile.is_zipfile(content):
        raise InvalidData("is not a .npz file", path=path, mend=mend)
    content.seek(0)
    try:
        loaded = np.load(content, allow_pickle=False)
        return {name: loaded[name] for name in loaded.files}
    except (
        ValueError,
        AttributeError,
        NotImplementedError,
        OSError,
        EOFError,
        zlib.error,
        zipfile.BadZipFile,
    ) as error:
        # numpy's own words for them advise to load them all the same.
        why = "an array holds Python objects, which are never loaded" if "allow_pickle" in str(error) else error
        raise InvalidData(f"is not a .npz of plain arrays ({why})", path=path, mend=mend) from None


def _cut_to_lengths(array: NDArray[Any], lengths: NDArray[Any], path: Path, name: str) -> Sequence[Any] | NDArray[Any]:
    """Return each sequence's own part of an array that holds all of them end to end, or padded to the longest."""
    if lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise InvalidData("is not a list of whole numbers", path=path, column="lengths")
    if len(array) == len(lengths):
        if array.ndim == 1:
            return array
        if len(lengths) and lengths.max() > array.shape[1]:
            row = int(np.argmax(lengths > array.shape[1])) + 1
            raise InvalidData(f"is over the {array.shape[1]} steps of {name}", path=path, row=row, column="lengths")
        return [sequence[:length] for sequence, length in zip(array, lengths, strict=True)]
    if len(array) == lengths.sum():
        return np.split(array, np.cumsum(lengths)[:-1])
    return array
