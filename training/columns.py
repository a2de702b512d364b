"""Which columns of a file are the sequences and the labels, decided from the options and the file's first piece.

Four layouts are read:

    row       a row for each sequence, which is one cell: a text, or a list of tokens or of readings
    channels  a row for each sequence, whose channels are lists in columns of their own
    wide      a row for each sequence of one channel, a numeric column for each timestep; only where kind="series" asks
    long      a row for each timestep or token; only where group_by, order_by or numeric channels are named
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, field_validator, model_validator

from gatewise.architecture import Kind, Task
from gatewise.errors import InvalidData
from training.formats import INDEX_NAMES, Piece
from training.values import ColumnKind, column_kind, number

Layout = Literal["row", "channels", "wide", "long"]

SEQUENCE_NAMES = (
    *("text", "sentence", "sequence", "sequences", "series", "tokens", "words", "x", "values", "readings", "signal"),
    *("review", "comment", "utterance", "query", "question", "message", "content", "body", "document", "data", "input"),
    *("inputs", "token", "word"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "target", "category", "y", "intent", "sentiment", "tag", "tags", "output"),
    *("pos_tags", "ner_tags", "upos"),
)
_TOKEN_NAMES = frozenset({"token", "word", "form"})
_LISTS = frozenset({"series", "tokens"})


class ReadOptions(BaseModel):
    """How to read a file; whatever is None is found from the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sequence: str | None = None
    label: str | None = None
    kind: Kind | None = None
    task: Task | None = None
    group_by: str | None = None
    order_by: str | None = None
    channels: tuple[str, ...] | None = None
    encoding: str | None = None

    @field_validator("encoding")
    @classmethod
    def _encoding_exists(cls, value: str | None) -> str | None:
        try:
            codecs.lookup(value or "utf-8")
        except LookupError:
            raise ValueError(f"there is no encoding {value!r}; utf-8, cp1252 and latin-1 are such names") from None
        return value

    @field_validator("channels")
    @classmethod
    def _channels_differ(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("name one channel or more, each once")
        return value

    @model_validator(mode="after")
    def _columns_differ(self) -> Self:
        named = [self.sequence, self.label, self.group_by, self.order_by, *(self.channels or ())]
        given = [name for name in named if name is not None]
        twice = next((name for name in given if given.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"column {twice!r} is named twice; each of them is one thing")
        return self


@dataclass(frozen=True)
class Plan:
    """What each column of a file is.

    Attributes:
        task: None where only a whole long file can tell.
        channels: the names of a series' channels, which are columns in the long and channels layouts.
        steps: the columns of the wide layout.
        has_token_lists: whether the texts are lists of tokens.
        has_default_channels: whether the channels are all columns of numbers, for want of names.
    """

    layout: Layout
    kind: Kind
    task: Task | None
    sequence: str | None
    label: str | None
    group: str | None
    order: str | None
    channels: tuple[str, ...] | None
    steps: tuple[str, ...] = ()
    has_token_lists: bool = False
    has_default_channels: bool = False


def make_plan(piece: Piece, options: ReadOptions, *, labelled: bool, path: str) -> Plan:
    """Decide what the columns are.

    Raises:
        InvalidData: a named column is not there, or the columns leave it open; with the flag that settles it.
    """
    return _Finder(piece, options, labelled, path).plan()


class _Finder:
    def __init__(self, piece: Piece, options: ReadOptions, labelled: bool, path: str) -> None:
        self.piece, self.options, self.labelled, self.path = piece, options, labelled, path
        # Channels called "0", "1", ... are those of a file that names none, and no columns.
        is_numbering = options.channels == tuple(map(str, range(len(options.channels or ()))))
        has_steps = options.group_by is not None or options.order_by is not None
        self.channels = None if is_numbering and not has_steps else options.channels
        self.kinds: dict[str, ColumnKind] = {name: column_kind(piece.column(name)) for name in piece.names}
        for name in (options.sequence, options.label, options.group_by, options.order_by, *(options.channels or ())):
            if name is not None and not self._may_lack(name):
                self._require(name)

    def _may_lack(self, name: str) -> bool:
        """A label is not asked of a file to predict, and names of channels may be for the inside of a cell."""
        return (name == self.options.label and not self.labelled) or name in (self.options.channels or ())

    def _require(self, name: str) -> None:
        if name not in self.kinds:
            problem = f"there is no column {name!r}; the columns are {self._columns()}"
            raise InvalidData(problem, path=self.path, mend=f"{self._header_hint()}Give one of these names")

    def plan(self) -> Plan:
        options = self.options
        label = self._find_label()
        if options.order_by is not None or (self.channels is not None and self._are_numbers(self.channels)):
            return self._long(label)
        free = self._free(label)
        sequence = options.sequence or self._find_sequence(free, label)
        if sequence is not None and label is None and self.labelled:
            label = self._label_beside(sequence)
        if options.group_by is not None and (sequence is None or self._is_token_column(sequence, label)):
            return self._long(label)
        if sequence is None and self.channels is not None:
            return self._channels(label)
        if sequence is None and options.kind == "series":
            return self._wide(free, label)
        if sequence is None:
            of_numbers = [n for n in self._known(SEQUENCE_NAMES) if n in free and self.kinds[n] == "number"]
            raise self._one_number_a_row(of_numbers[0]) if of_numbers else self._open_question(None, label)
        if label is None and self.labelled:
            raise self._open_question(sequence, None)
        return self._row(sequence, label)

    # --- finding

    def _free(self, label: str | None) -> list[str]:
        taken = {label, self.options.label, self.options.group_by, self.options.order_by}
        return [name for name in self.kinds if name not in taken and name not in INDEX_NAMES]

    def _find_label(self) -> str | None:
        options = self.options
        if not self.labelled:
            return None
        if options.label is not None:
            return options.label
        known = [n for n in self._known(LABEL_NAMES) if n not in (options.sequence, options.group_by, options.order_by)]
        lists = [name for name in known if self.kinds[name] in _LISTS]
        cells = [name for name in known if name not in lists]
        # A file with a label for each row and tags for each token is read by its label unless the task says otherwise.
        preferred = lists + cells if options.task == "step" else cells + lists
        return preferred[0] if preferred else None

    def _find_sequence(self, free: list[str], label: str | None) -> str | None:
        fitting = [name for name in self._known(SEQUENCE_NAMES) if name in free and self._fits(name)]
        if label is not None and self.kinds[label] in _LISTS:
            fitting = [n for n in fitting if self.kinds[n] in _LISTS] or fitting
        if fitting:
            return fitting[0]
        fitting = [name for name in free if self._fits(name)]
        fitting = [name for name in fitting if self.kinds[name] != "number"] or fitting
        if label is None and self.labelled:
            return self._longer_of_two(free)
        if len(free) == 1:
            return self._unless_header_is_data(fitting[0]) if fitting else None
        if self.labelled:
            return None
        labels = self._known(LABEL_NAMES)
        fitting = [name for name in fitting if name not in labels]
        return fitting[0] if len(fitting) == 1 else None

    def _fits(self, name: str) -> bool:
        """Whether a column can be the sequences of the kind that was asked for, or of either kind."""
        kind = self.kinds[name]
        if self.options.kind == "text":
            return kind != "series" or isinstance(self.piece.column(name)[0], str)
        if self.options.kind == "series":
            return kind == "series"
        return kind in ("text", "tokens", "series", "empty") and not (kind == "empty" and len(self.kinds) > 2)

    def _longer_of_two(self, free: list[str]) -> str | None:
        """Of two columns of no known name take the one of lists, or that of longer and more varied texts."""
        if len(free) != 2:
            return None
        lists = [name for name in free if self.kinds[name] in _LISTS]
        if len(lists) == 1:
            return lists[0]
        texts = {name: [str(value) for value in self.piece.column(name)] for name in free}
        a, b = sorted(free, key=lambda name: len(set(texts[name])))
        is_clear = len(set(texts[a])) * 2 <= len(set(texts[b])) and _size(texts[a]) < _size(texts[b])
        return self._unless_header_is_data(b) if is_clear and self._fits(b) else None

    def _label_beside(self, sequence: str) -> str | None:
        free = [name for name in self._free(None) if name != sequence]
        return self._unless_header_is_data(free[0]) if len(free) == 1 else None

    def _known(self, names: Iterable[str]) -> list[str]:
        by_lower = {name.lower(): name for name in reversed(list(self.kinds))}
        return [by_lower[name] for name in names if name in by_lower]

    def _is_token_column(self, sequence: str, label: str | None) -> bool:
        """Whether each row is one token of a text rather than a whole text, in a file with groups."""
        if self.kinds[sequence] in _LISTS:
            return False
        label_is_one = label is None or self.kinds[label] not in _LISTS
        return sequence.lower() in _TOKEN_NAMES or (self.options.task == "step" and label_is_one)

    def _are_numbers(self, names: Sequence[str]) -> bool:
        return all(self.kinds.get(name) in ("number", "empty") for name in names)

    # --- layouts

    def _row(self, sequence: str, label: str | None) -> Plan:
        options, held = self.options, self.kinds[sequence]
        if held == "number" and options.kind != "text":
            raise self._one_number_a_row(sequence)
        if held in ("time", "other"):
            problem = "holds neither texts nor lists of readings"
            raise InvalidData(problem, path=self.path, column=sequence, mend="Name another with --sequence")
        kind: Kind = options.kind or ("series" if held == "series" else "text")
        task: Task = options.task or ("step" if label is not None and self.kinds[label] in _LISTS else "sequence")
        channels = options.channels if kind == "series" else None
        return Plan(
            *("row", kind, task, sequence, label, options.group_by, None, channels), has_token_lists=held == "tokens"
        )

    def _channels(self, label: str | None) -> Plan:
        options = self.options
        assert options.channels is not None
        for name in options.channels:
            self._require(name)
            if self.kinds[name] not in ("series", "empty"):
                problem = "is a channel by --channels and holds neither numbers nor lists of them"
                raise InvalidData(problem, path=self.path, column=name, mend="Name other columns")
        if label is None and self.labelled:
            raise self._open_question(options.channels[0], None)
        task: Task = options.task or ("step" if label is not None and self.kinds[label] in _LISTS else "sequence")
        return Plan("channels", "series", task, None, label, options.group_by, None, options.channels)

    def _wide(self, free: list[str], label: str | None) -> Plan:
        steps = tuple(name for name in free if self.kinds[name] in ("number", "empty"))
        if not steps or (label is None and self.labelled):
            raise self._open_question(None, label)
        if self.options.task == "step":
            problem = "a row with a column for each timestep has one label, not one for each step"
            raise InvalidData(problem, path=self.path, mend="Leave out --task step, or give lists in one column")
        return Plan("wide", "series", "sequence", None, label, self.options.group_by, None, None, steps)

    def _long(self, label: str | None) -> Plan:
        options = self.options
        if label is None and self.labelled:
            raise self._open_question(options.sequence or "", None)
        free = self._free(label)
        if options.channels is None:
            texts = [options.sequence] if options.sequence else [n for n in self._known(SEQUENCE_NAMES) if n in free]
            texts = [name for name in texts if self.kinds[name] == "text" or options.kind == "text"]
            if texts and options.kind != "series":
                return Plan("long", "text", options.task, texts[0], label, options.group_by, options.order_by, None)
        named = options.channels or ((options.sequence,) if options.sequence else None)
        channels = named or tuple(name for name in free if self.kinds[name] in ("number", "empty"))
        if named is None:
            self._refuse_almost_numbers([name for name in free if name not in channels])
        if not channels:
            mend = "Name the columns of readings with --channels A,B or the column of tokens with --sequence COL"
            raise InvalidData(f"no column of numbers is left of {self._columns()}", path=self.path, mend=mend)
        for name in channels:
            self._require(name)
        return Plan(
            *("long", "series", options.task, None, label, options.group_by, options.order_by, channels),
            has_default_channels=named is None,
        )

    def _refuse_almost_numbers(self, names: list[str]) -> None:
        """A column with a cell or two that are no numbers was meant as a channel: it must not be left out unsaid."""
        for name in names:
            values = self.piece.column(name)
            wrong = [i for i, value in enumerate(values) if not _is_number(value)]
            if 0 < len(wrong) < len(values) / 2:
                problem = f"{ascii(values[wrong[0]])[:40]} is not a number, and most of this column are"
                mend = (
                    "Write a number, or leave it empty where a reading is missing; or name the channels with --channels"
                )
                row = int(self.piece.rows[wrong[0]])
                raise InvalidData(problem, path=self.path, row=row, column=name, mend=mend)

    # --- saying what is open

    def _columns(self) -> str:
        told = [f"{name or '(unnamed)'} ({kind})" for name, kind in list(self.kinds.items())[:20]]
        return ", ".join(told) + (f" and {len(self.kinds) - 20} more" if len(self.kinds) > 20 else "")

    def _open_question(self, sequence: str | None, label: str | None) -> InvalidData:
        missing = [] if sequence is not None else ["the sequences (--sequence COL)"]
        missing += [] if label is not None or not self.labelled else ["the labels (--label COL)"]
        problem = f"it is not clear which column holds {' and '.join(missing)}; the columns are {self._columns()}"
        series = [name for name, kind in self.kinds.items() if kind == "series"]
        numbers = [name for name, kind in self.kinds.items() if kind == "number"]
        mend = f"{self._header_hint()}Name {'it' if len(missing) == 1 else 'them'}"
        if sequence is None and len(series) > 1:
            mend += f"; for a list for each channel give --channels {','.join(series[:3])}"
        elif sequence is None and len(numbers) > 1:
            mend += "; for a row for each timestep give --group-by COL and --order-by COL"
            mend += (
                f"; to take the {len(numbers)} columns of numbers as the timesteps of one channel give --kind series"
            )
        return InvalidData(problem, path=self.path, mend=mend)

    def _one_number_a_row(self, sequence: str) -> InvalidData:
        mend = "For a row for each timestep give --order-by COL or --group-by COL; to read it as text give --kind text"
        return InvalidData("holds one number a row, not a sequence", path=self.path, column=sequence, mend=mend)

    def _header_hint(self) -> str:
        is_data = self.piece.has_header and any(self._looks_like_data(name) for name in self.kinds)
        return "The first line looks like data: add a line of column names, such as text,label. " if is_data else ""

    def _unless_header_is_data(self, name: str) -> str:
        """Return `name`, or raise where the file seems to have no header and would lose its first row."""
        others = [other for other in self.kinds if self._looks_like_data(other)]
        if self.piece.has_header and others:
            problem = f"the first line is read as column names, and {others[0][:60]!r} looks like data"
            mend = "Add a line of column names, such as text,label, or name the columns with --sequence and --label"
            raise InvalidData(problem, path=self.path, row=1, mend=mend)
        return name

    def _looks_like_data(self, name: str) -> bool:
        if len(name) > 60 or len(name.split()) > 5:
            return True
        return name not in INDEX_NAMES and name in self.piece.column(name)


def _is_number(value: object) -> bool:
    try:
        number(value)
    except (ValueError, OverflowError):
        return False
    return True


def _size(texts: list[str]) -> float:
    return sum(map(len, texts)) / len(texts)
