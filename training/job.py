"""A labelled file to a registered model: read -> resolve -> fit each cell -> measure -> choose -> register.

Each step leaves what it made in the run's folder before the next begins, so a killed job goes on from there.
"""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only
from rich.console import Console

from gatewise import artifact
from gatewise.store import check_name
from gatewise.text import TextEncoder
from training.callbacks import Say
from training.compare import Decision, rule_in_words
from training.comparison import budgets_of
from training.config import TrainingConfig
from training.contenders import Found, contenders
from training.finishing import Finishing
from training.learning import Learning
from training.origin import Origin, Source
from training.plan import JobOptions, JobResult, Prepared, shown
from training.preparing import check_valid, cut, encode, fingerprint, fit_encoder, label_order, make_forms
from training.prior import check_prior, with_pretraining, with_vectors
from training.recipe import Choice, follow, resolve
from training.runs import folder_of, open_run
from training.splits import Splits, read_splits
from training.statistics import measure
from training.tracking import Tracker
from training.unlabelled import Unlabelled, read_unlabelled
from training.vectors import open_vectors
from training.word_vectors import add_vectors

_FEW_ROWS = 30
_FEW_OF_A_CLASS = 8


def run(
    options: JobOptions, *, splits: Splits | None = None, say: Say = print, console: Console | None = None
) -> JobResult:
    """Do the job. With several devices each process runs it; all but the first end after the training.

    Args:
        splits: the rows, where they are not those that the files of the options hold.
        console: a terminal to draw progress bars on.
    Raises:
        InvalidData: the data cannot be read as labelled sequences, with file, row and mend.
        InvalidConfig: a setting does not fit, with its name.
        ModelConflict: another process trains the same.
    """
    is_first = rank_zero_only.rank == 0
    if not is_first:
        say, console = _silent, None
    origin = options.origin or _origin(options)
    prepared = _prepare(options, splits, say)
    folder = folder_of(options.run_dir, prepared.name, prepared.fingerprint)
    learning = Learning(options, prepared, folder, say, console)
    deadline = time.monotonic() + options.max_seconds if options.max_seconds else None
    config = prepared.config
    if not is_first:
        learning.fit_all(contenders(config, _found(learning)), deadline)
        raise SystemExit(0)
    tracker = Tracker.open(options.mlflow, prepared.name) if options.mlflow else None
    with open_run(folder, resume=options.resume) as job:
        if job.note:
            say(job.note)
        # A version that was deleted since is registered again, from what the folder still holds.
        if (
            job.result
            and Path(job.result["artifact"]).is_dir()
            and job.result.get("budgets") == asdict(budgets_of(config))
        ):
            say(f"This job has finished before: {prepared.name}:{job.result['version']}")
            return _restored(prepared.name, job.result)
        found = _search(learning, deadline)
        field = contenders(config, found)
        result = Finishing(learning, job, deadline, found).finish(field, learning.fit_all(field, deadline))
        if tracker:
            tracker.log(artifact.read_manifest(result.artifact), {one.name: one.config for one in field}, say)
        origin.note(result.name, result.version)
        job.finish({**asdict(result), "artifact": str(result.artifact), "budgets": asdict(budgets_of(config))})
    return result


def default_name(data: str) -> str:
    """A model's name from the file or folder that it is trained on."""
    stem = Path(data).resolve().name.split(".")[0].lower()
    if stem in ("train", "training"):
        stem = Path(data).resolve().parent.name.lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "model"


def _origin(options: JobOptions) -> Origin:
    source = Source.of(options.data, options.valid, options.test, options.reading, _seed(options))
    return Origin.of(source, options.embeddings, options.unlabelled)


def _seed(options: JobOptions) -> int:
    return int(options.settings.get("seed", 0))


def _prepare(options: JobOptions, splits: Splits | None, say: Say) -> Prepared:
    name = options.name or default_name(options.data)
    check_name(name)
    dim = open_vectors(options.embeddings).dim if options.embeddings else 0
    if splits is None:
        say(f"Reading {options.data}")
        splits = read_splits(
            options.data, valid=options.valid, test=options.test, options=options.reading, seed=_seed(options)
        )
    labels = label_order(splits.train)
    check_valid(splits.valid, labels)
    rows = ", ".join(f"{len(part)} {name}" for name, part in splits.parts().items())
    say(f"  {splits.train.kind}, one label for each {splits.train.task}: {rows} rows, {len(labels)} classes")
    say(f"  {_columns_in_words(splits)}")
    for warning in _scarcity(splits, len(labels)):
        say(f"  {warning}")
    given = {"has_vectors": dim > 0, "has_unlabelled": options.unlabelled is not None}
    check_prior(splits.train.kind, options.settings, **given)
    unlabelled = read_unlabelled(options.unlabelled, splits, options.reading) if options.unlabelled else None
    for note in [*splits.notes, *(unlabelled.notes if unlabelled else ())]:
        say(f"  {note}")
    config, choices = _recipe(options, splits, unlabelled, dim)
    say("Recipe")
    for choice in choices:
        say(f"  {choice.name} = {shown(choice.value)}  ({choice.reason})")
    rule = rule_in_words(config.monitor, budgets_of(config), seeds=config.seeds)
    say(f"Rule: {rule}.")
    more = unlabelled.items() if unlabelled else []
    encoder, vectors = fit_encoder(splits.train, config, more), None
    if options.embeddings and isinstance(encoder, TextEncoder):
        say(f"Reading {options.embeddings}")
        encoder, vectors = add_vectors(encoder, splits.train, options.embeddings, config)
    pretrained = vectors.pretrained if vectors else None
    forms = make_forms(encoder, config, pretrained)
    train = cut(encode(splits.train, encoder, labels, forms), config.window)
    valid = encode(splits.valid, encoder, labels, forms)
    for note in vectors.notes(train, valid) if vectors else ():
        say(f"  {note}")
    return Prepared(
        name=name,
        splits=splits,
        config=config,
        choices=choices,
        labels=labels,
        encoder=encoder,
        forms=forms,
        train=train,
        valid=valid,
        vectors=vectors,
        unlabelled=unlabelled,
        fingerprint=fingerprint(config, splits, more, pretrained),
    )


def _scarcity(splits: Splits, num_classes: int) -> list[str]:
    """What to expect where rows are few; steps of long sequences are many though their rows be few."""
    if splits.train.task == "step":
        return []
    warnings = []
    if len(splits.valid) < _FEW_ROWS:
        warnings.append(f"A validation split of {len(splits.valid)} tells little: take its figures for a rough guess.")
    each = len(splits.train) / num_classes
    if each < _FEW_OF_A_CLASS:
        warnings.append(f"About {each:.1f} train rows for each class are few: label more, or put classes together.")
    return warnings


def _recipe(
    options: JobOptions, splits: Splits, unlabelled: Unlabelled | None, dim: int
) -> tuple[TrainingConfig, list[Choice]]:
    statistics = measure(splits.train, divided=splits.divided)
    if options.recipe:
        return follow(options.recipe, statistics, options.settings)
    config, choices = resolve(statistics, options.settings)
    if dim:
        config, choices = with_vectors(config, choices, options.settings, dim)
    if unlabelled:
        rows = len(splits.train) + len(unlabelled.items())
        config, choices = with_pretraining(config, choices, options.settings, rows)
    return config, choices


def _search(learning: Learning, deadline: float | None) -> Found | None:
    """Search the settings that the recipe leaves open, where that is asked for; at most half of the time goes to it."""
    if not learning.prepared.config.search:
        return None
    from training.search import search

    return search(learning, (deadline - time.monotonic()) / 2 if deadline else None)


def _found(learning: Learning) -> Found | None:
    """What the first process found before it started this one."""
    if not learning.prepared.config.search:
        return None
    from training.search import read_found

    return read_found(learning.folder)


def _restored(name: str, result: dict[str, Any]) -> JobResult:
    choice = Decision(**{**result["choice"], "sentences": tuple(result["choice"]["sentences"])})
    fields = {**result, "artifact": Path(result["artifact"]), "choice": choice}
    return JobResult(**{key: fields[key] for key in JobResult.__dataclass_fields__})


def _columns_in_words(splits: Splits) -> str:
    sequence, label = splits.columns["sequence"], splits.columns["label"]
    channels = splits.train.channels
    read = f"sequences from {sequence!r}" if sequence else "sequences"
    if channels and len(channels) > 1:
        shown = ", ".join(channels[:12]) + (f" and {len(channels) - 12} more" if len(channels) > 12 else "")
        read += f" with the {len(channels)} channels {shown}"
    elif channels and not sequence:
        read += f" with the channel {channels[0]}"
    return f"{read}, labels from {label!r}" if label else read


def _silent(line: str) -> None:
    """Say nothing: another process speaks."""
