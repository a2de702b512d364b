"""What happens between epochs: a fresh seed, the best weights, the checkpoint, the record, a line for the reader."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Say = Callable[[str], None]

# Small sets take hundreds of short epochs; nobody reads a line for each.
_MOST_LINES = 50

# Of the time of training, what may go into checkpoints. They hold the weights four times over, with the optimizer's
# state and the best epoch's, and would take much of the short epochs of a large vocabulary.
_LARGEST_SHARE = 0.005


class EpochSeed(pl.Callback):
    """Seeds torch anew at each epoch, by seed, epoch and device.

    Dropout and noise of an epoch are then a function of these alone, and a resumed run draws what the killed one would
    have drawn, without generator states in the checkpoint.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed at the epoch's first batch."""
        # Not at the epoch's start: the data loader draws a number when it begins, which is before that in a resumed
        # run's first epoch and after it in every later one.
        if batch_idx == 0:
            torch.manual_seed((self.seed * 1_000_003 + trainer.current_epoch) * 1_009 + trainer.global_rank)


class BestWeights(pl.Callback):
    """Keeps the weights of the epoch with the highest `valid_rank`, and stops after `patience` epochs without a better.

    The weights travel in its state, so that one checkpoint file, replaced in one step, is all that a resumed run needs.

    Args:
        patience: 0 never stops.
    """

    def __init__(self, patience: int) -> None:
        self.patience = patience
        self.rank = (float("-inf"), float("-inf"))
        self.epoch = -1
        self.weights: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train no further where the run was killed after its patience had ended."""
        if self.weights and self.patience and trainer.current_epoch - 1 - self.epoch >= self.patience:
            trainer.should_stop = True

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare this epoch with the best so far."""
        if pl_module.valid_rank > self.rank or not self.weights:
            self.rank, self.epoch, self.weights = pl_module.valid_rank, trainer.current_epoch, weights_of(pl_module)
        elif self.patience and trainer.current_epoch - self.epoch >= self.patience:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"rank": self.rank, "epoch": self.epoch, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.rank, self.epoch, self.weights = state_dict["rank"], state_dict["epoch"], state_dict["weights"]


class AveragedWeights(pl.Callback):
    """Keeps a moving average of the weights (Polyak & Juditsky 1992), which validation measures and the end keeps.

    It stands after `BestWeights` in the list of callbacks: that one copies the average while it is in the module.

    Args:
        decay: share of the average that a step leaves; it starts lower, so that the first weights are soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.average: dict[str, torch.Tensor] = {}
        self._own: dict[str, torch.Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Begin from the first weights, or bring a checkpoint's average to the device."""
        own = _averaged_tensors(pl_module)
        kept = self.average or own
        self.average = {name: kept[name].detach().to(tensor.device, copy=True) for name, tensor in own.items()}

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the average towards the step's weights."""
        self.steps += 1
        decay = min(self.decay, self.steps / (self.steps + 9))
        own = _averaged_tensors(pl_module)
        torch._foreach_lerp_(list(self.average.values()), [own[name].detach() for name in self.average], 1 - decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure the average."""
        self._own = {name: tensor.detach().clone() for name, tensor in _averaged_tensors(pl_module).items()}
        _put(self.average, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on training the module's own weights."""
        _put(self._own, pl_module)
        self._own = {}

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the module, also where a checkpoint of the last epoch left nothing to train."""
        _put(self.average, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"steps": self.steps, "average": {name: tensor.cpu() for name, tensor in self.average.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.steps, self.average = state_dict["steps"], state_dict["average"]


def _averaged_tensors(module: pl.LightningModule) -> dict[str, torch.Tensor]:
    """The network's weights and the statistics that its layers gather."""
    return {name: tensor for name, tensor in module.model.state_dict().items() if tensor.is_floating_point()}


@torch.no_grad()
def _put(values: dict[str, torch.Tensor], module: pl.LightningModule) -> None:
    for name, tensor in _averaged_tensors(module).items():
        tensor.copy_(values[name])


class SpacedCheckpoint(ModelCheckpoint):
    """Keeps the state after the first epoch, and after later ones as soon as the time that it takes is well spent.

    A killed run so loses at most two hundred times what one checkpoint takes, and an epoch.
    """

    _due = 0.0

    @property
    def state_key(self) -> str:
        """Under what its state stands in a checkpoint; there is one of its kind."""
        # Lightning's own is put together anew at each hook of each step.
        return "SpacedCheckpoint"

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Never within an epoch."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the checkpoint, or leave the last one."""
        started = time.monotonic()
        # All devices take part in a checkpoint, or none.
        if not trainer.strategy.broadcast(started >= self._due):
            return
        super().on_train_epoch_end(trainer, pl_module)
        ended = time.monotonic()
        self._due = ended + (ended - started) / _LARGEST_SHARE


class CheckpointFile(TorchCheckpointIO):
    """Writes a checkpoint beside the last one, then puts it in its place.

    Lightning's own writes to the system's temporary folder and moves from there, which on another disk is a copy: a job
    killed in it would have neither checkpoint. It also makes the whole file in memory first.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write the checkpoint; at every moment there is a whole one."""
        staged = Path(path).with_name(f"{Path(path).name}.partial")
        staged.parent.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, staged)
        staged.replace(path)


def weights_of(module: pl.LightningModule) -> dict[str, torch.Tensor]:
    """Copies of the network's weights on the CPU: the module goes on training in its own."""
    return {name: tensor.detach().cpu().clone() for name, tensor in module.model.state_dict().items()}


class EpochRecord(pl.Callback):
    """Records the figures of each epoch and says them, of many epochs some; within an epoch a terminal shows a bar."""

    def __init__(self, title: str, say: Say, console: Console | None) -> None:
        self.title = title
        self.say = say
        self.epochs: list[dict[str, float]] = []
        self._started = 0.0
        self._bar: Progress | None = None
        self._console = console

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock and bar."""
        self._started = time.perf_counter()
        if self._console is None:
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=self._console, transient=True)
        self._bar.add_task(f"{self.title} epoch {trainer.current_epoch + 1}", total=trainer.num_training_batches)
        self._bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar."""
        if self._bar:
            self._bar.advance(self._bar.task_ids[0])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch and say its line."""
        self._stop_bar()
        # Every device has the same validation figures; the train loss is the mean of theirs.
        loss = trainer.strategy.reduce(pl_module.take_train_loss(), reduce_op="mean")
        # It is the same on all of them; without sync_dist Lightning would advise it.
        pl_module.log("train_loss", loss, sync_dist=True)
        figures = {"train_loss": float(loss)} | {name: float(v) for name, v in trainer.callback_metrics.items()}
        seconds = time.perf_counter() - self._started
        self.epochs.append({"epoch": trainer.current_epoch + 1, "seconds": seconds, **figures})
        epoch, last = trainer.current_epoch + 1, trainer.max_epochs
        if epoch in (1, last) or epoch % math.ceil(last / _MOST_LINES) == 0:
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            self.say(f"  {self.title} epoch {epoch}/{last}  {shown}  {seconds:.1f} s")

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self._stop_bar()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.epochs = state_dict["epochs"]

    def _stop_bar(self) -> None:
        if self._bar:
            self._bar.stop()
            self._bar = None
