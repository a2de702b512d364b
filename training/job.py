"""A labelled file to a registered model: read -> resolve -> fit each cell -> measure -> choose -> register.

Each step leaves what it made in the run's folder before the next begins, so a killed job goes on from there.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.utilities.rank_zero import rank_zero_only
from rich.console import Console

from gatewise import artifact
from gatewise.architecture import Cell, ModelConfig
from gatewise.durable import replace_text
from gatewise.predictor import Predictor
from gatewise.store import ModelVersion, Store, check_name
from gatewise.text import TextEncoder
from training.callbacks import Say
from training.compare import Decision, Measured, choose, measure_candidate
from training.config import TrainingConfig
from training.data import EncodedDataset
from training.embedding import Forms
from training.evaluation import score
from training.fitting import Candidate, Devices, fit
from training.packaging import Packer
from training.preparing import (
    Encoder,
    check_valid,
    cut,
    encode,
    encode_items,
    fingerprint,
    fit_encoder,
    label_order,
    make_forms,
    model_config,
)
from training.pretraining import Pretrained, pretrain, pretraining_of
from training.prior import check_prior, with_pretraining, with_vectors
from training.readers import ReadOptions
from training.recipe import Choice, resolve
from training.runs import Run, folder_of, open_run
from training.splits import Splits, read_splits
from training.statistics import measure
from training.unlabelled import Unlabelled, pretraining_rows, read_unlabelled
from training.vectors import open_vectors
from training.word_vectors import WordVectors, add_vectors

_PRETRAINING = "pretraining"


@dataclass(frozen=True)
class JobOptions:
    """What a job is asked to do.

    Attributes:
        embeddings: a file of word vectors, for texts.
        unlabelled: a file of sequences to pretrain on.
        settings: the user's own settings, checked by `config.check_settings`.
        run_dir: where jobs keep their folders.
        max_seconds: of training, shared by the cells.
    """

    data: str
    valid: str | None = None
    test: str | None = None
    embeddings: str | None = None
    unlabelled: str | None = None
    name: str | None = None
    reading: ReadOptions = field(default_factory=ReadOptions)
    settings: dict[str, Any] = field(default_factory=dict)
    devices: Devices = field(default_factory=Devices)
    run_dir: Path = Path("runs")
    resume: bool = False
    max_seconds: float | None = None
    tensorboard: bool = False


@dataclass(frozen=True)
class JobResult:
    """What a job made.

    Attributes:
        artifact: the folder of the registered version.
        metrics: by split, measured on the reloaded artifact.
        choice: the cell, and why.
        candidates: the figures of each cell.
    """

    name: str
    version: str
    artifact: Path
    metrics: dict[str, dict[str, float]]
    choice: Decision
    candidates: dict[Cell, dict[str, float]]


@dataclass(frozen=True)
class Prepared:
    """The data of a job, ready for a network."""

    name: str
    splits: Splits
    config: TrainingConfig
    choices: list[Choice]
    labels: tuple[str, ...]
    encoder: Encoder
    forms: Forms | None
    train: EncodedDataset
    valid: EncodedDataset
    vectors: WordVectors | None
    unlabelled: Unlabelled | None
    fingerprint: str


def run(options: JobOptions, *, say: Say = print, console: Console | None = None) -> JobResult:
    """Do the job. With several devices each process runs it; all but the first end after the training.

    Args:
        console: a terminal to draw progress bars on.
    Raises:
        InvalidData: the data cannot be read as labelled sequences, with file, row and mend.
        InvalidConfig: a setting does not fit, with its name.
        ModelConflict: another process trains the same.
    """
    is_first = rank_zero_only.rank == 0
    if not is_first:
        say, console = _silent, None
    prepared = _prepare(options, say)
    folder = folder_of(options.run_dir, prepared.name, prepared.fingerprint)
    if not is_first:
        _fit_all(options, prepared, folder, say, console)
        raise SystemExit(0)
    with open_run(folder, resume=options.resume) as job:
        if job.note:
            say(job.note)
        # A version that was deleted since is registered again, from what the folder still holds.
        if job.result and Path(job.result["artifact"]).is_dir():
            say(f"This job has finished before: {prepared.name}:{job.result['version']}")
            return _restored(prepared.name, job.result)
        candidates = _fit_all(options, prepared, folder, say, console)
        result = _finish(options, prepared, job, candidates, say)
        job.finish({**asdict(result), "artifact": str(result.artifact)})
    return result


def default_name(data: str) -> str:
    """A model's name from the file or folder that it is trained on."""
    stem = Path(data).resolve().name.split(".")[0].lower()
    if stem in ("train", "training"):
        stem = Path(data).resolve().parent.name.lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-") or "model"


def _prepare(options: JobOptions, say: Say) -> Prepared:
    name = options.name or default_name(options.data)
    check_name(name)
    say(f"Reading {options.data}")
    seed = int(options.settings.get("seed", 0))
    dim = open_vectors(options.embeddings).dim if options.embeddings else 0
    splits = read_splits(options.data, valid=options.valid, test=options.test, options=options.reading, seed=seed)
    labels = label_order(splits.train)
    check_valid(splits.valid, labels)
    rows = ", ".join(f"{len(part)} {name}" for name, part in _parts(splits))
    say(f"  {splits.train.kind}, one label for each {splits.train.task}: {rows} rows, {len(labels)} classes")
    say(f"  {_columns_in_words(splits)}")
    given = {"has_vectors": dim > 0, "has_unlabelled": options.unlabelled is not None}
    check_prior(splits.train.kind, options.settings, **given)
    unlabelled = read_unlabelled(options.unlabelled, splits, options.reading) if options.unlabelled else None
    for note in [*splits.notes, *(unlabelled.notes if unlabelled else ())]:
        say(f"  {note}")
    config, choices = _recipe(options, splits, unlabelled, dim)
    say("Recipe")
    for choice in choices:
        say(f"  {choice.name} = {_shown(choice.value)}  ({choice.reason})")
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


def _recipe(
    options: JobOptions, splits: Splits, unlabelled: Unlabelled | None, dim: int
) -> tuple[TrainingConfig, list[Choice]]:
    config, choices = resolve(measure(splits.train), options.settings)
    if dim:
        config, choices = with_vectors(config, choices, options.settings, dim)
    if unlabelled:
        rows = len(splits.train) + len(unlabelled.items())
        config, choices = with_pretraining(config, choices, options.settings, rows)
    return config, choices


def _fit_all(
    options: JobOptions, prepared: Prepared, folder: Path, say: Say, console: Console | None
) -> list[Candidate]:
    cells = prepared.config.cells
    deadline = time.monotonic() + options.max_seconds if options.max_seconds else None
    candidates = []
    for position, cell in enumerate(cells):
        say(f"Training {cell.upper()} ({position + 1} of {len(cells)})")
        left = max(deadline - time.monotonic(), 1.0) / (len(cells) - position) if deadline else None
        model = model_config(prepared.config, prepared.encoder, cell, len(prepared.labels), prepared.splits.train)
        begun = time.monotonic()
        start = _pretrain(options, prepared, model, folder / cell / _PRETRAINING, left, say, console)
        left = max(left - (time.monotonic() - begun), 1.0) if left else None
        candidate = fit(
            model,
            prepared.config,
            prepared.train,
            prepared.valid,
            prepared.labels,
            prepared.forms,
            folder / cell,
            say=say,
            resume=options.resume,
            devices=options.devices,
            max_seconds=left,
            tensorboard=options.tensorboard,
            console=console,
            start=start.weights if start else None,
        )
        if candidate.stopped_by != "epochs":
            say(f"  stopped by {candidate.stopped_by}; the weights of epoch {candidate.best_epoch} are kept")
        candidates.append(candidate)
    return candidates


def _pretrain(
    options: JobOptions,
    prepared: Prepared,
    model: ModelConfig,
    folder: Path,
    seconds: float | None,
    say: Say,
    console: Console | None,
) -> Pretrained | None:
    """Teach a cell without labels first, where there are sequences for it; at most half of its time goes to that."""
    if prepared.unlabelled is None or not prepared.config.pretrain_epochs:
        return None
    data, encoder = prepared.unlabelled.data, prepared.encoder
    more = encode_items(data, encoder, prepared.forms, grows=False) if data else []
    window = prepared.config.window if model.task == "step" else None
    rows, held_out = pretraining_rows(prepared.train, more, window, prepared.config.seed)
    return pretrain(
        model,
        prepared.config,
        rows,
        held_out,
        prepared.forms,
        None if isinstance(encoder, TextEncoder) else encoder.config,
        folder,
        say=say,
        resume=options.resume,
        devices=options.devices,
        max_seconds=seconds / 2 if seconds else None,
        console=console,
    )


def _finish(options: JobOptions, prepared: Prepared, job: Run, candidates: list[Candidate], say: Say) -> JobResult:
    """Measure the candidates as they will serve, choose one, and register it with all figures in its manifest."""
    measured = [_measure(options, prepared, job, candidate) for candidate in candidates]
    for figures in measured:
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.figures().items())
        say(f"{figures.cell.upper()}: {shown}")
    decision = choose(measured, prepared.config.monitor)
    say(f"Rule: {decision.rule}.")
    say(f"Chosen: {decision.cell.upper()}. {decision.reason}.")
    chosen = next(candidate for candidate in candidates if candidate.cell == decision.cell)
    source = _artifact_folder(job, chosen)
    scores = next(figures.scores for figures in measured if figures.cell == decision.cell)
    metrics = {"valid": scores.metrics, **_test_metrics(prepared.splits, source)}
    for split, figures_of_split in metrics.items():
        say(f"{split}: " + "  ".join(f"{name} {value:.4f}" for name, value in figures_of_split.items()))
    figures_by_cell = {figures.cell: figures.figures() for figures in measured}
    training = {
        "config": prepared.config.model_dump(mode="json"),
        "choices": [{"name": c.name, "value": _shown(c.value), "reason": c.reason} for c in prepared.choices],
        "reading": options.reading.model_dump(mode="json"),
        "columns": prepared.splits.columns,
        "candidates": figures_by_cell,
        "decision": asdict(decision),
        "pretraining": pretraining_of(job.folder / chosen.cell / _PRETRAINING),
        "epochs": chosen.epochs,
        "best_epoch": chosen.best_epoch,
        "stopped_by": chosen.stopped_by,
    }
    final = artifact.restate(source, job.folder / "artifact", metrics=metrics, training=training)
    version = _register(final, job.folder / "artifact", prepared.name)
    return JobResult(prepared.name, version.version, version.path, metrics, decision, figures_by_cell)


def _measure(options: JobOptions, prepared: Prepared, job: Run, candidate: Candidate) -> Measured:
    """Pack the candidate, load it, and measure it; the figures are kept, so that a resumed job decides by the same."""
    packer = Packer(
        prepared.name,
        job.started_at,
        prepared.labels,
        prepared.encoder,
        prepared.splits.valid,
        prepared.valid,
        _data_card(options, prepared),
    )
    folder = packer.pack(_artifact_folder(job, candidate), candidate.model, candidate.weights)
    kept = job.folder / candidate.cell / "latency.json"
    latency = json.loads(kept.read_text()) if kept.exists() else None
    measured = measure_candidate(candidate, Predictor.load(folder), prepared.splits.valid, latency_ms=latency)
    replace_text(kept, json.dumps(measured.latency_ms))
    return measured


def _artifact_folder(job: Run, candidate: Candidate) -> Path:
    return job.folder / candidate.cell / "artifact"


def _test_metrics(splits: Splits, folder: Path) -> dict[str, dict[str, float]]:
    """The test scores of the reloaded artifact; once more without the rows that also stand in train."""
    if splits.test is None:
        return {}
    predictor = Predictor.load(folder)
    metrics = {"test": score(predictor, [splits.test]).metrics}
    assert splits.test_in_train is not None
    fresh = np.flatnonzero(~splits.test_in_train)
    if 0 < len(fresh) < len(splits.test):
        metrics["test_without_duplicates"] = score(predictor, [splits.test.take(fresh)]).metrics
    return metrics


def _register(manifest: artifact.Manifest, folder: Path, name: str) -> ModelVersion:
    """Add the artifact to the store, or find it there: a job may have been killed just after it had added it."""
    store = Store()
    for version in store.list(name):
        if artifact.read_manifest(version.path).digest == manifest.digest:
            return version
    return store.add(folder, name)


def _restored(name: str, result: dict[str, Any]) -> JobResult:
    fields = {**result, "artifact": Path(result["artifact"]), "choice": Decision(**result["choice"])}
    return JobResult(**fields)


def _data_card(options: JobOptions, prepared: Prepared) -> dict[str, Any]:
    """The manifest's account of the data. Files by name alone: the service shows it, and folders are private."""
    splits = prepared.splits
    sources = [part.source for _, part in _parts(splits)] + [options.embeddings or "", options.unlabelled or ""]
    folders = {str(Path(source).parent) for source in sources} - {"."}
    notes = splits.notes
    card: dict[str, Any] = {}
    if prepared.unlabelled:
        notes = [*notes, *prepared.unlabelled.notes]
        card["unlabelled"] = prepared.unlabelled.card
    if prepared.vectors:
        notes = [*notes, *prepared.vectors.notes(prepared.train, prepared.valid)]
        card["embeddings"] = prepared.vectors.card(prepared.train, prepared.valid)
    for folder in folders:
        notes = [note.replace(f"{folder}/", "") for note in notes]
    return {
        "source": Path(splits.train.source).name,
        "rows": {name: len(part) for name, part in _parts(splits)},
        "fingerprint": prepared.fingerprint,
        "notes": notes,
        **card,
    }


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


def _parts(splits: Splits) -> list[tuple[str, Any]]:
    parts = [("train", splits.train), ("valid", splits.valid), ("test", splits.test)]
    return [(name, part) for name, part in parts if part is not None]


def _shown(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else str(value)


def _silent(line: str) -> None:
    """Say nothing: another process speaks."""
