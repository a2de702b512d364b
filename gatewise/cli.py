"""The `gatewise` command. Nothing imports it; it and `commands` alone may import training and service, when needed.

Exit codes: 0 done; 1 something unforeseen; 2 a flag or setting is wrong; 3 the data is wrong; 4 the model cannot be
found or used; 5 a package is missing; of `retrain` alone 6 nothing new to learn, 7 refused by the gate; 130 stopped.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.table import Column, Table

import gatewise
from gatewise.commands.drift import drift
from gatewise.commands.jobs import jobs
from gatewise.commands.retrain import retrain
from gatewise.commands.scoring import compare, evaluate, predict
from gatewise.commands.showing import fits, print_table, say_loading
from gatewise.commands.train import train
from gatewise.errors import (
    ArtifactError,
    ArtifactMissing,
    GatewiseError,
    InvalidConfig,
    InvalidData,
    InvalidSequence,
    MissingDependency,
    ModelConflict,
    ModelNotFound,
    StoreUnavailable,
    UnsupportedModel,
)

if TYPE_CHECKING:
    from gatewise.store import ModelVersion, Store
    from service.settings import ServiceSettings

_INDENT = orjson.OPT_INDENT_2
# Beyond a request's own time, for a worker to end.
_DRAIN_SECONDS = 5
_EXIT_CODES: dict[type[GatewiseError], int] = {
    InvalidConfig: 2,
    InvalidData: 3,
    InvalidSequence: 3,
    ArtifactError: 4,
    ModelNotFound: 4,
    ModelConflict: 4,
    StoreUnavailable: 4,
    UnsupportedModel: 4,
    MissingDependency: 5,
}
# What the packages of an extra are imported as, to name the extra where one of them is not there.
_EXTRAS = {
    *("torch", "pytorch_lightning", "h5py", "onnx", "optuna", "pyarrow", "scipy", "tensorboard"),
    *("service", "training"),
}


class Cli(click.Group):
    """A group of commands whose errors are sentences, with an exit code for each kind."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; word Gatewise's errors for a terminal."""
        try:
            return super().invoke(ctx)
        except GatewiseError as error:
            click.echo(f"error: {error.message}", err=True)
            ctx.exit(next((code for kind, code in _EXIT_CODES.items() if isinstance(error, kind)), 1))
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRAS:
                raise
            click.echo(f"error: {error.name} is not installed: pip install 'gatewise[training,service]'", err=True)
            ctx.exit(5)
        except KeyboardInterrupt:
            goes_on = "; the same command goes on with --resume" if ctx.invoked_subcommand == "train" else ""
            click.echo(f"stopped{goes_on}", err=True)
            ctx.exit(130)
        except BrokenPipeError:
            # The reader of our output has left, as `head` does. Python would complain once more when it flushes.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OSError as error:
            click.echo(f"error: {error}", err=True)
            ctx.exit(1)


@click.group(cls=Cli, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(gatewise.__version__)
def main() -> None:
    """Labelled sequences in, a small fast classifier behind HTTP out.

    MODEL is a name (its newest version), name:version, name:production, or an artifact's folder.
    """


for _command in (train, retrain, jobs, evaluate, compare, predict, drift):
    main.add_command(_command)


def train_main() -> None:
    """`python -m training`: the commands that train alone; `train` where none is named."""
    given = sys.argv[1:]
    main(given if given[:1] == ["retrain"] else ["train", *given], prog_name="python -m training")


@main.command()
@click.argument("model")
@click.option(
    "--output", "-o", metavar="F", help="Write it to this file: .html, .json for programs, or .md for a model card."
)
@click.option("--open", "opens", is_flag=True, help="Show it in a browser.")
def report(model: str, output: str | None, opens: bool) -> None:
    """Show how MODEL was chosen, how sure it is and where it errs: where its report is, or a copy of it."""
    import webbrowser

    from gatewise.artifact import MODEL_CARD, REPORT, REPORT_JSON, Artifact
    from gatewise.store import resolve

    names = {".html": REPORT, ".json": REPORT_JSON, ".md": MODEL_CARD}
    suffix = Path(output).suffix if output else ".html"
    if suffix not in names:
        raise InvalidConfig(f"--output: {output} does not end in one of {', '.join(names)}")
    if output and not Path(output).parent.is_dir():
        raise InvalidConfig(f"--output: there is no folder {Path(output).parent}")
    folder, _ = resolve(model)
    content = Artifact(folder).report(names[suffix])
    if content is None:
        raise ArtifactMissing(f"{model} was made without a report; `gatewise train` makes one")
    path = Path(output) if output else folder / names[suffix]
    if output:
        path.write_bytes(content)
    click.echo(f"Report:  {path}")
    if opens and not webbrowser.open(path.resolve().as_uri()):
        click.echo(
            "no browser was found here; copy the file to where one is, or: gatewise serve, then GET /model/report"
        )


@main.command()
@click.argument("model", required=False)
@click.option("--port", type=click.IntRange(1, 65_535), default=3000, show_default=True, help="Port to listen on.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--workers", type=int, help="Processes, each with its own model.")
@click.option("--engine", type=click.Choice(["auto", "onnx", "torch"]), help="What runs the network.")
@click.option("--device", help="As torch names it, or auto: cuda where there is a GPU; the CPU if not given.")
def serve(model: str | None, port: int, host: str, workers: int | None, engine: str | None, device: str | None) -> None:
    """Serve MODEL over HTTP; if none is named, that of GATEWISE_MODEL, or the only one of the store."""
    from gatewise.artifact import verify
    from gatewise.store import Store, resolve

    model = model or os.environ.get("GATEWISE_MODEL") or _only_model(Store())
    path, version = resolve(model)
    manifest = verify(path)
    given = {"GATEWISE_MODEL": model, "GATEWISE_WORKERS": workers, "GATEWISE_ENGINE": engine, "GATEWISE_DEVICE": device}
    os.environ.update({name: str(value) for name, value in given.items() if value is not None})
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    settings = _service_settings(host, port)
    click.echo(f"Serving {manifest.name}:{version or manifest.digest[:12]} on http://{host}:{port} (Ctrl-C stops it)")
    sys.stdout.flush()
    # Without a limit a client that never reads its answer would keep the process for ever.
    drain = str(int(settings.timeout_seconds) + _DRAIN_SECONDS)
    address = ["--port", str(port), "--host", host, "--timeout-graceful-shutdown", drain]
    from service.sharing import use_own_folder

    use_own_folder()
    # In this process: another would first import again what this one has.
    sys.argv = ["bentoml", "serve", "service.app:GatewiseService", *address]
    runpy.run_module("bentoml", run_name="__main__")


@main.command()
@click.argument("model")
def build(model: str) -> None:
    """Make a Bento of the stored MODEL, for `bentoml containerize` or `bentoml serve`."""
    from gatewise.store import Store

    version = Store().get(model)
    try:
        from service import bento
    except ModuleNotFoundError as error:
        raise MissingDependency(f"serving needs {error.name}: pip install 'gatewise[service]'") from None
    tag = bento.build(version)
    click.echo(f"Built {tag} with {version.reference}")
    click.echo(f"Next:    bentoml containerize {tag}      or: bentoml serve {tag}")


def _service_settings(host: str, port: int) -> ServiceSettings:
    """Return the settings; what would fail in each worker is refused here, in one line."""
    from gatewise.ports import check_port

    try:
        from service.runtime import check_device
        from service.settings import load_settings
    except ModuleNotFoundError as error:
        raise MissingDependency(f"serving needs {error.name}: pip install 'gatewise[service]'") from None
    check_port(host, port)
    settings = load_settings()
    check_device(settings)
    return settings


def _only_model(store: Store) -> str:
    names = sorted({version.name for version in store.list()})
    if len(names) == 1:
        return names[0]
    if not names:
        raise ModelNotFound("the store is empty; train a model: gatewise train DATA")
    raise InvalidConfig(f"MODEL: the store has several; name one of {', '.join(names)}")


@main.group()
def models() -> None:
    """Versions in the store, and which is production."""


@models.command("list")
@click.argument("name", required=False)
def list_models(name: str | None) -> None:
    """List versions, newest first; a narrow terminal is shown the columns that it has room for."""
    from gatewise.store import Store

    versions = Store().list(name)
    if not versions:
        raise ModelNotFound(f"no model {name!r} in the store" if name else "the store is empty; gatewise train DATA")
    columns = list(_COLUMNS)
    while len(columns) > _LEAST_COLUMNS and not fits(_version_table(versions, columns)):
        columns.pop()
    print_table(_version_table(versions, columns))


def _version_table(versions: Sequence[ModelVersion], columns: Sequence[str]) -> Table:
    # What is too long even so goes on in the next line.
    table = Table(*(Column(title, overflow="fold") for title in columns))
    for version in versions:
        table.add_row(*(_COLUMNS[title](version) for title in columns))
    return table


def _headline(metrics: dict[str, Any]) -> str:
    figures = metrics.get("test") or metrics.get("valid") or {}
    name = next((name for name in ("span_f1", "accuracy") if name in figures), None)
    return f"{name} {figures[name]:.4f}" if name else "-"


# By their worth: what the other commands take and which is live come first.
_COLUMNS: dict[str, Callable[[ModelVersion], str]] = {
    "model": lambda version: version.name,
    "version": lambda version: version.version,
    "state": lambda version: "production" if version.is_production else "shadow" if version.is_shadow else "",
    "test": lambda version: _headline(version.metrics),
    "created": lambda version: f"{version.created_at:%Y-%m-%d %H:%M}",
    "size": lambda version: f"{version.size_bytes / 1e6:.1f} MB",
    "cell": lambda version: version.cell,
    "kind": lambda version: version.kind,
    "task": lambda version: version.task,
}
_LEAST_COLUMNS = 3


@models.command()
@click.argument("model")
def show(model: str) -> None:
    """Show a model's manifest, what the gate said of it, and the moves of its production pointer, as JSON."""
    from gatewise.artifact import verify
    from gatewise.store import GATE, Store, resolve

    path, version = resolve(model)
    name = model.partition(":")[0]
    gate = Store().noted(name, version, GATE) if version else None
    try:
        manifest = verify(path)
    except ArtifactError:
        # Damage may be what it was refused for.
        click.echo(orjson.dumps({"version": version, "path": str(path), "gate": gate}, option=_INDENT).decode())
        raise
    fields = manifest.model_dump(mode="json", exclude={"files"})
    if version:
        fields = {"version": version, "path": str(path), **fields, "gate": gate}
        fields["production_history"] = [move.model_dump(mode="json") for move in Store().history(name)]
    click.echo(orjson.dumps(fields, option=_INDENT).decode())


@models.command()
@click.argument("model")
@click.option(
    "--shadow/--no-shadow", default=None, help="Answer a sample beside production, or no more; only compared."
)
@click.option("--sample", type=float, default=0.1, show_default=True, help="Share of the requests, with --shadow.")
def promote(model: str, shadow: bool | None, sample: float) -> None:
    """Make a version production; running services follow within two seconds."""
    from gatewise.store import Store

    name = model.partition(":")[0]
    if shadow is False:
        click.echo(f"nothing shadows {name}{' any more' if Store().end_shadow(name) else ''}")
        return
    if shadow:
        version = Store().cast_shadow(model, sample)
        click.echo(f"{version.reference} shadows {name}:production, for {sample:g} of the requests")
        click.echo(f"Next:    gatewise models compare {name}")
        return
    version = Store().promote(model)
    state = "is production now" if version.changed else "was production already; nothing changed"
    click.echo(f"{version.reference} {state}")
    click.echo(f"Next:    gatewise serve {version.name}:production      or: gatewise models rollback {version.name}")


@models.command("compare")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def compare_shadows(name: str, as_json: bool) -> None:
    """Show what versions that shadowed production answered, and how fast, beside it."""
    from gatewise.shadow_table import table
    from gatewise.store import Store

    found = Store().comparisons(name).list()
    if not found:
        raise ModelNotFound(
            f"nothing has shadowed {name!r} on this machine; gatewise models promote {name}:VERSION --shadow"
        )
    if as_json:
        click.echo(orjson.dumps([one.summary() for one in found], option=orjson.OPT_INDENT_2).decode())
    else:
        click.echo("\n\n".join("\n".join(table(one)) for one in found))


@models.command()
@click.argument("name")
def rollback(name: str) -> None:
    """Make production what was production before."""
    from gatewise.store import Store

    click.echo(f"{Store().rollback(name).reference} is production again")


@models.command()
@click.argument("model")
def delete(model: str) -> None:
    """Delete a version that is not production."""
    from gatewise.store import Store

    click.echo(f"{Store().delete(model).reference} is deleted")


@models.command("export")
@click.argument("model")
@click.argument("url")
def export_model(model: str, url: str) -> None:
    """Write a version to URL: a folder, a .zip or .tar.gz file, or any fsspec URL such as s3://bucket/m.tar.gz."""
    from gatewise.store import Store

    place = Store().export(model, url)
    click.echo(f"{model} -> {place}")
    click.echo(f"Next:    gatewise models import {place}")


@models.command("import")
@click.argument("url")
@click.option("--name", help="The model's name here; its own if not given.")
def import_model(url: str, name: str | None) -> None:
    """Bring in what export wrote, after checking every file."""
    from gatewise.store import Store

    _say_added(Store().import_(url, name))


def _say_added(version: ModelVersion) -> None:
    click.echo(
        f"{version.reference} {'is in the store' if version.changed else 'was in the store already'}: {version.path}"
    )
    click.echo(f"Next:    gatewise serve {version.reference}")


@main.command("import-keras")
@click.argument("file")
@click.option("--name", help="The model's name; the file's if not given.")
@click.option("--labels", metavar="A,B", help="Class names in the order of the outputs; 0,1,... if not given.")
@click.option("--channels", metavar="A,B", help="Channel names of a series model; 0,1,... if not given.")
@click.option("--vocabulary", metavar="F", help="Text models: one token a line, in the order of the ids.")
def import_keras(file: str, name: str | None, labels: str | None, channels: str | None, vocabulary: str | None) -> None:
    """Bring in a Keras model, LSTM or GRU -> Dense, with the same probabilities."""
    from training.importing import import_keras_file

    def names(text: str | None) -> tuple[str, ...] | None:
        return tuple(part.strip() for part in text.split(",")) if text else None

    _say_added(
        import_keras_file(file, name=name, labels=names(labels), channels=names(channels), vocabulary=vocabulary)
    )


@main.command()
@click.argument("data", type=click.Choice(["text", "series"]), default="text")
@click.option("--exit", "exits", is_flag=True, help="Stop after the predictions.")
@click.option("--port", default=3000, show_default=True, help="Port of the service.")
def demo(data: str, exits: bool, port: int) -> None:
    """Train on real data that comes with the demo extra, serve the model and ask it."""
    say_loading("train the demonstration's model")
    from training.tour import run_demo

    run_demo(data, port=port, exits=exits, say=click.echo)


if __name__ == "__main__":
    main()
