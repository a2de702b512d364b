"""The end of a job: the chosen model measured as it will answer, and its artifact with all figures and the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from gatewise import artifact
from gatewise.artifact import DRIFT, MODEL_CARD, REPORT, REPORT_JSON, Manifest
from gatewise.drift import DriftReference
from gatewise.predictor import Predictor
from training.abstaining import fit_threshold
from training.analysis import (
    by_length,
    class_figures,
    confident_mistakes,
    confusion,
    label_suspects,
    share,
)
from training.answers import Answered, answer_all
from training.callbacks import Say
from training.drift import in_words, make_reference
from training.evaluation import scores_of
from training.label_sets import fit_label_sets
from training.plan import JobOptions, Prepared
from training.report.card import model_card
from training.report.certainty import measure_certainty
from training.report.comparison import comparison_of
from training.report.contents import Certainty, Errors, ModelFacts, Report, Setting, Suspects
from training.report.findings import Finder, Part
from training.report.origin import command_of, describe_data, describe_environment
from training.report.page import page

_MISTAKES = 20
_SUSPECTS = 30


@dataclass(frozen=True)
class Completion:
    """Completes the artifact of one job's chosen model.

    Attributes:
        before: the artifact of the model that validation measured.
        after: the artifact of the model that will serve; the same one where it was not trained once more.
        folds: rows with the answers of cross-validation; none where there was none.
    """

    prepared: Prepared
    options: JobOptions
    before: Path
    after: Path
    folds: list[Part]
    say: Say

    def write(self, target: Path, training: dict[str, Any]) -> Manifest:
        """Measure, tell, and write the artifact to `target`.

        Args:
            training: the manifest's account of the training.
        """
        config, splits = self.prepared.config, self.prepared.splits
        predictor = Predictor.load(self.before)
        valid = answer_all(predictor, [splits.valid])
        drift = self._drift_reference(predictor)
        answered = {"valid": valid}
        if splits.test is not None:
            answered["test"] = answer_all(Predictor.load(self.after), [splits.test])
        metrics = self._metrics(answered)
        target_precision = config.target_precision
        abstaining = fit_threshold(valid.confidence, valid.correct, target_precision) if target_precision else None
        label_sets = fit_label_sets(valid.likelihood, config.coverage)
        manifest = artifact.verify(self.after)
        certainty = measure_certainty(
            answered, manifest.temperature, abstaining, label_sets, refitted=self.before != self.after
        )
        self._tell(metrics, certainty)
        self.say(in_words(drift))
        report = Report(
            model=_facts(manifest, training),
            metrics=metrics,
            refitted=self.before != self.after,
            comparison=comparison_of(training),
            certainty=certainty,
            errors=self._errors(answered),
            data=describe_data(self.prepared, [*manifest.data["notes"], f"{in_words(drift)}."]),
            recipe=[Setting(**choice) for choice in training["choices"]],
            environment=describe_environment(),
            command=command_of(self.options),
        )
        return artifact.restate(
            self.after,
            target,
            files=written(report) | {DRIFT: drift.model_dump_json().encode()},
            metrics=metrics,
            training=training,
            abstaining=abstaining,
            label_sets=label_sets,
        )

    def _drift_reference(self, before: Predictor) -> DriftReference:
        """Of validation; of test where the model that will serve has learnt from the validation rows too.

        The model before is no stand-in for it there: the confidences of two trainings differ by more than chance.
        """
        splits = self.prepared.splits
        if self.before != self.after and splits.test is not None:
            return make_reference(Predictor.load(self.after), splits.test, splits.train, "test")
        return make_reference(before, splits.valid, splits.train)

    def _metrics(self, answered: Mapping[str, Answered]) -> dict[str, dict[str, float]]:
        """Scores by split; of test once more without the rows that also stand in train."""
        metrics = {name: scores_of(part).metrics for name, part in answered.items()}
        if "test" in answered:
            assert self.prepared.splits.test_in_train is not None
            fresh = np.flatnonzero(~self.prepared.splits.test_in_train)
            if 0 < len(fresh) < len(answered["test"]):
                metrics["test_without_duplicates"] = scores_of(answered["test"].take(fresh)).metrics
        return metrics

    def _tell(self, metrics: Mapping[str, Mapping[str, float]], certainty: Certainty) -> None:
        for split, figures in metrics.items():
            self.say(f"{split}: " + "  ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        for split, found in certainty.calibration.items():
            self.say(
                f"Calibration on {split}: expected error {found.before:.4f}, with temperature "
                f"{certainty.temperature:.2f} {found.after:.4f} (chance alone: {found.by_chance:.4f})"
            )
        if certainty.abstaining:
            self.say(certainty.abstaining.sentence)
        self.say(certainty.label_sets.sentence)

    def _errors(self, answered: dict[str, Answered]) -> Errors:
        splits, examples = self.prepared.splits, self.prepared.config.examples
        parts = splits.parts()
        split = next(reversed(answered))
        of_split = answered[split]
        finder = Finder([(parts[split], of_split)], examples=examples)
        return Errors(
            split=split,
            correct=share(int(of_split.correct.sum()), len(of_split.correct)),
            unseen=int((of_split.expected < 0).sum()),
            classes=class_figures(of_split),
            confusion=confusion(of_split),
            lengths=by_length(of_split),
            mistakes=finder.describe(confident_mistakes(of_split, _MISTAKES)),
            suspects=self._suspects([(parts[name], part) for name, part in answered.items()]),
        )

    def _suspects(self, held_out: list[Part]) -> Suspects:
        finder = Finder(self.folds or held_out, examples=self.prepared.config.examples)
        places = label_suspects(finder.answered)
        return Suspects(
            source="folds" if self.folds else "held_out",
            folds=len(self.folds),
            rows=len(finder.answered.correct),
            found=len(places),
            shown=finder.describe(places[:_SUSPECTS]),
        )


def written(report: Report) -> dict[str, bytes]:
    """The report's files by name."""
    return {
        REPORT: page(report).encode(),
        REPORT_JSON: orjson.dumps(report.model_dump(mode="json"), option=orjson.OPT_INDENT_2),
        MODEL_CARD: model_card(report).encode(),
    }


def _facts(manifest: Manifest, training: Mapping[str, Any]) -> ModelFacts:
    chosen = comparison_of(training)
    parameters = next(c["parameters"] for c in chosen["candidates"] if c["name"] == chosen["chosen"])
    return ModelFacts(
        name=manifest.name,
        created_at=manifest.created_at,
        gatewise_version=manifest.gatewise_version,
        kind=manifest.kind,
        task=manifest.task,
        labels=list(manifest.labels),
        cell=manifest.model.cell,
        parameters=parameters,
        architecture=manifest.model.model_dump(mode="json", exclude_defaults=True),
    )
