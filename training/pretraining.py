"""One cell taught on sequences without labels, resumable at any epoch; `fitting` goes on from its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from gatewise.architecture import ModelConfig
from gatewise.durable import replace_text
from gatewise.errors import InvalidConfig
from gatewise.timeseries import TimeSeriesEncoderConfig
from training.callbacks import EpochRecord, EpochSeed, Say
from training.config import TrainingConfig
from training.data import EncodedDataset, SequenceDataModule, TrainingBatch
from training.embedding import Forms
from training.fitting import CHECKPOINT, Devices, checkpoint_in, make_trainer, quiet_lightning, train_from
from training.lean import LeanModule
from training.module import Network, set_update_gate_bias
from training.objectives import LanguageModel, Loss, MaskedReconstruction

_WEIGHTS, _RECORD = "weights.safetensors", "pretraining.json"
# Of the gaps that the held-out rows are measured with: in every epoch and of every run the same.
_MEASURE_SEED = 20_17


@dataclass(frozen=True)
class Pretrained:
    """What a cell has learnt without labels.

    Attributes:
        weights: by the names of `module.Network`; the layers that were taught, and no head.
        epochs: the figures of each epoch.
    """

    weights: dict[str, Tensor]
    epochs: list[dict[str, float]]


class PretrainingModule(LeanModule):
    """A network with an objective that needs no labels.

    Args:
        forms: what the integers of a text's rows stand for; None for series.
        series: how the readings of a series were encoded; None for texts.
        counts: how often each token id of a text is met, (V,).
    """

    def __init__(
        self,
        model: ModelConfig,
        config: TrainingConfig,
        *,
        forms: Forms | None,
        series: TimeSeriesEncoderConfig | None,
        counts: Tensor,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.total_steps = total_steps
        network = Network(model, forms, config.word_dropout)
        set_update_gate_bias(network.classifier, config.update_gate_bias)
        self.model: LanguageModel | MaskedReconstruction
        if series is None:
            self.model = LanguageModel(network, counts)
        else:
            self.model = MaskedReconstruction(network, len(series.channels), has_missing=series.allow_missing)
        layers = tuple(f"classifier.recurrent.{i}." for i in range(self.model.depth))
        self._parts = ("embedding.words.", "embedding.ngrams.", "embedding.affixes.", "classifier.stem.", *layers)
        for name, parameter in network.named_parameters():
            # What the objective does not reach has no gradient, and several devices would wait for it.
            parameter.requires_grad_(name.startswith(self._parts))
        self._train = _Mean()
        self._valid = _Mean()

    def training_step(self, batch: TrainingBatch, batch_index: int) -> Tensor:
        """Return the mean loss of a batch's predictions."""
        inputs, lengths, _ = batch
        loss = self.model(inputs, lengths)
        self._train.add(loss)
        mean: Tensor = loss.total / loss.predictions.clamp(min=1)
        return mean

    def validation_step(self, batch: TrainingBatch, batch_index: int) -> None:
        """Add a held-out batch's predictions up."""
        inputs, lengths, _ = batch
        if isinstance(self.model, LanguageModel):
            self._valid.add(self.model(inputs, lengths))
        else:
            self._valid.add(self.model(inputs, lengths, torch.Generator().manual_seed(_MEASURE_SEED + batch_index)))

    def on_validation_epoch_end(self) -> None:
        """Log the losses of the epoch and, of a language model, the perplexity of the held-out texts."""
        valid = self._valid.take()
        if not torch.isfinite(valid):
            raise InvalidConfig(
                f"learning_rate: with {self.config.learning_rate:g} pretraining diverged in epoch "
                f"{self.current_epoch + 1}; give a lower one"
            )
        figures = {"held_out_loss": valid}
        if isinstance(self.model, LanguageModel):
            figures["held_out_perplexity"] = valid.exp()
        self.log_dict(figures, sync_dist=True)

    def take_train_loss(self) -> Tensor:
        """The mean loss of the steps since this was asked last."""
        return self._train.take()

    def configure_optimizers(self) -> Any:
        """AdamW in one cycle, as fast as the fine-tuning that follows."""
        config = self.config
        taught = [parameter for parameter in self.parameters() if parameter.requires_grad]
        # As in fine-tuning: what is fused cannot be clipped in mixed precision.
        fused = config.precision == "32-true" or not config.gradient_clip
        optimizer = torch.optim.AdamW(
            taught, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay, fused=fused
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, self.total_steps, pct_start=0.15, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def taught(self) -> dict[str, Tensor]:
        """Copies of the weights that the objective taught, by the names of `module.Network`."""
        state = self.model.network.state_dict()
        return {name: tensor.detach().cpu().clone() for name, tensor in state.items() if name.startswith(self._parts)}


class _Mean:
    """A mean over the predictions of an epoch, summed on the device and read once."""

    def __init__(self) -> None:
        self._total: Tensor | float = 0.0
        self._count: Tensor | float = 0.0

    def add(self, loss: Loss) -> None:
        self._total = self._total + loss.total.detach()
        self._count = self._count + loss.predictions

    def take(self) -> Tensor:
        mean = torch.as_tensor(self._total) / torch.as_tensor(self._count).clamp(min=1)
        self._total = self._count = 0.0
        return mean


def pretrain(
    model: ModelConfig,
    config: TrainingConfig,
    rows: EncodedDataset,
    held_out: EncodedDataset,
    forms: Forms | None,
    series: TimeSeriesEncoderConfig | None,
    folder: Path,
    *,
    say: Say = print,
    resume: bool = False,
    devices: Devices,
    max_seconds: float | None = None,
    console: Console | None = None,
) -> Pretrained:
    """Teach one cell without labels, or finish what an earlier, killed run of the same folder began.

    Args:
        forms: what the integers of a text's rows stand for; None for series.
        series: how the readings were encoded; None for texts.
        folder: for the checkpoint while training, and the weights after it.
        max_seconds: stop after this time with what has been learnt.
    """
    done = _read_finished(folder) if resume else None
    if done:
        say(f"  pretraining was finished before; its weights are taken from {folder}")
        return done
    torch.set_num_threads(devices.threads)
    record = EpochRecord(f"{model.cell} pretraining", say, console)
    data = SequenceDataModule(rows, held_out, batch_size=config.pretrain_batch_size, seed=config.seed)
    with quiet_lightning():
        callbacks = [EpochSeed(config.seed), record, checkpoint_in(folder)]
        passes = config.model_copy(update={"epochs": config.pretrain_epochs})
        trainer = make_trainer(passes, devices, max_seconds, callbacks, False, validates=True)
        torch.manual_seed(config.seed)
        steps = -(-len(rows) // config.pretrain_batch_size // trainer.world_size) * config.pretrain_epochs
        counts = token_counts(rows, model)
        module = PretrainingModule(model, config, forms=forms, series=series, counts=counts, total_steps=max(steps, 2))
        checkpoint = folder / CHECKPOINT if resume and (folder / CHECKPOINT).exists() else None
        if checkpoint:
            say(f"  goes on from {checkpoint}")
        train_from(checkpoint, trainer, module, data, f"a {model.cell.upper()} in {config.precision}")
    pretrained = Pretrained(module.taught(), record.epochs)
    if trainer.is_global_zero:
        _write_finished(folder, pretrained)
    trainer.strategy.barrier()
    return pretrained


def token_counts(rows: EncodedDataset, model: ModelConfig) -> Tensor:
    """How often each id of a text's vocabulary stands in encoded rows, (V,); nothing for series."""
    if model.vocab_size is None:
        return torch.zeros(0)
    forms = np.concatenate(rows.inputs)
    return torch.from_numpy(np.bincount(forms[forms < model.vocab_size], minlength=model.vocab_size))


def pretraining_of(folder: Path) -> list[dict[str, float]]:
    """The figures of each epoch of what was pretrained in a folder; none where nothing was."""
    done = _read_finished(folder)
    return done.epochs if done else []


def _write_finished(folder: Path, pretrained: Pretrained) -> None:
    """Write weights and record, the record last and in one step: where it is, the pretraining is whole."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(pretrained.weights, folder / _WEIGHTS)
    replace_text(folder / _RECORD, json.dumps({"epochs": pretrained.epochs}))
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _read_finished(folder: Path) -> Pretrained | None:
    path = folder / _RECORD
    if not path.exists():
        return None
    return Pretrained(load_file(folder / _WEIGHTS), json.loads(path.read_text())["epochs"])
