"""`gatewise evaluate`, `compare` and `predict`: models on a file."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import orjson

import gatewise
from gatewise.commands.reading import reading_options, stream_as_trained
from gatewise.commands.showing import check_json, engine_of, print_comparison, reference_of, row_progress
from gatewise.errors import InvalidConfig


@click.command()
@click.argument("model")
@click.argument("data")
@reading_options
@click.option("--engine", type=click.Choice(["auto", "onnx", "torch"]), default="auto", help="What runs the network.")
@click.option("--device", help="As torch names it; the CPU if not given.")
@click.option("--json", "json_file", metavar="F", help="Write the figures to this file too.")
def evaluate(model: str, data: str, engine: Any, device: str | None, json_file: str | None, **flags: Any) -> None:
    """Score MODEL on the labelled file DATA: accuracy, macro_f1, log_loss; span_f1 where the tags are BIO."""
    check_json(json_file)
    with row_progress("scoring") as progress:
        from training.evaluation import score

        predictor = gatewise.load(model, engine=engine, device=device)
        started = time.perf_counter()
        scores = score(predictor, stream_as_trained(predictor, data, flags, labelled=True), progress=progress)
    for name, value in scores.metrics.items():
        click.echo(f"{name:<10} {value:.4f}")
    for label, count in list(scores.unseen.items())[:5]:
        click.echo(f"note: {count} labels are {label!r}, which training never saw; they count as wrong")
    if len(scores.unseen) > 5:
        click.echo(
            f"note: and {len(scores.unseen) - 5} more labels that training never saw; is --label the right column?"
        )
    seconds = time.perf_counter() - started
    click.echo(f"{scores.rows} rows in {seconds:.1f} s by {reference_of(predictor)} ({engine_of(predictor)})")
    if json_file:
        figures = {
            **scores.metrics,
            "rows": scores.rows,
            "model": predictor.manifest.name,
            "version": predictor.version,
        }
        Path(json_file).write_bytes(orjson.dumps(figures, option=orjson.OPT_INDENT_2))
    click.echo(f"Next:    gatewise serve {model}")


@click.command()
@click.argument("models", metavar="MODEL MODEL [...]", nargs=-1, required=True)
@click.argument("data")
@reading_options
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
    click.echo(f"Loading {', '.join(models)}")
    from gatewise.store import resolve
    from training.compare import Budgets
    from training.dataset import join
    from training.dependency import measure_dependency
    from training.finished import Finished, compare_finished

    check_json(json_file)
    budgets = Budgets(max_latency_ms, max_size_mb, needs_streaming)
    finished = [Finished(model, resolve(model)[0], gatewise.load(model)) for model in models]
    rows = join(list(stream_as_trained(finished[0].predictor, data, flags, labelled=True)))
    found = compare_finished(finished, rows, budgets, say=click.echo)
    chosen = finished[models.index(found.decision.name)].predictor
    window = chosen.manifest.training.get("config", {}).get("window", 512)
    account = found.account(measure_dependency(chosen, rows, window))
    print_comparison(account)
    for line in [*account["sentences"], account["hint"]]:
        click.echo(line)
    if json_file:
        Path(json_file).write_bytes(orjson.dumps(account, option=orjson.OPT_INDENT_2))
    click.echo(f"Next:    gatewise serve {found.decision.name}")


@click.command()
@click.argument("model")
@click.argument("data")
@click.option(
    "--output",
    "-o",
    metavar="F",
    help="Where to: .parquet, .csv, .tsv or .jsonl; JSON lines to the screen if not given.",
)
@reading_options
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
    pieces = stream_as_trained(predictor, data, flags, labelled=False)
    started = time.perf_counter()
    with row_progress("predicting") as progress:
        answers = predict_pieces(predictor, pieces, progress, label_set=label_set)
        rows = write_predictions(answers, predictor, output, label_set=label_set)
    if output:
        click.echo(f"{rows} rows in {time.perf_counter() - started:.1f} s by {reference_of(predictor)} -> {output}")
        click.echo(f"Next:    gatewise evaluate {model} LABELLED_FILE")
