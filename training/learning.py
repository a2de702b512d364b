"""The candidates of a job: each cell taught without labels where there are sequences for it, then with them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from torch import Tensor

from gatewise.architecture import Cell, ModelConfig
from gatewise.text import TextEncoder
from training.callbacks import Say
from training.data import EncodedDataset
from training.dataset import Dataset
from training.fitting import Candidate, fit
from training.plan import JobOptions, Prepared
from training.preparing import cut, encode, encode_items, make_augmentation, model_config
from training.pretraining import Pretrained, pretrain
from training.unlabelled import pretraining_rows


@dataclass(frozen=True)
class Learning:
    """Trains the cells of one job.

    Attributes:
        folder: of the run; each cell has a folder of its own in it.
    """

    options: JobOptions
    prepared: Prepared
    folder: Path
    say: Say
    console: Console | None

    def fit_all(self) -> list[Candidate]:
        """Train every cell, with the validation rows kept apart to measure it."""
        options, cells = self.options, self.prepared.config.cells
        deadline = time.monotonic() + options.max_seconds if options.max_seconds else None
        candidates = []
        for position, cell in enumerate(cells):
            self.say(f"Training {cell.upper()} ({position + 1} of {len(cells)})")
            left = max(deadline - time.monotonic(), 1.0) / (len(cells) - position) if deadline else None
            begun = time.monotonic()
            start = self._pretrain(cell, left)
            left = max(left - (time.monotonic() - begun), 1.0) if left else None
            candidate = self._fit(cell, self.folder / cell, start, max_seconds=left)
            if candidate.stopped_by != "epochs":
                kept = f"the weights of epoch {candidate.best_epoch} are kept"
                self.say(f"  stopped by {candidate.stopped_by}; {kept}")
            candidates.append(candidate)
        return candidates

    def refit(self, cell: Cell) -> Candidate:
        """Train one cell once more, from the same start, on the validation rows too."""
        valid = cut(self.prepared.valid, self.prepared.config.window)
        return self._fit_again(cell, "refit", self.prepared.train.joined(valid))

    def fit_fold(self, cell: Cell, rows: Dataset, name: str) -> Candidate:
        """Train one cell once more, from the same start, on these rows alone, in a folder of this name."""
        prepared = self.prepared
        encoded = encode(rows, prepared.encoder, prepared.labels, prepared.forms)
        return self._fit_again(cell, name, cut(encoded, prepared.config.window))

    def _fit_again(self, cell: Cell, name: str, rows: EncodedDataset) -> Candidate:
        """Train on these rows, with none to measure on."""
        return self._fit(cell, self.folder / name, self._pretrain(cell, None, again=True), rows=rows)

    def pretraining_folder(self, cell: Cell) -> Path:
        """Where what a cell was taught without labels is kept."""
        return self.folder / cell / "pretraining"

    def _fit(
        self,
        cell: Cell,
        folder: Path,
        start: Pretrained | None,
        *,
        max_seconds: float | None = None,
        rows: EncodedDataset | None = None,
    ) -> Candidate:
        options, prepared = self.options, self.prepared
        config = prepared.config
        weights: Mapping[str, Tensor] | None = start.weights if start else None
        return fit(
            self._model(cell),
            config,
            prepared.train if rows is None else rows,
            prepared.valid if rows is None else None,
            prepared.labels,
            prepared.forms,
            folder,
            augmentation=make_augmentation(prepared.encoder, config),
            say=self.say,
            resume=options.resume,
            devices=options.devices,
            max_seconds=max_seconds,
            tensorboard=options.tensorboard,
            console=self.console,
            start=weights,
        )

    def _model(self, cell: Cell) -> ModelConfig:
        prepared = self.prepared
        return model_config(prepared.config, prepared.encoder, cell, len(prepared.labels), prepared.splits.train)

    def _pretrain(self, cell: Cell, seconds: float | None, *, again: bool = False) -> Pretrained | None:
        """Teach a cell without labels, where there are sequences for it; at most half of its time goes to that.

        Args:
            again: take what was taught before in this job.
        """
        options, prepared = self.options, self.prepared
        if prepared.unlabelled is None or not prepared.config.pretrain_epochs:
            return None
        model, encoder, data = self._model(cell), prepared.encoder, prepared.unlabelled.data
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
            self.pretraining_folder(cell),
            say=self.say,
            resume=options.resume or again,
            devices=options.devices,
            max_seconds=seconds / 2 if seconds else None,
            console=self.console,
        )
