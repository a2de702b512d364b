"""`gatewise jobs`: what runs, how far it is, what came of it, and how to stop it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.table import Table

from gatewise.commands.database import database_url
from gatewise.commands.showing import print_table

if TYPE_CHECKING:
    from gatewise.jobs import Job, JobStore

_as_json = click.option("--json", "as_json", is_flag=True, help="As JSON.")


@click.group()
def jobs() -> None:
    """Retrainings: which run, what came of them, and how to stop one."""


@jobs.command("list")
@click.argument("name", required=False)
@_as_json
def list_jobs(name: str | None, as_json: bool) -> None:
    """List the jobs of the model NAME, or all, newest first."""
    with _opened() as store:
        found = store.list(name)
    if as_json:
        click.echo(orjson.dumps([_fields(job) for job in found], option=orjson.OPT_INDENT_2).decode())
        return
    if not found:
        click.echo(f"No jobs{f' of {name}' if name else ''} yet. gatewise retrain NAME begins one.")
        return
    table = Table("job", "model", "state", "step", "began", "last told", "result")
    for job in found:
        result = (job.result or {}).get("result", "") or job.error or ""
        table.add_row(
            str(job.id), job.model_name, job.state, job.step, _minute(job.created_at), _minute(job.beat_at), result
        )
    print_table(table)


@jobs.command()
@click.argument("number", metavar="JOB", type=int)
@_as_json
def show(number: int, as_json: bool) -> None:
    """Show one job: its state, what it was asked and what came of it."""
    with _opened() as store:
        job = store.get(number)
    if as_json:
        click.echo(orjson.dumps(_fields(job), option=orjson.OPT_INDENT_2).decode())
        return
    click.echo(f"job {job.id}: {job.kind} {job.model_name}, {job.state}")
    click.echo(f"  began {_minute(job.created_at)}, last told {_minute(job.beat_at)}, process {job.owner.pid}")
    click.echo(f"  {job.step}: {job.detail}")
    asked = {name: value for name, value in job.request.items() if value}
    click.echo(f"  asked: {orjson.dumps(asked).decode()}")
    if job.error:
        click.echo(f"  error: {job.error}")
    for name, value in (job.result or {}).items():
        click.echo(f"  {name}: {value}")
    click.echo(f"Log:     {job.folder / 'job.log'}")


@jobs.command()
@click.argument("number", metavar="JOB", type=int)
@_as_json
def cancel(number: int, as_json: bool) -> None:
    """Stop a job. What it has trained stays in its folder; the same command begins a new one."""
    with _opened() as store:
        job = store.cancel(number)
    if as_json:
        click.echo(orjson.dumps(_fields(job), option=orjson.OPT_INDENT_2).decode())
    elif job.state == "running":
        click.echo(f"job {number} runs on another machine, and stops when it next looks")
    else:
        click.echo(f"job {number} is {job.state}")


@contextmanager
def _opened() -> Iterator[JobStore]:
    url = database_url()
    from gatewise.jobs import JobStore

    store = JobStore(url)
    try:
        yield store
    finally:
        store.close()


def _fields(job: Job) -> dict[str, Any]:
    return {**asdict(job), "folder": str(job.folder)}


def _minute(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"
