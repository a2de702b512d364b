"""The candidates of a job: each cell taught without labels where there are sequences for it, then with them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as pl
from rich.console import Console
from torch import Tensor

from gatewise.architecture import ModelConfig
from gatewise.text import TextEncoder
from training.callbacks import Say
from training.contenders import Contender
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
        folder: of the run; each contender has a folder of its own in it.
    """

    options: JobOptions
    prepared: Prepared
    folder: Path
    say: Say
    console: Console | None

    def fit_all(self, field: Sequence[Contender], deadline: float | None = None) -> list[Candidate]:
        """Train every contender, with the validation rows kept apart to measure it.

        Args:
            deadline: in the seconds of `time.monotonic`; they share the time until then.
        """
        candidates = []
        for position, contender in enumerate(field):
            self.say(f"Training {contender.title} ({position + 1} of {len(field)})")
            left = max(deadline - time.monotonic(), 1.0) / (len(field) - position) if deadline else None
            candidate = self.fit(contender, left)
            if candidate.stopped_by != "epochs":
                kept = f"the weights of epoch {candidate.best_epoch} are kept"
                self.say(f"  stopped by {candidate.stopped_by}; {kept}")
            candidates.append(candidate)
        return candidates

    def fit(self, contender: Contender, max_seconds: float | None = None) -> Candidate:
        """Train one contender, taught without labels first where there are sequences for it."""
        begun = time.monotonic()
        start = self._pretrain(contender, max_seconds)
        left = max(max_seconds - (time.monotonic() - begun), 1.0) if max_seconds else None
        return self._fit(contender, self.folder / contender.folder, start, max_seconds=left)

    def refit(self, contender: Contender) -> Candidate:
        """Train one contender once more, from the same start, on the validation rows too."""
        valid = cut(self.prepared.valid, self.prepared.config.window)
        return self._fit_again(contender, "refit", self.prepared.train.joined(valid))

    def fit_fold(self, contender: Contender, rows: Dataset, name: str) -> Candidate:
        """Train one contender once more, from the same start, on these rows alone, in a folder of this name."""
        prepared = self.prepared
        encoded = encode(rows, prepared.encoder, prepared.labels, prepared.forms)
        return self._fit_again(contender, name, cut(encoded, prepared.config.window))

    def _fit_again(self, contender: Contender, name: str, rows: EncodedDataset) -> Candidate:
        """Train on these rows, with none to measure on."""
        return self._fit(
            contender, self.folder_again(contender, name), self._pretrain(contender, None, again=True), rows=rows
        )

    def try_out(
        self, contender: Contender, folder: Path, watch: Sequence[pl.Callback], max_seconds: float | None
    ) -> Candidate:
        """Train a contender from the start, on one device and without a word, for a search that watches it."""
        devices = replace(self.options.devices, devices="1", strategy="auto", num_nodes=1)
        options = replace(self.options, resume=False, tensorboard=False, devices=devices)
        quiet = replace(self, options=options, say=_silent, console=None)
        return quiet._fit(contender, folder, None, max_seconds=max_seconds, watch=watch)

    def folder_again(self, contender: Contender, name: str) -> Path:
        """Where a contender is trained once more: its own, for another budget may choose another one."""
        return self.folder / contender.folder / name

    def pretraining_folder(self, contender: Contender) -> Path:
        """Where what a contender was taught without labels is kept."""
        return self.folder / contender.folder / "pretraining"

    def _fit(
        self,
        contender: Contender,
        folder: Path,
        start: Pretrained | None,
        *,
        max_seconds: float | None = None,
        rows: EncodedDataset | None = None,
        watch: Sequence[pl.Callback] = (),
    ) -> Candidate:
        options, prepared = self.options, self.prepared
        config = contender.config
        weights: Mapping[str, Tensor] | None = start.weights if start else None
        return fit(
            self._model(contender),
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
            watch=watch,
        )

    def _model(self, contender: Contender) -> ModelConfig:
        prepared = self.prepared
        classes = len(prepared.labels)
        return model_config(contender.config, prepared.encoder, contender.cell, classes, prepared.splits.train)

    def _pretrain(self, contender: Contender, seconds: float | None, *, again: bool = False) -> Pretrained | None:
        """Teach a cell without labels, where there are sequences for it; at most half of its time goes to that.

        Args:
            again: take what was taught before in this job.
        """
        options, prepared = self.options, self.prepared
        if prepared.unlabelled is None or not prepared.config.pretrain_epochs:
            return None
        model, encoder, data = self._model(contender), prepared.encoder, prepared.unlabelled.data
        more = encode_items(data, encoder, prepared.forms, grows=False) if data else []
        window = prepared.config.window if model.task == "step" else None
        rows, held_out = pretraining_rows(prepared.train, more, window, prepared.config.seed)
        return pretrain(
            model,
            contender.config,
            rows,
            held_out,
            prepared.forms,
            None if isinstance(encoder, TextEncoder) else encoder.config,
            self.pretraining_folder(contender),
            say=self.say,
            resume=options.resume or again,
            devices=options.devices,
            max_seconds=seconds / 2 if seconds else None,
            console=self.console,
        )


def _silent(line: str) -> None:
    """Say nothing: a search tells of its trials itself."""
