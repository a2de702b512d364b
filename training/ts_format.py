"""The `.ts` format of the time series classification archive: a header of @ lines, then a line for each series.

A line holds the channels, separated by colons, each a list of readings separated by commas, and last the label.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InvalidData
from training.values import label_of

Case = tuple[NDArray[np.float64], str | None]
_NO_TIMESTAMPS = "Write the readings alone, without their times, and @timeStamps false"


@dataclass
class _Header:
    dimensions: int | None = None
    has_label: bool = False
    labels: frozenset[str] = frozenset()


def cases(lines: Iterator[str], path: Path) -> Iterator[tuple[int, Case]]:
    """Yield each series' line, readings float64 (T, C), NaN where missing, and label, None where unlabelled."""
    numbered = enumerate(lines, 1)
    header = _read_header(numbered, path)
    for row, line in numbered:
        line = line.strip()
        if line and not line.startswith(("#", "@")):
            yield row, _read_case(line, header, path, row)


def _read_header(numbered: Iterator[tuple[int, str]], path: Path) -> _Header:
    header, row = _Header(), 0
    for row, raw in numbered:
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if not line.startswith("@"):
            break
        key, *values = line.split()
        if key.lower() == "@data":
            return header
        _note(header, key.lower(), values, path, row)
    if not row:
        raise InvalidData("is empty", path=path)
    raise InvalidData("has no @data line before the series", path=path, row=row, mend="Add it after the header")


def _note(header: _Header, key: str, values: list[str], path: Path, row: int) -> None:
    is_true = bool(values) and values[0].lower() == "true"
    if key == "@timestamps" and is_true:
        raise InvalidData("series with timestamps are not read", path=path, row=row, mend=_NO_TIMESTAMPS)
    if key == "@targetlabel" and is_true:
        mend = "Give classes in @classLabel true ..."
        raise InvalidData("the target is a number to predict, not a class", path=path, row=row, mend=mend)
    if key == "@univariate" and is_true:
        header.dimensions = 1
    elif key in ("@dimensions", "@dimension"):
        if not values or not values[0].isdigit() or not int(values[0]):
            raise InvalidData("@dimensions is not a whole number", path=path, row=row, mend="Write @dimensions 3")
        header.dimensions = int(values[0])
    elif key == "@classlabel":
        header.has_label, header.labels = is_true, frozenset(_label(value, path, row) for value in values[1:])


def _read_case(line: str, header: _Header, path: Path, row: int) -> Case:
    fields, label = line.split(":"), None
    if header.has_label:
        label = fields.pop().strip()
        # A missing label is left to the reader of labels, which words it as in every format.
        if label and label != "?" and header.labels and _label(label, path, row) not in header.labels:
            problem = f"the label {label[:40]!r} is not one that @classLabel lists"
            raise InvalidData(problem, path=path, row=row, mend="End the line with :label, or add it to @classLabel")
        label = "" if label == "?" else label
    header.dimensions = header.dimensions or len(fields)
    if len(fields) != header.dimensions:
        problem = f"has {len(fields)} channels where {header.dimensions} are due"
        raise InvalidData(problem, path=path, row=row, mend="Separate channels by colons, and end with the label")
    channels = [_read_channel(field, path, row, c) for c, field in enumerate(fields)]
    if len({len(channel) for channel in channels}) > 1:
        c = next(c for c, channel in enumerate(channels) if len(channel) != len(channels[0]))
        problem = f"has {len(channels[c])} readings where channel 0 has {len(channels[0])}"
        raise InvalidData(problem, path=path, row=row, column=c, mend="Write ? for each missing reading")
    return np.stack(channels, axis=1), label


def _label(value: str, path: Path, row: int) -> str:
    try:
        return label_of(value)
    except ValueError as error:
        mend = "Save the file as UTF-8, and end the line with :label"
        raise InvalidData(str(error), path=path, row=row, column="label", mend=mend) from None


def _read_channel(field: str, path: Path, row: int, channel: int) -> NDArray[np.float64]:
    if not field.strip():
        return np.empty(0)
    cells: list[Any] = field.split(",")
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        pass
    for t, cell in enumerate(cells):
        cells[t] = "nan" if cell.strip() in ("?", "") else cell
        try:
            float(cells[t])
        except ValueError:
            mend = _NO_TIMESTAMPS if "(" in cell else "Write a number, or ? for a missing reading"
            shown = ascii(cell.strip()[:40])
            raise InvalidData(
                f"step {t}: {shown} is not a number", path=path, row=row, column=channel, mend=mend
            ) from None
    return np.array(cells, dtype=np.float64)
