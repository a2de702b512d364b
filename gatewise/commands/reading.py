"""How a command reads a labelled file: its flags, and what the model says where they do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from gatewise.errors import InvalidConfig, InvalidData

if TYPE_CHECKING:
    from gatewise.predictor import Predictor
    from training.dataset import Dataset
    from training.readers import ReadOptions

F = TypeVar("F", bound=Callable[..., Any])


def reading_options(command: F) -> F:
    """Flags that say how to read a file; whatever is not given is found from the file."""
    for option in reversed(
        [
            click.option("--sequence", metavar="COL", help="Column of the texts or series."),
            click.option("--label", metavar="COL", help="Column of the labels."),
            click.option("--kind", type=click.Choice(["text", "series"]), help="What the sequences are."),
            click.option("--task", type=click.Choice(["sequence", "step"]), help="What has a label."),
            click.option("--group-by", metavar="COL", help="Long format: the column that names a row's sequence."),
            click.option("--order-by", metavar="COL", help="Long format: the column that orders a sequence's rows."),
            click.option("--channels", metavar="A,B", help="Columns of the channels, in order."),
            click.option("--encoding", metavar="NAME", help="Character encoding of the file; UTF-8 if not given."),
        ]
    ):
        command = option(command)
    return command


def read_options(flags: dict[str, Any]) -> ReadOptions:
    """What the flags of `reading_options` say.

    Raises:
        InvalidConfig: flags that do not go together, with their names.
    """
    from pydantic import ValidationError

    from training.readers import ReadOptions

    names = ("sequence", "label", "kind", "task", "group_by", "order_by", "encoding")
    given = {name: flags[name] for name in names if flags.get(name) is not None}
    if flags.get("channels"):
        given["channels"] = tuple(part.strip() for part in flags["channels"].split(","))
    try:
        return ReadOptions(**given)
    except ValidationError as error:
        first = error.errors()[0]
        place = f"--{str(first['loc'][0]).replace('_', '-')}: " if first["loc"] else ""
        raise InvalidConfig(place + first["msg"].removeprefix("Value error, ")) from None


def stream_as_trained(predictor: Predictor, data: str, flags: dict[str, Any], *, labelled: bool) -> Iterator[Dataset]:
    """Read as the train file was read, but for what the flags say.

    Raises:
        InvalidData: as `stream`; or there are labels, and the model knows none of them.
    """
    from training.readers import stream

    given = read_options(flags)
    trained = predictor.manifest.training.get("reading", {})
    merged = {**trained, **{name: value for name, value in given if value is not None}}
    merged |= {"kind": predictor.manifest.kind, "task": predictor.manifest.task}
    if merged.get("group_by") or merged.get("order_by") or merged.get("channels"):
        merged["channels"] = merged.get("channels") or predictor.manifest.channels
    columns = predictor.manifest.training.get("columns")
    pieces = stream(data, type(given).model_validate(merged), labelled=labelled, like=columns)
    return _with_known_labels(pieces, predictor.manifest.labels) if labelled else pieces


def _with_known_labels(pieces: Iterator[Dataset], labels: Sequence[str]) -> Iterator[Dataset]:
    """Pass the pieces on; one known label is enough, for rows of a new class may well be scored with the others."""
    found: set[str] = set()
    source = ""
    for piece in pieces:
        found.update(*piece.label_sets())
        source = piece.source
        yield piece
    if found and found.isdisjoint(labels):
        problem = f"the model knows none of its labels, such as {_some(sorted(found))}; it answers {_some(labels)}"
        raise InvalidData(problem, path=source, mend="Name the column of the labels with --label COL")


def _some(labels: Sequence[str]) -> str:
    return ", ".join(repr(label) for label in labels[:3])
