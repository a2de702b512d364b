"""One candidate: a cell trained on the encoded splits, resumable at any epoch.

K classes.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from rich.console import Console
from safetensors.numpy import load_file, save_file

from gatewise.architecture import Cell, ModelConfig
from gatewise.durable import replace_text
from gatewise.errors import InvalidConfig
from training.augmentation import SeriesAugmentation
from training.callbacks import (
    AveragedWeights,
    BestWeights,
    CheckpointFile,
    EpochRecord,
    EpochSeed,
    Say,
    SpacedCheckpoint,
)
from training.config import TrainingConfig
from training.data import EncodedDataset, SequenceDataModule
from training.embedding import Forms
from training.lean import NoProfiler
from training.module import ClassifierModule
from training.residual import fit_step_scores, with_skip
from training.unfreezing import Unfreezing

CHECKPOINT = "last.ckpt"
_WEIGHTS, _RECORD = "weights.safetensors", "candidate.json"


@dataclass(frozen=True)
class Devices:
    """Where to train, in Lightning's own words.

    Attributes:
        threads: of torch on the CPU. The steps of a small recurrent network are too short to share: a second thread
            hardly helps on an idle machine, and on a busy one it makes a step ten times slower.
    """

    accelerator: str = "auto"
    devices: str = "auto"
    strategy: str = "auto"
    num_nodes: int = 1
    threads: int = 1


@dataclass(frozen=True)
class Candidate:
    """A trained cell.

    Attributes:
        weights: by the names of `gatewise.architecture`.
        epochs: the figures of each epoch.
        best_epoch: whose weights these are, from 1.
        stopped_by: `epochs`, `patience` or `max_time`.
    """

    cell: Cell
    model: ModelConfig
    weights: dict[str, NDArray[np.float32]]
    epochs: list[dict[str, float]]
    best_epoch: int
    stopped_by: str

    @property
    def seconds(self) -> float:
        """Training time, in seconds, over all the runs that it took."""
        return sum(epoch["seconds"] for epoch in self.epochs)


def fit(
    model: ModelConfig,
    config: TrainingConfig,
    train: EncodedDataset,
    valid: EncodedDataset | None,
    labels: tuple[str, ...],
    forms: Forms | None,
    folder: Path,
    *,
    augmentation: SeriesAugmentation | None = None,
    say: Say = print,
    resume: bool = False,
    devices: Devices = Devices(),
    max_seconds: float | None = None,
    tensorboard: bool = False,
    console: Console | None = None,
    start: Mapping[str, torch.Tensor] | None = None,
    watch: Sequence[pl.Callback] = (),
) -> Candidate:
    """Train one cell, or finish what an earlier, killed run of the same folder began.

    Args:
        valid: what each epoch is measured on; without it the last epoch's weights are kept.
        forms: what the integers of a text's rows stand for; None for series.
        augmentation: how the rows of a series are varied in training.
        folder: for the checkpoint while training, and the weights after it.
        resume: whether what stands there is gone on from.
        max_seconds: stop after this time with the best so far.
        console: a terminal to draw a progress bar on.
        start: pretrained weights, by the names of `module.Network`; the others are drawn.
        watch: callbacks beside training's own.
    """
    served = with_skip(model) if config.residual else model
    done = _read_finished(folder, served) if resume else None
    if done:
        say(f"  {model.cell} was finished before; its weights are taken from {folder}")
        return done
    torch.set_num_threads(devices.threads)
    record = EpochRecord(model.cell, say, console)
    best = BestWeights(config.patience)
    data = SequenceDataModule(train, valid, batch_size=config.batch_size, seed=config.seed)
    with quiet_lightning():
        callbacks = [EpochSeed(config.seed), best, record, checkpoint_in(folder), *watch]
        if config.averaging:
            callbacks.insert(2, AveragedWeights(config.averaging))
        if start and config.unfreeze_epochs:
            callbacks.insert(0, Unfreezing(start, config.unfreeze_epochs))
        logger = TensorBoardLogger(folder, name="", version="tensorboard") if tensorboard else False
        trainer = make_trainer(config, devices, max_seconds, callbacks, logger, validates=valid is not None)
        torch.manual_seed(config.seed)
        steps = -(-len(train) // config.batch_size // trainer.world_size) * config.epochs
        module = ClassifierModule(
            model,
            config,
            labels=labels,
            forms=forms,
            augmentation=augmentation,
            steps=fit_step_scores(train, len(labels), config.seed) if config.residual else None,
            class_weights=class_weights(config.class_weights, train, len(labels)),
            total_steps=max(steps, 2),
        )
        module.model.load_state_dict(dict(start or {}), strict=False)
        checkpoint = folder / CHECKPOINT if resume and (folder / CHECKPOINT).exists() else None
        if checkpoint:
            say(f"  goes on from {checkpoint}")
        train_from(checkpoint, trainer, module, data, f"a {model.cell.upper()} in {config.precision}")
    stopped_by = _stopped_by(trainer, config, best)
    takes_last = valid is None or (config.select == "last" and stopped_by == "epochs")
    if not takes_last:
        module.model.load_state_dict(best.weights)
    candidate = Candidate(
        cell=model.cell,
        model=served,
        weights=module.model.weights(),
        epochs=record.epochs,
        best_epoch=trainer.current_epoch if takes_last else best.epoch + 1,
        stopped_by=stopped_by,
    )
    if trainer.is_global_zero:
        _write_finished(folder, candidate)
    trainer.strategy.barrier()
    return candidate


def make_trainer(
    config: TrainingConfig,
    devices: Devices,
    max_seconds: float | None,
    callbacks: list[pl.Callback],
    logger: TensorBoardLogger | bool,
    *,
    validates: bool,
) -> pl.Trainer:
    """Lightning's trainer for a run of `config.epochs`.

    Raises:
        InvalidConfig: there are no such devices, or they cannot do this.
    """
    try:
        return pl.Trainer(
            accelerator=devices.accelerator,
            devices=devices.devices if not devices.devices.isdigit() else int(devices.devices),
            strategy=devices.strategy,
            num_nodes=devices.num_nodes,
            max_epochs=config.epochs,
            max_time=timedelta(seconds=max_seconds) if max_seconds else None,
            precision=config.precision,
            gradient_clip_val=config.gradient_clip or None,
            callbacks=callbacks,
            plugins=[CheckpointFile()],
            logger=logger,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            limit_val_batches=None if validates else 0,
            enable_progress_bar=False,
            enable_model_summary=False,
            log_every_n_steps=0,
            profiler=NoProfiler(),
        )
    except (MisconfigurationException, TypeError, ValueError) as error:
        told = " ".join(str(error).split())
        raise InvalidConfig(f"accelerator, devices, strategy, num_nodes or precision: {told}") from None


def train_from(
    checkpoint: Path | None, trainer: pl.Trainer, module: pl.LightningModule, data: SequenceDataModule, what: str
) -> None:
    """Train, from a checkpoint where there is one.

    Raises:
        InvalidConfig: the device cannot train `what` it is asked to.
    """
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except RuntimeError as error:
        if trainer.precision == "32-true" or "primitive" not in str(error):
            raise
        raise InvalidConfig(f"precision: this device cannot train {what}; leave it out") from None
    except SystemExit:
        # Lightning's answer to Ctrl-C; what it means is for the outermost caller to say.
        raise KeyboardInterrupt from None


def class_weights(kind: str, train: EncodedDataset, num_classes: int) -> torch.Tensor | None:
    """Weights (K,) whose mean over the train rows is 1: 1/count, or its square root; None for none."""
    if kind == "none":
        return None
    per_step = isinstance(train.labels[0], np.ndarray)
    counts = Counter(chain.from_iterable(row.tolist() for row in train.labels) if per_step else train.labels)
    rows = np.array([max(counts[k], 1) for k in range(num_classes)], dtype=np.float64)
    weights = rows ** (-0.5 if kind == "sqrt" else -1.0)
    return torch.tensor(weights * rows.sum() / (weights * rows).sum(), dtype=torch.float32)


def checkpoint_in(folder: Path) -> SpacedCheckpoint:
    """What writes a checkpoint in place of the last one."""
    return SpacedCheckpoint(
        folder, filename=Path(CHECKPOINT).stem, save_on_train_epoch_end=True, enable_version_counter=False
    )


def _stopped_by(trainer: pl.Trainer, config: TrainingConfig, best: BestWeights) -> str:
    if trainer.current_epoch >= config.epochs:
        return "epochs"
    return "patience" if config.patience and trainer.current_epoch - best.epoch > config.patience else "max_time"


def _write_finished(folder: Path, candidate: Candidate) -> None:
    """Write weights and record, the record last and in one step: where it is, the candidate is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(candidate.weights, folder / _WEIGHTS)
    fields = {"model": candidate.model.model_dump(mode="json")}
    fields |= {name: getattr(candidate, name) for name in ("epochs", "best_epoch", "stopped_by")}
    replace_text(folder / _RECORD, json.dumps(fields))
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _read_finished(folder: Path, model: ModelConfig) -> Candidate | None:
    path = folder / _RECORD
    if not path.exists():
        return None
    fields = json.loads(path.read_text())
    if ModelConfig.model_validate(fields.pop("model")) != model:
        return None
    return Candidate(cell=model.cell, model=model, weights=load_file(folder / _WEIGHTS), **fields)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice for its own users (GPUs found, workers wanted) from ours."""
    loggers = [logging.getLogger(name) for name in ("pytorch_lightning", "lightning.fabric", "lightning_fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", module="pytorch_lightning.utilities._pytree")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory.*exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*could not find the monitored key.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
