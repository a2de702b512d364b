"""`gatewise train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from gatewise.commands.reading import read_options, reading_options
from gatewise.commands.settings import seconds_of, settings_of
from gatewise.commands.showing import print_comparison, say_loading


@click.command()
@click.argument("data")
@click.option("--valid", metavar="FILE", help="Validation file; taken from DATA if not given.")
@click.option("--test", metavar="FILE", help="Test file; taken from DATA if neither it nor --valid is given.")
@click.option(
    "--embeddings", metavar="FILE", help="Word vectors: GloVe or fastText text, plain or .gz, or safetensors."
)
@click.option("--unlabelled", metavar="FILE", help="Sequences like DATA's, without labels, to pretrain on.")
@reading_options
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
    "--wide",
    type=click.Choice(["auto", "on", "off"]),
    help="A linear branch beside the network, over a text's n-grams or a series' short patterns.",
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
    say_loading(f"train on {data}")
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
            reading=read_options(flags),
            settings=settings_of(flags),
            devices=Devices(
                accelerator=flags["accelerator"],
                devices=flags["devices"],
                strategy=flags["strategy"],
                num_nodes=flags["num_nodes"],
                threads=flags["threads"],
            ),
            run_dir=Path(flags["run_dir"]),
            resume=flags["resume"],
            max_seconds=seconds_of(flags["max_time"]),
            tensorboard=flags["tensorboard"],
            mlflow=flags["mlflow"],
        ),
        say=click.echo,
        console=console if console.is_terminal else None,
    )
    print_comparison(read_manifest(result.artifact).training["comparison"])
    reference = f"{result.name}:{result.version}"
    click.echo(f"Saved {reference} in {result.artifact}")
    click.echo(f"Report:  gatewise report {reference} --open")
    if flags["tensorboard"]:
        click.echo(f"Curves:  tensorboard --logdir {flags['run_dir']}/{result.name}")
    click.echo(f"Next:    gatewise serve {result.name}      or: gatewise models promote {reference}")
