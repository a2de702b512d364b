"""What commands share of what they show: progress, tables, and who answered."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from gatewise.errors import InvalidConfig

if TYPE_CHECKING:
    from gatewise.predictor import Predictor

# Columns of what is no terminal: enough that no table is cut.
_UNCUT = 10_000


def check_json(json_file: str | None) -> None:
    """Raise InvalidConfig where the folder of a --json file is not there."""
    if json_file and not Path(json_file).parent.is_dir():
        raise InvalidConfig(f"--json: there is no folder {Path(json_file).parent}")


def say_loading(purpose: str) -> None:
    """Say at once what a command is about to do: torch takes seconds to import, and silence looks like hanging.

    Of a training's processes the first alone says it.
    """
    if os.environ.get("LOCAL_RANK", "0") == "0":
        click.echo(f"Loading torch to {purpose}")


def reference_of(predictor: Predictor) -> str:
    """Who answered: `name:version`."""
    return f"{predictor.manifest.name}:{predictor.version}"


def engine_of(predictor: Predictor) -> str:
    """What ran the network, and where."""
    return f"{predictor.engine_name} on {predictor.engine.device}"


@contextmanager
def row_progress(action: str) -> Iterator[Callable[[int], None]]:
    """A count of rows on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda rows: None
        return
    columns = (SpinnerColumn(), TextColumn(action), MofNCompleteColumn(), TextColumn("rows"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(action, total=None)
        yield lambda rows: progress.update(task, completed=rows)


def print_table(table: Table) -> None:
    """Print a table; where that is not to a terminal nothing of it is cut."""
    _table_console().print(table)


def fits(table: Table) -> bool:
    """Whether a table can be printed with every cell on one line."""
    console = _table_console()
    return console.measure(table, options=console.options.update(width=_UNCUT)).maximum <= console.width


def print_comparison(account: dict[str, Any]) -> None:
    """Show a comparison of models as a table with its tests."""
    metrics = list(account["candidates"][0]["metrics"])
    columns = ("model", *metrics, "ms alone", "long", "sequences/s", "ms a step", "MB", "weights", "trained")
    table = Table(*columns, caption=f"on {account['rows']} held-out rows, with 95% intervals")
    for one in account["candidates"]:
        latency, seconds = one["latency"], one["training_seconds"]
        table.add_row(
            one["name"],
            *(_with_interval(one["metrics"][name]) for name in metrics),
            f"{latency['single_ms']:.2f}",
            f"{latency['single_p95_length_ms']:.2f}",
            f"{latency['per_second']:.0f}",
            "no stream" if latency["step_ms"] is None else f"{latency['step_ms']:.3f}",
            f"{one['size_mb']:.2f}",
            f"{one['parameters']:,}",
            "-" if seconds is None else f"{seconds:.0f} s",
        )
    print_table(table)
    for test in account["tests"]:
        interval = "" if test["low"] is None else f" ({test['low']:+.4f} to {test['high']:+.4f})"
        first, second = test["of"]
        click.echo(f"{first} - {second}: {test['metric']} {test['difference']:+.4f}{interval}, p {test['p_value']:.3f}")


def _table_console() -> Console:
    # What stands in a cell is a name or an error of somebody else: its brackets are no commands.
    return Console(width=None if sys.stdout.isatty() else _UNCUT, markup=False, emoji=False)


def _with_interval(figure: dict[str, float | None]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} ({low:.3f}-{high:.3f})"
