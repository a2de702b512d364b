"""What one cell of a file holds: a number, a list, a label. Nothing here knows where the cell stands."""

from __future__ import annotations

import ast
import datetime
import json
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

ColumnKind = Literal["number", "text", "series", "tokens", "time", "empty", "other"]

MISSING_MARKS = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
LABEL_LIMIT = 200
_WHOLE = re.compile(r"[+-]?\d+\.0+")
_PYTHON_NULL = re.compile(r"\b(?:nan|None)\b")


def is_missing(value: object) -> bool:
    """Whether a cell where a number is due holds no reading."""
    return value is None or (isinstance(value, str) and value.strip().lower() in MISSING_MARKS)


def number(value: object) -> float:
    """Return a cell's number, NaN where it is missing; ValueError for anything else."""
    if is_missing(value):
        return float("nan")
    if isinstance(value, str) and "_" not in value:
        return float(value)
    if isinstance(value, int | float | Decimal | np.number) and not isinstance(value, bool):
        return float(value)
    raise ValueError(value)


def list_of(value: object) -> list[Any] | None:
    """Return the list that a text cell spells, as JSON or as Python prints it; None where it spells none."""
    if not isinstance(value, str) or not value.lstrip().startswith("["):
        return None
    try:
        found = orjson.loads(value)
    except orjson.JSONDecodeError:
        found = _lenient_list(value)
    return found if isinstance(found, list) else None


def _lenient_list(value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    try:
        return json.loads(_PYTHON_NULL.sub("null", value))
    except (ValueError, RecursionError):
        pass
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def column_kind(values: Sequence[Any]) -> ColumnKind:
    """Say what a column holds, by all of `values`; one text among them makes it text."""
    kinds: set[ColumnKind] = set()
    for value in values:
        kind = _cell_kind(value)
        if kind == "text":
            return "text"
        if kind != "empty":
            kinds.add(kind)
    for kind in ("tokens", "series", "number", "time", "other"):
        if kind in kinds:
            return kind
    return "empty"


def _cell_kind(value: object) -> ColumnKind:
    if isinstance(value, np.ndarray):
        return "tokens" if value.dtype.kind == "U" else "series"
    if isinstance(value, list | tuple):
        return _list_kind(value)
    if is_missing(value):
        return "empty"
    if isinstance(value, str):
        if (found := list_of(value)) is not None:
            return _list_kind(found)
        try:
            number(value)
        except ValueError:
            return "text"
        return "number"
    if isinstance(value, bool | int | float | Decimal | np.generic):
        return "number"
    return "time" if isinstance(value, datetime.date | datetime.time) else "other"


def _list_kind(value: Sequence[Any] | NDArray[Any]) -> ColumnKind:
    for entry in value:
        if isinstance(entry, str):
            return "tokens"
        if isinstance(entry, list | tuple | np.ndarray):
            kind = _list_kind(entry) if len(entry) else "empty"
            if kind != "empty":
                return kind
        elif entry is not None:
            return "series" if isinstance(entry, int | float | np.number | Decimal) else "other"
    return "series" if len(value) else "empty"


def label_of(value: object) -> str:
    """Return a label as the text that every format gives it: 1, 1.0 and "1.0" are "1", true is "true".

    Raises:
        ValueError: there is no label, or it is none; the message is a clause.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or value != value:  # NaN alone differs from itself
        raise ValueError("the label is missing")
    if isinstance(value, int | float | Decimal | datetime.date):
        value = str(value)
    if not isinstance(value, str):
        raise ValueError(f"the label is a {type(value).__name__}, not a text or a number")
    label = value.strip()
    if not label:
        raise ValueError("the label is empty")
    if len(label) > LABEL_LIMIT:
        raise ValueError(f"the label has {len(label)} characters")
    if _WHOLE.fullmatch(label):
        label = label.split(".")[0]
    try:
        label.encode()
    except UnicodeEncodeError:
        raise ValueError("the label holds a lone surrogate, not text") from None
    return label
