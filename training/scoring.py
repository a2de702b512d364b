"""Predictions for files: a row for each sequence, written whole or not at all."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

from gatewise.errors import InvalidConfig, InvalidSequence
from gatewise.predictor import Predictor
from training.answers import refused
from training.dataset import Dataset

Row = dict[str, Any]
_SUFFIXES = (".parquet", ".csv", ".tsv", ".jsonl")


def predict_pieces(
    predictor: Predictor,
    pieces: Iterable[Dataset],
    progress: Callable[[int], None] = lambda rows: None,
    *,
    label_set: bool = False,
) -> Iterator[list[Row]]:
    """Answer pieces of a file; each row names where its sequence stands.

    Args:
        label_set: whether each row has its label set.
    Raises:
        InvalidData: an item breaks the model's input contract, named by file and row.
    """
    done = 0
    for piece in pieces:
        rows = []
        for i, answer in enumerate(predictor.predict_each(piece.items, label_set=label_set)):
            if isinstance(answer, InvalidSequence):
                raise refused(piece, i, answer)
            rows.append({"row": int(piece.rows[i])} | answer.model_dump(exclude_none=True))
        done += len(rows)
        progress(done)
        yield rows


def write_predictions(
    pieces: Iterator[list[Row]], predictor: Predictor, output: str | None, *, label_set: bool = False
) -> int:
    """Write rows to a file, in the form that its name asks for, or as JSON lines to standard output.

    Args:
        label_set: whether the rows have their label sets.
    Returns:
        the number of rows.
    Raises:
        InvalidConfig: the file's name asks for a form that there is not.
    """
    if output is None:
        return sum(_write_jsonl(rows, sys.stdout.buffer) for rows in pieces)
    path = Path(output)
    if path.suffix not in _SUFFIXES:
        raise InvalidConfig(f"--output: {output} does not end in one of {', '.join(_SUFFIXES)}")
    if not path.parent.is_dir():
        raise InvalidConfig(f"--output: there is no folder {path.parent}")
    more = (["abstained"] if predictor.manifest.abstaining else []) + (["label_set"] if label_set else [])
    with _whole_file(path) as staged:
        if path.suffix == ".parquet":
            return _write_parquet(pieces, staged, predictor, more)
        if path.suffix == ".jsonl":
            with staged.open("wb") as file:
                return sum(_write_jsonl(rows, file) for rows in pieces)
        return _write_csv(pieces, staged, predictor, more, "\t" if path.suffix == ".tsv" else ",")


@contextmanager
def _whole_file(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when all went well, and is removed when not."""
    staged = path.with_name(f".{path.name}.partial")
    try:
        yield staged
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)


def _write_jsonl(rows: list[Row], file: IO[bytes]) -> int:
    for row in rows:
        file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return len(rows)


def _write_csv(pieces: Iterator[list[Row]], path: Path, predictor: Predictor, more: list[str], delimiter: str) -> int:
    per_step = predictor.manifest.task == "step"
    plain = ["row"] if per_step else ["row", "label", "confidence"]
    as_json = ["labels", "confidences", *more] if per_step else more
    columns = plain + as_json + ([] if per_step else [f"probability_{label}" for label in predictor.manifest.labels])
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        for rows in pieces:
            for row in rows:
                values = [row[key] for key in plain] + [orjson.dumps(row[key]).decode() for key in as_json]
                writer.writerow(values if per_step else [*values, *row["probabilities"].values()])
            count += len(rows)
    return count


def _write_parquet(pieces: Iterator[list[Row]], path: Path, predictor: Predictor, more: list[str]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    of_one = {"abstained": pa.bool_(), "label_set": pa.list_(pa.string())}
    if predictor.manifest.task == "step":
        fields = [("row", pa.int64()), ("labels", pa.list_(pa.string())), ("confidences", pa.list_(pa.float64()))]
        if predictor.manifest.kind == "text":
            fields.append(("tokens", pa.list_(pa.string())))
        fields += [(name, pa.list_(of_one[name])) for name in more]
    else:
        probabilities = pa.struct([(label, pa.float64()) for label in predictor.manifest.labels])
        fields = [("row", pa.int64()), ("label", pa.string()), ("confidence", pa.float64())]
        fields.append(("probabilities", probabilities))
        fields += [(name, of_one[name]) for name in more]
    schema = pa.schema(fields)
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        for rows in pieces:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            count += len(rows)
    return count
