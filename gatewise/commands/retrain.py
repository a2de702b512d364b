"""`gatewise retrain`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from gatewise.commands.database import database_url
from gatewise.commands.settings import seconds_of, settings_of
from gatewise.commands.showing import say_loading
from gatewise.errors import InvalidConfig

# What a scheduler may tell apart; `gatewise.cli` lists the others.
NOTHING_NEW, REFUSED, STOPPED = 6, 7, 130


@click.command()
@click.argument("name")
@click.option("--base", metavar="DATA", help="Train on this in place of what the model in production was trained on.")
@click.option(
    "--since", metavar="TIME", help="Leave out feedback that came before: 2026-11-01, or with a time and zone."
)
@click.option(
    "--promote",
    type=click.Choice(["never", "auto", "ask"]),
    default="never",
    show_default=True,
    help="Whether a version that the gate lets through becomes production.",
)
@click.option("--cells", metavar="lstm,gru", help="Candidates, in this order; those of before if not given.")
@click.option("--config", "config_file", metavar="F.toml", help="Settings to change, as a flat TOML file; flags win.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One setting; may be given again.")
@click.option("--epochs", type=int, help="Passes over the train split.")
@click.option("--seed", type=int, help="Of the weights, the order and dropout; the split stays.")
@click.option("--least-new-rows", type=click.IntRange(min=1), help="Rows to train on that a new class needs; 10.")
@click.option("--recall-margin", type=click.FloatRange(0, 1), help="By how much a class's recall may fall; 0.05.")
@click.option("--max-slowdown", type=click.FloatRange(min=1), help="How often the champion's time it may take; 2.")
@click.option("--max-time", metavar="10m", help="Stop training after this time with the best so far (90s, 10m, 2h).")
@click.option("--run-dir", default="runs", show_default=True, help="Where jobs keep their folders.")
@click.option("--accelerator", default="auto", help="As Lightning: auto, cpu, gpu ...")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of torch.")
@click.pass_context
def retrain(context: click.Context, /, name: str, **flags: Any) -> None:
    """Train NAME again with the feedback that came, and hold the result to the gate.

    By the recipe of NAME:production and on its data, with the feedback of GATEWISE_DATABASE. The same command goes on
    with a job that was killed or failed. Exit codes beside the others: 6 nothing new came, 7 the gate refused.
    """
    say_loading(f"retrain {name}")
    from training.fitting import Devices
    from training.retrain import RetrainOptions
    from training.retrain import retrain as run
    from training.watch import Stopped

    console = Console(stderr=True)
    given = {key: flags[key] for key in ("least_new_rows", "recall_margin", "max_slowdown") if flags[key] is not None}
    options = RetrainOptions(
        name=name,
        database=database_url(),
        base=flags["base"],
        since=_time(flags["since"]),
        settings=settings_of(flags),
        promote=flags["promote"],
        devices=Devices(accelerator=flags["accelerator"], threads=flags["threads"]),
        run_dir=Path(flags["run_dir"]),
        max_seconds=seconds_of(flags["max_time"]),
        **given,
    )
    ask = _ask if sys.stdin.isatty() else None
    try:
        outcome = run(options, say=click.echo, ask=ask, console=console if console.is_terminal else None)
    except Stopped:
        click.echo("stopped; unless it was cancelled, the same command goes on", err=True)
        context.exit(STOPPED)
    reference = f"{name}:{outcome.version}"
    if outcome.result == "nothing_new":
        click.echo("Next:    send labels to POST /feedback; gatewise drift says whether the sequences have changed")
        context.exit(NOTHING_NEW)
    click.echo(f"Why:     gatewise models show {reference}      or: gatewise jobs show {outcome.job}")
    if outcome.result == "refused":
        context.exit(REFUSED)
    after = f"rollback {name}" if outcome.result == "promoted" else f"promote {reference}"
    click.echo(f"Next:    gatewise models {after}")


def _ask(reason: str) -> bool:
    return click.confirm(f"The gate lets it through ({reason}). Make it production?")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidConfig(f"--since: {text!r} is not a time; say 2026-11-01 or 2026-11-01T12:00+00:00") from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)
