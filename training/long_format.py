"""Files with a row for each timestep or token, gathered into sequences. T timesteps, C channels."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import Task
from gatewise.errors import InvalidData, InvalidSequence
from gatewise.schema import parse_text
from training.columns import Plan
from training.dataset import Dataset
from training.formats import Piece
from training.records import column_values, labels, numbers
from training.values import is_missing, number

_UNSORTABLE = "Write times as 2015-02-04 17:51:00, or number the rows"


def read_long(pieces: Iterator[Piece], plan: Plan, source: str) -> Dataset:
    """Return a sequence for each group, in the order that the groups first appear, or one for the whole file."""
    steps = _Steps(plan, source)
    for piece in pieces:
        steps.add(piece)
    return steps.dataset()


@dataclass
class _Steps:
    plan: Plan
    source: str
    rows: list[NDArray[np.int64]] = field(default_factory=list)
    readings: list[NDArray[np.float32]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    codes: array[int] = field(default_factory=lambda: array("q"))
    groups: dict[str, int] = field(default_factory=dict)
    order: list[Any] = field(default_factory=list)

    def add(self, piece: Piece) -> None:
        plan = self.plan
        self.rows.append(piece.rows)
        if plan.kind == "series":
            columns = [numbers(piece, name, self.source) for name in plan.channels or ()]
            self.readings.append(np.stack(columns, axis=1).astype(np.float32))
        else:
            self._add_tokens(piece)
        if plan.label is not None:
            self.labels += labels(column_values(piece, plan.label, self.source), piece.rows, plan.label, self.source)
        if plan.group is not None:
            for value, row in zip(column_values(piece, plan.group, self.source), piece.rows, strict=True):
                if value is None or value == "":
                    mend = "Say which sequence the row belongs to"
                    raise InvalidData("is empty", path=self.source, row=int(row), column=plan.group, mend=mend)
                self.codes.append(self.groups.setdefault(str(value), len(self.groups)))
        if plan.order is not None:
            self.order += column_values(piece, plan.order, self.source)

    def _add_tokens(self, piece: Piece) -> None:
        assert self.plan.sequence is not None
        for value, row in zip(column_values(piece, self.plan.sequence, self.source), piece.rows, strict=True):
            try:
                self.tokens.append(parse_text(value))
            except InvalidSequence as error:
                name = self.plan.sequence
                mend = "Write one token between quotes"
                raise InvalidData(error.message, path=self.source, row=int(row), column=name, mend=mend) from None

    def dataset(self) -> Dataset:
        """Sort the steps into their sequences."""
        rows = np.concatenate(self.rows)
        codes = np.array(self.codes, dtype=np.int64) if self.plan.group is not None else np.zeros(len(rows), np.int64)
        sorted_steps = np.lexsort((self._order_ranks(rows), codes))
        ends = np.cumsum(np.bincount(codes))
        spans = [sorted_steps[a:b] for a, b in pairwise((0, *ends.tolist()))]
        channels, readings = self._channels()
        task, step_labels = self._task(spans)
        items: list[Any]
        if readings is not None:
            items = [readings[span] for span in spans]
        else:
            items = [[self.tokens[i] for i in span] for span in spans]
            items = [" ".join(item) for item in items] if task == "sequence" else items
        return Dataset(
            kind=self.plan.kind,
            task=task,
            items=items,
            labels=step_labels,
            channels=channels,
            groups=None,
            source=self.source,
            rows=np.array([rows[span].min() for span in spans], dtype=np.int64),
        )

    def _channels(self) -> tuple[tuple[str, ...] | None, NDArray[np.float32] | None]:
        """Return the channels and the readings (T, C) of all sequences."""
        if self.plan.kind == "text":
            return None, None
        assert self.plan.channels is not None
        readings, names = np.concatenate(self.readings), self.plan.channels
        if self.plan.has_default_channels:
            # A column without a single reading was taken for a channel only because nobody said otherwise.
            kept = [c for c in range(len(names)) if not np.isnan(readings[:, c]).all()]
            readings, names = readings[:, kept] if len(kept) < len(names) else readings, tuple(names[c] for c in kept)
        return names, readings

    def _task(self, spans: list[NDArray[np.int64]]) -> tuple[Task, list[Any] | None]:
        """A label that is the same throughout every group is the group's, unless the options say otherwise."""
        plan = self.plan
        if plan.label is None:
            return plan.task or ("sequence" if plan.group is not None else "step"), None
        by_group = [[self.labels[i] for i in span] for span in spans]
        changing = next((i for i, found in enumerate(by_group) if len(set(found)) > 1), None)
        if plan.task == "step" or (plan.task is None and (changing is not None or plan.group is None)):
            return "step", by_group
        if changing is not None:
            row = int(np.concatenate(self.rows)[spans[changing]].min())
            problem = (
                f"the label changes within the sequence that begins here, among {sorted(set(by_group[changing]))[:5]}"
            )
            mend = "Give it one label, name the sequences with --group-by COL, or give --task step"
            raise InvalidData(problem, path=self.source, row=row, column=plan.label, mend=mend)
        return "sequence", [found[0] for found in by_group]

    def _order_ranks(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return keys that sort as the order column does: as numbers, else as ISO times, else as text."""
        if self.plan.order is None:
            return np.zeros(len(rows), dtype=np.int64)
        if (i := next((i for i, value in enumerate(self.order) if is_missing(value)), None)) is not None:
            raise self._wrong_order("is empty", int(rows[i]))
        try:
            found = np.array([number(value) for value in self.order], dtype=np.float64)
        except ValueError:
            return self._ranks_of_times(rows)
        if np.isinf(found).any():
            raise self._wrong_order("is infinite", int(rows[int(np.argmax(np.isinf(found)))]))
        return found

    def _ranks_of_times(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        times: list[datetime] = []
        for value, row in zip(self.order, rows, strict=True):
            time = _time(value)
            if time is None:
                # One row out of step is a mistake in it; a column of other texts is sorted as texts.
                if times or re.match(r"\d{1,4}[/.]\d{1,2}[/.]\d", str(value)):
                    raise self._wrong_order(f"{ascii(value)[:40]} is not a time that sorts", int(row))
                return np.unique([str(value) for value in self.order], return_inverse=True)[1]
            times.append(time)
        if len({time.tzinfo is None for time in times}) > 1:
            aware = times[0].tzinfo is not None
            i = next(i for i, time in enumerate(times) if (time.tzinfo is not None) != aware)
            raise self._wrong_order("some times have a time zone and others none", int(rows[i]))
        plain = [t.astimezone(UTC).replace(tzinfo=None) if t.tzinfo else t for t in times]
        return np.array(plain, dtype="datetime64[us]")

    def _wrong_order(self, problem: str, row: int) -> InvalidData:
        return InvalidData(problem, path=self.source, row=row, column=self.plan.order, mend=_UNSORTABLE)


def _time(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    if not isinstance(value, str) or _is_number(value):
        return None
    try:
        return datetime.fromisoformat(value.strip())
    except ValueError:
        return None


def _is_number(value: str) -> bool:
    """Whether a text would be read as a number, which fromisoformat may take for a date."""
    try:
        number(value)
    except ValueError:
        return False
    return True
