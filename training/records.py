"""From the rows of a piece to items and labels, for layouts with a row for each sequence. T timesteps, C channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.errors import InvalidData, InvalidSequence, Loc
from gatewise.schema import parse_series, parse_text, parse_tokens
from training.columns import Plan
from training.dataset import Dataset
from training.formats import ABSENT, Piece
from training.values import label_of, list_of, number

_FINITE = "Replace it, or leave it empty (null) for a missing reading"
_NUMBER = "Write numbers, and null or an empty cell for a missing reading"


class Rows:
    """Parses pieces of one file; the number of channels is that of the first sequence."""

    def __init__(self, plan: Plan, source: str) -> None:
        assert plan.task is not None
        self.plan, self.source = plan, source
        self.task = plan.task
        self._width = len(plan.channels) if plan.channels is not None else None
        self._parse = self._parser()

    def dataset(self, piece: Piece) -> Dataset:
        """Return the piece's rows as items; raises InvalidData at the first wrong one."""
        items = self._items(piece)
        labels = self._labels(piece, items)
        groups = None
        if self.plan.group is not None:
            groups = [str(v) for v in column_values(piece, self.plan.group, self.source)]
        channels = self.plan.channels
        if self.plan.kind == "series" and channels is None:
            channels = tuple(map(str, range(self._width or 1)))
        return Dataset(
            kind=self.plan.kind,
            task=self.task,
            items=items,
            labels=labels,
            channels=channels,
            groups=groups,
            source=self.source,
            rows=piece.rows,
        )

    # --- items

    def _parser(self) -> Callable[[Any], Any]:
        if self.plan.kind == "series":
            return self._series
        if self.task == "step":
            return _tokens
        return _joined if self.plan.has_token_lists else _text

    def _items(self, piece: Piece) -> list[Any]:
        values, column = self._values(piece)
        parse, items = self._parse, []
        for i, value in enumerate(values):
            try:
                items.append(parse(value))
            except InvalidSequence as error:
                raise self._wrong_item(error, int(piece.rows[i]), column) from None
        return items

    def _values(self, piece: Piece) -> tuple[Sequence[Any], str | None]:
        plan = self.plan
        if plan.layout == "wide":
            return self._wide_rows(piece), None
        if plan.layout == "channels":
            return self._stacked(piece), None
        assert plan.sequence is not None
        return column_values(piece, plan.sequence, self.source), plan.sequence

    def _series(self, value: Any) -> NDArray[np.float32]:
        if isinstance(value, str) and (found := list_of(value)) is not None:
            value = found
        if self._width is None:
            self._width = _width_of(value)
        return parse_series(value, self._width, allow_missing=True)

    def _wide_rows(self, piece: Piece) -> list[NDArray[np.float64]]:
        """Return each row's readings; missing ones at its end are what fills a shorter series up, and are left out."""
        columns = [numbers(piece, name, self.source) for name in self.plan.steps]
        rows = np.stack(columns, axis=1)
        last = rows.shape[1] - np.argmax(~np.isnan(rows[:, ::-1]), axis=1)
        last[np.isnan(rows).all(axis=1)] = 0
        return [row[:end] for row, end in zip(rows, last, strict=True)]

    def _stacked(self, piece: Piece) -> list[Any]:
        names = self.plan.channels or ()
        columns = [column_values(piece, name, self.source) for name in names]
        return [self._stack(cells, int(row)) for cells, row in zip(zip(*columns, strict=True), piece.rows, strict=True)]

    def _stack(self, cells: tuple[Any, ...], row: int) -> NDArray[np.float32]:
        channels = []
        for name, cell in zip(self.plan.channels or (), cells, strict=True):
            try:
                value = list_of(cell) if isinstance(cell, str) else cell
                channels.append(parse_series(cell if value is None else value, 1, allow_missing=True)[:, 0])
            except InvalidSequence as error:
                raise self._wrong_item(error, row, name) from None
            if len(channels[-1]) != len(channels[0]):
                problem = f"has {len(channels[-1])} readings where {self.plan.channels[0]!r} has {len(channels[0])}"  # type: ignore[index]
                raise InvalidData(problem, path=self.source, row=row, column=name, mend="Give each channel every step")
        return np.stack(channels, axis=1)

    def _wrong_item(self, error: InvalidSequence, row: int, column: str | None) -> InvalidData:
        problem = _place(error.loc) + error.message.replace("; send at least one", "")
        if "infinite" in problem:
            mend = _FINITE
        elif "has no t" in problem:
            mend = "Give it one timestep or token at least, or delete the row"
        elif "surrogate" in problem:
            mend = "Save the file again as UTF-8"
        elif self.plan.kind == "series":
            mend = _NUMBER
        else:
            mend = (
                'Write a text between quotes, ""  for an empty one'
                if self.task == "sequence"
                else "Write a list of texts"
            )
        return InvalidData(problem, path=self.source, row=row, column=column, mend=mend)

    # --- labels

    def _labels(self, piece: Piece, items: list[Any]) -> list[Any] | None:
        name = self.plan.label
        if name is None:
            return None
        values = column_values(piece, name, self.source)
        if self.task == "sequence":
            return labels(values, piece.rows, name, self.source)
        return [
            self._step_labels(value, len(item), int(row), name)
            for value, item, row in zip(values, items, piece.rows, strict=True)
        ]

    def _step_labels(self, value: Any, steps: int, row: int, name: str) -> list[str]:
        if isinstance(value, str):
            value = found if (found := list_of(value)) is not None else value.split()
        if not isinstance(value, list | tuple | np.ndarray):
            problem, mend = "is one label where a list, one for each step, is due", "Write a list, or leave --task out"
            raise InvalidData(problem, path=self.source, row=row, column=name, mend=mend)
        if len(value) != steps:
            what = "tokens" if self.plan.kind == "text" else "timesteps"
            problem = f"has {len(value)} labels for {steps} {what}"
            raise InvalidData(problem, path=self.source, row=row, column=name, mend="Give each step one label")
        return labels(value, [row] * steps, name, self.source)


def labels(
    values: Sequence[Any] | NDArray[Any], rows: Sequence[int] | NDArray[np.int64], column: str, source: str
) -> list[str]:
    """Return labels as text, each distinct one held once."""
    known: dict[str, str] = {}
    found = []
    for i, value in enumerate(values):
        label = known.get(value) if type(value) is str else None
        if label is None:
            try:
                label = label_of(value)
            except ValueError as error:
                raise _wrong_label(str(error), int(rows[i]), column, source) from None
            label = known.setdefault(value if type(value) is str else label, label)
        found.append(label)
    return found


def _wrong_label(problem: str, row: int, column: str, source: str) -> InvalidData:
    mend = "Write the label, or delete the row"
    if "characters" in problem:
        mend = "If the columns are swapped, name them with --sequence COL and --label COL; else shorten the label"
    elif "list" in problem or "ndarray" in problem:
        mend = "For a label for each step give --task step"
    return InvalidData(problem, path=source, row=row, column=column, mend=mend)


def numbers(piece: Piece, name: str, source: str) -> NDArray[np.float64]:
    """Return a column of single numbers, NaN where one is missing; raises InvalidData for any other cell."""
    values = column_values(piece, name, source)
    try:
        found = np.array([float(v) if type(v) is float else number(v) for v in values], dtype=np.float64)
    except (ValueError, OverflowError):
        raise _not_a_number(values, piece.rows, name, source) from None
    if np.isinf(found).any() or np.abs(found).max(initial=0, where=~np.isnan(found)) > np.finfo(np.float32).max:
        row = int(piece.rows[int(np.argmax(np.abs(np.nan_to_num(found, posinf=np.inf))))])
        problem = "is infinite or beyond the range of a 32-bit float"
        raise InvalidData(problem, path=source, row=row, column=name, mend=_FINITE)
    return found


def _not_a_number(values: Sequence[Any], rows: NDArray[np.int64], name: str, source: str) -> InvalidData:
    for value, row in zip(values, rows, strict=True):
        try:
            number(value)
        except (ValueError, OverflowError):
            problem = f"{ascii(value)[:40]} is not a number"
            mend = f"{_NUMBER}; if it is no channel, name the channels with --channels A,B"
            return InvalidData(problem, path=source, row=int(row), column=name, mend=mend)
    raise AssertionError("every cell is a number")


def column_values(piece: Piece, name: str, source: str) -> list[Any]:
    mend = "Give every row the same columns"
    if name not in piece.names:
        problem = f"has no {name!r}"
        raise InvalidData(problem, path=source, row=int(piece.rows[0]), column=name, mend=mend)
    values = piece.column(name)
    if any(value is ABSENT for value in values):
        row = next(int(row) for value, row in zip(values, piece.rows, strict=True) if value is ABSENT)
        raise InvalidData(f"has no key {name!r}", path=source, row=row, column=name, mend=mend)
    return values


def _text(value: Any) -> str:
    if type(value) is str:
        return parse_text(value)
    if isinstance(value, np.str_):
        return parse_text(str(value))
    return parse_text(value)


def _joined(value: Any) -> str:
    """A list of tokens under one label is the text that they spell, a space between two."""
    return " ".join(_tokens(value))


def _tokens(value: Any) -> list[str]:
    if isinstance(value, np.ndarray):
        value = [str(token) for token in value]
    if isinstance(value, str) and (found := list_of(value)) is not None:
        value = found
    return parse_tokens(value)


def _width_of(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.shape[1]) if value.ndim == 2 else 1
    if isinstance(value, list | tuple) and value and isinstance(value[0], list | tuple):
        return len(value[0])
    return 1


def _place(loc: Loc) -> str:
    names = ("step", "channel")
    told = [f"{name} {place}" for name, place in zip(names, loc, strict=False)]
    return f"{', '.join(told)} " if told else ""
