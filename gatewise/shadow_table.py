"""What shadows have shown, as tables for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from gatewise.shadow import Comparison, Durations

_MOST_DIFFERENCES = 10


def print_comparisons(found: list[Comparison], console: Console) -> None:
    """Print a table of all pairs, and for each where its labels differ most."""
    table = Table(
        "champion",
        "challenger",
        "rows",
        "agreement (95 %)",
        "failed",
        "dropped",
        title="Engine ms: champion / challenger",
    )
    for column in ("mean", "p50", "p99"):
        table.add_column(column, justify="right")
    for one in found:
        table.add_row(
            one.champion,
            one.challenger,
            str(one.rows),
            _agreement(one),
            str(one.failed),
            str(one.dropped),
            *_times(one.champion_seconds, one.challenger_seconds),
        )
    console.print(table)
    for one in found:
        counts = [(n, label, other) for label, others in one.differences.items() for other, n in others.items()]
        if counts:
            console.print(f"Where {one.challenger} differs from {one.champion}:")
        for n, label, other in sorted(counts, reverse=True)[:_MOST_DIFFERENCES]:
            console.print(f"  {n:>6}  {label} -> {other}", highlight=False, markup=False)
        if len(counts) > _MOST_DIFFERENCES:
            console.print(f"  and {len(counts) - _MOST_DIFFERENCES} more pairs of labels")


def _agreement(one: Comparison) -> str:
    if one.agreement is None or one.interval is None:
        return "-"
    low, high = one.interval
    return f"{one.agreement:.1%} ({low:.1%} to {high:.1%})"


def _times(champion: Durations, challenger: Durations) -> list[str]:
    pairs = zip(champion.summary().values(), challenger.summary().values(), strict=True)
    return [f"{_figure(one)} / {_figure(other)}" for one, other in pairs]


def _figure(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.2f}"
