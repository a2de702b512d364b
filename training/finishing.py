"""Trained candidates to a registered model: measured as they will serve, one chosen, fitted once more, registered."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gatewise import artifact
from gatewise.durable import replace_text
from gatewise.predictor import Predictor
from gatewise.store import ModelVersion, Store
from gatewise.timeseries import TimeSeriesEncoder
from training.blending import LinearBranch
from training.compare import Decision
from training.comparison import Comparison, budgets_of, compare
from training.contenders import Contender, Found
from training.dataset import Dataset, join
from training.dependency import measure_dependency
from training.evaluation import score
from training.fitting import Candidate
from training.folds import answer_folds
from training.kernels import fit_kernels
from training.learning import Learning
from training.measuring import Measured, best_seed, measure_cost
from training.packaging import Fitted, Packer
from training.plan import JobResult, shown
from training.pretraining import pretraining_of
from training.report.findings import Part
from training.report.writing import Completion
from training.runs import Run
from training.wide import choose_wide


class Entrant(NamedTuple):
    """A contender, what was trained of it, and what validation fitted to that."""

    contender: Contender
    candidate: Candidate
    fitted: Fitted


@dataclass(frozen=True)
class Finishing:
    """Makes one model of a job's candidates.

    Attributes:
        job: the run, whose folder keeps what each step makes.
        deadline: of training, in the seconds of `time.monotonic`; None without a limit.
        found: what a search found before; None where there was none.
    """

    learning: Learning
    job: Run
    deadline: float | None
    found: Found | None = None

    def finish(self, field: Sequence[Contender], candidates: Sequence[Candidate]) -> JobResult:
        """Measure the candidates, choose one, and register it with all figures in its manifest.

        Args:
            field, candidates: the contenders, and what was trained of each.
        """
        prepared, say = self.learning.prepared, self.learning.say
        packer = Packer(
            prepared.name,
            self.job.started_at,
            prepared.labels,
            prepared.encoder,
            prepared.splits.valid,
            prepared.valid,
            self._data_card(),
            always_wide=prepared.config.wide == "on",
            say=say,
        )
        wide = self._choose_wide()
        pairs = list(zip(field, candidates, strict=True))
        packed = [packer.pack(self._folder(one), made.model, made.weights, wide) for one, made in pairs]
        entrants = [Entrant(*pair, fitted) for pair, fitted in zip(pairs, packed, strict=True)]
        comparison = self._compare(entrants)
        chosen = self._chosen(comparison, entrants)
        source = self._folder(chosen.contender)
        dependency = measure_dependency(Predictor.load(source), prepared.splits.valid, prepared.config.window)
        for line in [*comparison.decision.sentences, comparison.hint(dependency)]:
            say(line)
        is_refitted = self._refits(chosen.candidate)
        if is_refitted:
            source = self._refit(packer, chosen, wide)
        folds = self._cross_validate(packer, chosen, wide)
        figures = {one.name: one.figures() for one in comparison.measured}
        training = {
            **self._account(comparison.decision, chosen),
            "comparison": comparison.account(dependency, self.found.account if self.found else None),
            "candidates": figures,
            "linear_branch": _recorded(chosen.fitted),
            "refitted": is_refitted,
        }
        completion = Completion(prepared, self.learning.options, self._folder(chosen.contender), source, folds, say)
        final = completion.write(self.job.folder / "artifact", training)
        version = _register(final, self.job.folder / "artifact", prepared.name)
        return JobResult(prepared.name, version.version, version.path, final.metrics, comparison.decision, figures)

    def _folder(self, contender: Contender) -> Path:
        return self.job.folder / contender.folder / "artifact"

    def _compare(self, entrants: Sequence[Entrant]) -> Comparison:
        """Measure, say the figures and choose."""
        config, say = self.learning.prepared.config, self.learning.say
        by_name = groupby(entrants, key=lambda entrant: entrant.contender.name)
        measured = [self._measure([*seeds]) for _, seeds in by_name]
        for one in measured:
            say(f"{one.title}: " + "  ".join(f"{name} {value:.4g}" for name, value in one.figures().items()))
        comparison = compare(measured, config.monitor, budgets_of(config))
        say(f"Chosen: {comparison.chosen.title}. {comparison.decision.reason}.")
        return comparison

    def _measure(self, entrants: Sequence[Entrant]) -> Measured:
        """Measure the seeds of a candidate; the times are kept, so that a resumed job decides by the same."""
        valid, monitor = self.learning.prepared.splits.valid, self.learning.prepared.config.monitor
        predictors = [Predictor.load(self._folder(entrant.contender)) for entrant in entrants]
        scores = tuple(score(predictor, [valid]) for predictor in predictors)
        place = best_seed(scores, monitor)
        best = entrants[place]
        path = self.job.folder / best.contender.folder / "latency.json"
        kept = json.loads(path.read_text()) if path.exists() else None
        cost = measure_cost(self._folder(best.contender), predictors[place], valid, kept)
        replace_text(path, json.dumps(asdict(cost.latency)))
        return Measured(
            name=best.contender.name,
            title=best.contender.name.upper(),
            cell=best.contender.cell,
            seeds=tuple(entrant.contender.seed for entrant in entrants),
            scores=scores,
            kept=place,
            cost=cost,
            training_seconds=best.candidate.seconds,
            curve=best.candidate.epochs,
        )

    def _chosen(self, comparison: Comparison, entrants: Sequence[Entrant]) -> Entrant:
        wanted = comparison.chosen.name, comparison.chosen.seeds[comparison.chosen.kept]
        return next(entrant for entrant in entrants if (entrant.contender.name, entrant.contender.seed) == wanted)

    def _choose_wide(self) -> LinearBranch | None:
        prepared, say = self.learning.prepared, self.learning.say
        if prepared.config.wide == "off":
            return None
        say("Fitting the linear branch")
        splits, encoder, seed = prepared.splits, prepared.encoder, prepared.config.seed
        wide: LinearBranch | None
        if isinstance(encoder, TimeSeriesEncoder):
            wide, why_not = fit_kernels(splits.train, encoder, prepared.labels, seed=seed), ""
        else:
            wide = choose_wide(splits.train, splits.valid, encoder, prepared.labels, seed=seed)
            why_not = "no word stands in two texts, or "
        if wide is None:
            say(f"  left out: {why_not}there are too many classes for its table")
        return wide

    def _refits(self, chosen: Candidate) -> bool:
        """Whether the chosen cell is trained once more, on the validation rows too."""
        prepared, say = self.learning.prepared, self.learning.say
        if not (prepared.config.refit and prepared.splits.divided):
            return False
        cell, why_not = chosen.cell.upper(), ""
        if chosen.stopped_by != "epochs":
            why_not = "it was stopped before its last epoch"
        elif chosen.best_epoch < prepared.config.epochs:
            # Without rows to measure, nothing would tell which epoch to keep.
            why_not = "its best epoch was not its last"
        elif self.deadline is not None and time.monotonic() + chosen.seconds > self.deadline:
            why_not = "the time is up"
        elif torch.distributed.is_available() and torch.distributed.is_initialized():
            why_not = "several devices share this job"
        if why_not:
            say(f"{cell} is not trained once more on the validation rows too: {why_not}")
            return False
        rows = len(prepared.splits.train) + len(prepared.splits.valid)
        say(f"Training {cell} once more, on all {rows} rows of train and validation")
        return True

    def _refit(self, packer: Packer, chosen: Entrant, wide: LinearBranch | None) -> Path:
        """Train the chosen one on all rows, with what validation fitted before it was learnt from; its artifact."""
        splits, again = self.learning.prepared.splits, self.learning.refit(chosen.contender)
        return self._pack_again(packer, chosen, again, wide, join([splits.train, splits.valid]), "refit")

    def _cross_validate(self, packer: Packer, chosen: Entrant, wide: LinearBranch | None) -> list[Part]:
        """Train the chosen one without a part of the rows and answer it, for each part; none unless asked for."""
        prepared, say = self.learning.prepared, self.learning.say
        splits, folds = prepared.splits, prepared.config.folds
        if not folds:
            return []
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            say("No cross-validation: several devices share this job")
            return []
        seconds = chosen.candidate.seconds
        if self.deadline is not None and time.monotonic() + folds * seconds > self.deadline:
            say(f"No cross-validation: {folds} trainings of {seconds:.0f} s do not fit in the time that is left")
            return []

        def train(rows: Dataset, number: int) -> Predictor:
            name = f"fold-{number}"
            again = self.learning.fit_fold(chosen.contender, rows, name)
            return Predictor.load(self._pack_again(packer, chosen, again, wide, rows, name))

        rows = join([splits.train, splits.valid]) if splits.divided else splits.train
        return [*answer_folds(rows, folds, prepared.config.seed, train, say)]

    def _pack_again(
        self, packer: Packer, chosen: Entrant, again: Candidate, wide: LinearBranch | None, rows: Dataset, name: str
    ) -> Path:
        """The artifact of a later training on `rows`, its linear branch fitted on them too."""
        prepared = self.learning.prepared
        if wide and chosen.fitted.share:
            wide = wide.again(rows, prepared.encoder, prepared.labels, seed=prepared.config.seed)
        folder = self.learning.folder_again(chosen.contender, name) / "artifact"
        packer.pack(folder, again.model, again.weights, wide, chosen.fitted)
        return folder

    def _account(self, decision: Decision, chosen: Entrant) -> dict[str, Any]:
        """The manifest's account of how the model came about."""
        prepared, options = self.learning.prepared, self.learning.options
        # The seed that the user gave: it divided the rows, and the others follow from it.
        config = chosen.contender.config.model_copy(update={"seed": prepared.config.seed})
        return {
            "config": config.model_dump(mode="json"),
            "choices": [{"name": c.name, "value": shown(c.value), "reason": c.reason} for c in prepared.choices],
            "reading": options.reading.model_dump(mode="json"),
            "columns": prepared.splits.columns,
            "decision": {**asdict(decision), "sentences": list(decision.sentences)},
            "pretraining": pretraining_of(self.learning.pretraining_folder(chosen.contender)),
            "epochs": chosen.candidate.epochs,
            "best_epoch": chosen.candidate.best_epoch,
            "stopped_by": chosen.candidate.stopped_by,
        }

    def _data_card(self) -> dict[str, Any]:
        """The manifest's account of the data. Files by name alone: the service shows it, and folders are private."""
        prepared, options = self.learning.prepared, self.learning.options
        splits, parts = prepared.splits, prepared.splits.parts()
        sources = [part.source for part in parts.values()] + [options.embeddings or "", options.unlabelled or ""]
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
            "rows": {name: len(part) for name, part in parts.items()},
            "fingerprint": prepared.fingerprint,
            "notes": notes,
            **card,
        }


def _recorded(fitted: Fitted) -> dict[str, float] | None:
    return asdict(fitted.blend) if fitted.blend else None


def _register(manifest: artifact.Manifest, folder: Path, name: str) -> ModelVersion:
    """Add the artifact to the store, or find it there: a job may have been killed just after it had added it."""
    store = Store()
    for version in store.list(name):
        if artifact.read_manifest(version.path).digest == manifest.digest:
            return version
    return store.add(folder, name)
