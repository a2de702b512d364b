"""The `gatewise` command. Nothing imports it; it alone may import training and service, and does so when needed.

Exit codes: 0 done; 1 something unforeseen; 2 a flag or setting is wrong; 3 the data is wrong; 4 the model cannot be
found or used; 5 a package is missing; 130 stopped by the user.
"""

from __future__ import annotations

import os
import re
import runpy
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import gatewise
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
    UnsupportedModel,
)

if TYPE_CHECKING:
    from gatewise.drift import Drift, DriftReference
    from gatewise.predictor import Predictor
    from gatewise.store import ModelVersion, Store
    from service.settings import ServiceSettings
    from training.dataset import Dataset
    from training.readers import ReadOptions

# Beyond a request's own time, for a worker to end.
_DRAIN_SECONDS = 5
_EXIT_CODES: dict[type[GatewiseError], int] = {
    InvalidConfig: 2,
    InvalidData: 3,
    InvalidSequence: 3,
    ArtifactError: 4,
    ModelNotFound: 4,
    ModelConflict: 4,
    UnsupportedModel: 4,
    MissingDependency: 5,
}
# Flags of `train` that are settings of the same name.
_SETTING_FLAGS = (
    *("preset", "seed", "seeds", "epochs", "batch_size", "precision", "wide"),
    *("search", "max_latency_ms", "max_size_mb", "needs_streaming"),
    *("target_precision", "coverage", "folds", "examples"),
)
# What the packages of an extra are imported as, to name the extra where one of them is not there.
_EXTRAS = {
    *("torch", "pytorch_lightning", "h5py", "onnx", "optuna", "pyarrow", "scipy", "tensorboard"),
    *("service", "training"),
}

F = TypeVar("F", bound=Callable[..., Any])


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
            click.echo("stopped; a training job goes on with the same command and --resume", err=True)
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


def _reading_options(command: F) -> F:
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


def _read_options(flags: dict[str, Any]) -> ReadOptions:
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
        flag = "--" + str(first["loc"][0] if first["loc"] else "group-by").replace("_", "-")
        raise InvalidConfig(f"{flag}: {first['msg'].removeprefix('Value error, ')}") from None


@main.command()
@click.argument("data")
@click.option("--valid", metavar="FILE", help="Validation file; taken from DATA if not given.")
@click.option("--test", metavar="FILE", help="Test file; taken from DATA if neither it nor --valid is given.")
@click.option(
    "--embeddings", metavar="FILE", help="Word vectors: GloVe or fastText text, plain or .gz, or safetensors."
)
@click.option("--unlabelled", metavar="FILE", help="Sequences like DATA's, without labels, to pretrain on.")
@_reading_options
@click.option("--cells", metavar="lstm,gru", help="Candidates, in this order.")
@click.option(
    "--preset", type=click.Choice(["default", "documented"]), help="Where settings that you leave open start."
)
@click.option("--config", "config_file", metavar="F.toml", help="Settings, as a flat TOML file; flags win.")
@click.option("--set", "assignments", multiple=True, metavar="NAME=VALUE", help="One setting; may be given again.")
@click.option("--name", help="The model's name; from DATA if not given.")
@click.option("--seed", type=int, help="Of the split, the weights, the order and dropout.")
@click.option("--epochs", type=int, help="Passes over the train split.")
@click.option("--batch-size", type=int, help="Sequences in a batch.")
@click.option("--precision", type=click.Choice(["32-true", "bf16-mixed", "16-mixed"]), help="Of the arithmetic.")
@click.option(
    "--wide", type=click.Choice(["auto", "on", "off"]), help="A linear branch over a text's n-grams beside the network."
)
@click.option(
    "--target-precision",
    type=float,
    metavar="P",
    help="Mark answers as abstained, so that a share P of the others is right.",
)
@click.option(
    "--coverage",
    type=float,
    metavar="P",
    help="Share of the label sets that shall hold the true label; 0.9 if not given.",
)
@click.option(
    "--folds", type=int, metavar="K", help="Train the chosen cell K times more, to find labels that may be wrong."
)
@click.option(
    "--no-examples", "examples", flag_value=False, default=None, help="Keep sequences of the data out of the report."
)
@click.option("--seeds", type=int, help="Trainings of each candidate, with one seed after the other.")
@click.option("--sizes", metavar="64,128", help="Hidden sizes, each a candidate with each cell.")
@click.option("--search", type=int, metavar="N", help="Trials of the settings that matter, first; half of --max-time.")
@click.option("--max-latency-ms", type=float, help="Budget: of one long sequence alone.")
@click.option("--max-size-mb", type=float, help="Budget: of the artifact.")
@click.option("--needs-streaming", is_flag=True, default=None, help="The model must answer a sequence as it comes.")
@click.option("--max-time", metavar="10m", help="Stop training after this time with the best so far (90s, 10m, 2h).")
@click.option("--resume", is_flag=True, help="Go on with a killed job of the same data and settings.")
@click.option("--run-dir", default="runs", show_default=True, help="Where jobs keep their folders.")
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard logs into the run's folder.")
@click.option("--mlflow", metavar="URL", help="Tell an MLflow server of settings, epochs and figures.")
@click.option("--accelerator", default="auto", help="As Lightning: auto, cpu, gpu ...")
@click.option("--devices", default="auto", help="As Lightning: auto, a number, or 0,1.")
@click.option("--strategy", default="auto", help="As Lightning: auto, ddp ...")
@click.option("--num-nodes", type=click.IntRange(min=1), default=1, help="As Lightning.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="CPU threads of torch.")
def train(data: str, **flags: Any) -> None:
    """Train an LSTM and a GRU on DATA, choose one by what it measures, and register it.

    DATA is a file (CSV, TSV, JSONL, Parquet, .ts, .npz; plain or .gz), or a folder with train, valid and test files.
    """
    from gatewise.artifact import read_manifest
    from training.fitting import Devices
    from training.job import run
    from training.plan import JobOptions

    console = Console(stderr=True)
    result = run(
        JobOptions(
            data=data,
            valid=flags["valid"],
            test=flags["test"],
            embeddings=flags["embeddings"],
            unlabelled=flags["unlabelled"],
            name=flags["name"],
            reading=_read_options(flags),
            settings=_settings(flags),
            devices=Devices(
                accelerator=flags["accelerator"],
                devices=flags["devices"],
                strategy=flags["strategy"],
                num_nodes=flags["num_nodes"],
                threads=flags["threads"],
            ),
            run_dir=Path(flags["run_dir"]),
            resume=flags["resume"],
            max_seconds=_seconds(flags["max_time"]),
            tensorboard=flags["tensorboard"],
            mlflow=flags["mlflow"],
        ),
        say=click.echo,
        console=console if console.is_terminal else None,
    )
    _print_comparison(read_manifest(result.artifact).training["comparison"])
    reference = f"{result.name}:{result.version}"
    click.echo(f"Saved {reference} in {result.artifact}")
    click.echo(f"Report:  gatewise report {reference} --open")
    if flags["tensorboard"]:
        click.echo(f"Curves:  tensorboard --logdir {flags['run_dir']}/{result.name}")
    click.echo(f"Next:    gatewise serve {result.name}      or: gatewise models promote {reference}")


def train_main() -> None:
    """`python -m training`: the train command alone."""
    main(["train", *sys.argv[1:]], prog_name="python -m training")


def _settings(flags: dict[str, Any]) -> dict[str, Any]:
    from training.config import check_settings, read_toml

    settings: dict[str, Any] = read_toml(flags["config_file"]) if flags["config_file"] else {}
    for assignment in flags["assignments"]:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise InvalidConfig(f"--set: {assignment!r} is not NAME=VALUE")
        settings |= check_settings({name.strip(): _value(value.strip())}, "--set")
    given = {name: flags[name] for name in _SETTING_FLAGS if flags[name] is not None}
    if flags["sizes"]:
        given["sizes"] = tuple(part.strip() for part in flags["sizes"].split(","))
    if flags["cells"]:
        given["cells"] = tuple(part.strip().lower() for part in flags["cells"].split(","))
    return settings | check_settings(given, "flags")


def _value(text: str) -> Any:
    """A setting's value from the command line: a TOML value, or a word or words that need no quotes there."""
    import tomllib

    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return tuple(part.strip() for part in text.split(",")) if "," in text else text


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if not match or float(match[1]) <= 0:
        raise InvalidConfig(f"--max-time: {text!r} is not a time; say 90s, 10m or 2h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


@main.command()
@click.argument("model")
@click.argument("data")
@_reading_options
@click.option("--engine", type=click.Choice(["auto", "onnx", "torch"]), default="auto", help="What runs the network.")
@click.option("--device", help="As torch names it; the CPU if not given.")
@click.option("--json", "json_file", metavar="F", help="Write the figures to this file too.")
def evaluate(model: str, data: str, engine: Any, device: str | None, json_file: str | None, **flags: Any) -> None:
    """Score MODEL on the labelled file DATA: accuracy, macro_f1, log_loss; span_f1 where the tags are BIO."""
    from training.evaluation import score

    _check_json(json_file)
    predictor = gatewise.load(model, engine=engine, device=device)
    started = time.perf_counter()
    with _row_progress("scoring") as progress:
        scores = score(predictor, _stream_as_trained(predictor, data, flags, labelled=True), progress=progress)
    for name, value in scores.metrics.items():
        click.echo(f"{name:<10} {value:.4f}")
    for label, count in list(scores.unseen.items())[:5]:
        click.echo(f"note: {count} labels are {label!r}, which training never saw; they count as wrong")
    if len(scores.unseen) > 5:
        click.echo(
            f"note: and {len(scores.unseen) - 5} more labels that training never saw; is --label the right column?"
        )
    seconds = time.perf_counter() - started
    click.echo(f"{scores.rows} rows in {seconds:.1f} s by {_reference(predictor)} ({_engine(predictor)})")
    if json_file:
        figures = {
            **scores.metrics,
            "rows": scores.rows,
            "model": predictor.manifest.name,
            "version": predictor.version,
        }
        Path(json_file).write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    click.echo(f"Next:    gatewise serve {model}")


@main.command()
@click.argument("models", metavar="MODEL MODEL [...]", nargs=-1, required=True)
@click.argument("data")
@_reading_options
@click.option("--max-latency-ms", type=float, help="Budget: of one long sequence alone.")
@click.option("--max-size-mb", type=float, help="Budget: of the artifact.")
@click.option("--needs-streaming", is_flag=True, help="The model must answer a sequence as it comes.")
@click.option("--json", "json_file", metavar="F", help="Write all figures to this file too.")
def compare(
    models: tuple[str, ...],
    data: str,
    max_latency_ms: float | None,
    max_size_mb: float | None,
    needs_streaming: bool,
    json_file: str | None,
    **flags: Any,
) -> None:
    """Compare two or more MODELs on the labelled file DATA, and say which to take and why."""
    from gatewise.store import resolve
    from training.compare import Budgets
    from training.dataset import join
    from training.dependency import measure_dependency
    from training.finished import Finished, compare_finished

    _check_json(json_file)
    budgets = Budgets(max_latency_ms, max_size_mb, needs_streaming)
    finished = [Finished(model, resolve(model)[0], gatewise.load(model)) for model in models]
    rows = join(list(_stream_as_trained(finished[0].predictor, data, flags, labelled=True)))
    found = compare_finished(finished, rows, budgets, say=click.echo)
    chosen = finished[models.index(found.decision.name)].predictor
    window = chosen.manifest.training.get("config", {}).get("window", 512)
    account = found.account(measure_dependency(chosen, rows, window))
    _print_comparison(account)
    for line in [*account["sentences"], account["hint"]]:
        click.echo(line)
    if json_file:
        Path(json_file).write_bytes(orjson.dumps(account, option=orjson.OPT_INDENT_2))
    click.echo(f"Next:    gatewise serve {found.decision.name}")


def _print_comparison(account: dict[str, Any]) -> None:
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
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    for test in account["tests"]:
        interval = "" if test["low"] is None else f" ({test['low']:+.4f} to {test['high']:+.4f})"
        first, second = test["of"]
        click.echo(f"{first} - {second}: {test['metric']} {test['difference']:+.4f}{interval}, p {test['p_value']:.3f}")


def _with_interval(figure: dict[str, float | None]) -> str:
    value, low, high = figure["value"], figure["low"], figure["high"]
    return f"{value:.4f}" if low is None or high is None else f"{value:.4f} ({low:.3f}-{high:.3f})"


@main.command()
@click.argument("model")
@click.argument("data")
@click.option(
    "--output",
    "-o",
    metavar="F",
    help="Where to: .parquet, .csv, .tsv or .jsonl; JSON lines to the screen if not given.",
)
@_reading_options
@click.option("--engine", type=click.Choice(["auto", "onnx", "torch"]), default="auto", help="What runs the network.")
@click.option("--device", help="As torch names it; the CPU if not given.")
@click.option("--label-set", is_flag=True, help="Each prediction with the labels that hold the true one.")
def predict(
    model: str, data: str, output: str | None, engine: Any, device: str | None, label_set: bool, **flags: Any
) -> None:
    """Predict every sequence of the file DATA, labelled or not; nothing is written to --output unless all can be.

    Each prediction's `row` is where its sequence stands: the line of a text file (a header is line 1), else the record.
    """
    from training.scoring import predict_pieces, write_predictions

    predictor = gatewise.load(model, engine=engine, device=device)
    if label_set and predictor.manifest.label_sets is None:
        raise InvalidConfig("--label-set: this model was made without label sets; train it again")
    pieces = _stream_as_trained(predictor, data, flags, labelled=False)
    started = time.perf_counter()
    with _row_progress("predicting") as progress:
        answers = predict_pieces(predictor, pieces, progress, label_set=label_set)
        rows = write_predictions(answers, predictor, output, label_set=label_set)
    if output:
        click.echo(f"{rows} rows in {time.perf_counter() - started:.1f} s by {_reference(predictor)} -> {output}")
        click.echo(f"Next:    gatewise evaluate {model} LABELLED_FILE")


def _stream_as_trained(predictor: Predictor, data: str, flags: dict[str, Any], *, labelled: bool) -> Iterator[Dataset]:
    """Read as the train file was read, but for what the flags say."""
    from training.readers import stream

    given = _read_options(flags)
    trained = predictor.manifest.training.get("reading", {})
    merged = {**trained, **{name: value for name, value in given if value is not None}}
    merged |= {"kind": predictor.manifest.kind, "task": predictor.manifest.task}
    if merged.get("group_by") or merged.get("order_by") or merged.get("channels"):
        merged["channels"] = merged.get("channels") or predictor.manifest.channels
    columns = predictor.manifest.training.get("columns")
    return stream(data, type(given).model_validate(merged), labelled=labelled, like=columns)


@main.command()
@click.argument("model")
@click.argument("data", required=False)
@click.option("--url", metavar="URL", help="Of a service that serves MODEL: its last sequences, instead of DATA.")
@_reading_options
@click.option("--json", "json_file", metavar="F", help="Write the figures to this file too.")
def drift(model: str, data: str | None, url: str | None, json_file: str | None, **flags: Any) -> None:
    """Explain how far the sequences of the file DATA, or of a running service, are from those that MODEL was made on.

    The index of each measure is the population stability index (PSI): above 0.1, and above what chance gives, it has
    moved; above 0.25 much. Nothing is ever retrained by this.
    """
    from gatewise.drift_table import drift_table, fetch, worst

    _check_json(json_file)
    if (data is None) == (url is None):
        raise InvalidConfig("DATA: give either a file of recent sequences or --url of a service")
    predictor = gatewise.load(model)
    reference = predictor.drift_reference()
    if reference is None:
        raise ArtifactMissing(f"{model} was made without drift statistics; train it again: gatewise train")
    found = fetch(url, predictor) if url else _drift_of(predictor, reference, data or "", flags)
    if found.measures:
        table = drift_table(reference, found, predictor.manifest.labels)
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    click.echo(f"{found.state}: {found.sequences} sequences against {_reference(predictor)}")
    if json_file:
        fields = {**found.model_dump(), "model": predictor.manifest.name, "version": predictor.version}
        fields["reference"] = reference.model_dump()["histograms"]
        Path(json_file).write_bytes(orjson.dumps(fields, option=orjson.OPT_INDENT_2))
    if found.state == "major":
        source = predictor.manifest.data.get("source", "DATA")
        click.echo(f"{worst(found)} moved most; consider retraining: gatewise train {source} with recent rows")


def _drift_of(predictor: Predictor, reference: DriftReference, data: str, flags: dict[str, Any]) -> Drift:
    """Count every sequence of a file, a piece at a time."""
    from gatewise.drift import NOTHING_SEEN, Observer
    from training.answers import refused

    observer, sequences = Observer(predictor), 0
    counts: Any = 0.0
    with _row_progress("counting") as progress:
        for piece in _stream_as_trained(predictor, data, flags, labelled=False):
            observations = []
            for i, result in enumerate(predictor.run_each(piece.items)):
                if isinstance(result, InvalidSequence):
                    raise refused(piece, i, result)
                observations.append(observer.observe(*result))
            counts, sequences = counts + reference.count(observations), sequences + len(observations)
            progress(sequences)
    return reference.compare(counts, sequences) if sequences else NOTHING_SEEN


def _check_json(json_file: str | None) -> None:
    if json_file and not Path(json_file).parent.is_dir():
        raise InvalidConfig(f"--json: there is no folder {Path(json_file).parent}")


def _reference(predictor: Predictor) -> str:
    return f"{predictor.manifest.name}:{predictor.version}"


def _engine(predictor: Predictor) -> str:
    return f"{predictor.engine_name} on {predictor.engine.device}"


@contextmanager
def _row_progress(action: str) -> Iterator[Callable[[int], None]]:
    """A count of rows on a terminal; nothing elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda rows: None
        return
    columns = (SpinnerColumn(), TextColumn(action), MofNCompleteColumn(), TextColumn("rows"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(action, total=None)
        yield lambda rows: progress.update(task, completed=rows)


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
    """List versions, newest first."""
    from gatewise.store import Store

    versions = Store().list(name)
    if not versions:
        raise ModelNotFound(f"no model {name!r} in the store" if name else "the store is empty; gatewise train DATA")
    table = Table("model", "version", "cell", "kind", "task", "test", "size", "created", "")
    for version in versions:
        table.add_row(
            version.name,
            version.version,
            version.cell,
            version.kind,
            version.task,
            _headline(version.metrics),
            f"{version.size_bytes / 1e6:.1f} MB",
            f"{version.created_at:%Y-%m-%d %H:%M}",
            "production" if version.is_production else "",
        )
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _headline(metrics: dict[str, Any]) -> str:
    figures = metrics.get("test") or metrics.get("valid") or {}
    name = next((name for name in ("span_f1", "accuracy") if name in figures), None)
    return f"{name} {figures[name]:.4f}" if name else "-"


@models.command()
@click.argument("model")
def show(model: str) -> None:
    """Show a model's manifest and the moves of its production pointer."""
    from gatewise.artifact import verify
    from gatewise.store import Store, resolve

    path, version = resolve(model)
    manifest = verify(path)
    fields = manifest.model_dump(mode="json", exclude={"files"})
    if version:
        fields = {"version": version, "path": str(path), **fields}
        fields["production_history"] = [
            move.model_dump(mode="json") for move in Store().history(model.partition(":")[0])
        ]
    click.echo(orjson.dumps(fields, option=orjson.OPT_INDENT_2).decode())


@models.command()
@click.argument("model")
def promote(model: str) -> None:
    """Make a version production."""
    from gatewise.store import Store

    version = Store().promote(model)
    state = "is production now" if version.changed else "was production already; nothing changed"
    click.echo(f"{version.reference} {state}")
    click.echo(f"Next:    gatewise serve {version.name}:production      or: gatewise models rollback {version.name}")


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
    from training.tour import run_demo

    run_demo(data, port=port, exits=exits, say=click.echo)


if __name__ == "__main__":
    main()
