"""How sure the model is on each split: calibration, abstaining and label sets, as figures and as sentences."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from gatewise.architecture import Task
from gatewise.artifact import Abstaining, LabelSets
from training.abstaining import Answering, answering, rows_needed
from training.analysis import answering_curve, share
from training.answers import Answered
from training.calibration import before_scaling, calibration_error, error_by_chance, reliability
from training.label_sets import sets_of
from training.report.contents import AbstainingFacts, Bin, Calibration, Certainty, LabelSetFacts


def measure_certainty(
    answered: Mapping[str, Answered],
    temperature: float,
    abstaining: Abstaining | None,
    label_sets: LabelSets,
    *,
    refitted: bool,
) -> Certainty:
    """Measure on each split, of which `valid` is one.

    Args:
        answered: by split; the last one is analysed.
    """
    *_, last = answered.values()
    return Certainty(
        temperature=temperature,
        calibration={name: _calibration(part, temperature) for name, part in answered.items()},
        answering=answering_curve(last),
        abstaining=_abstaining(answered, abstaining) if abstaining else None,
        label_sets=_label_sets(answered, label_sets),
        caution=_caution(answered, last.task, refitted=refitted),
    )


def _calibration(answered: Answered, temperature: float) -> Calibration:
    shares = before_scaling(answered.shares, temperature)
    before = shares[np.arange(len(shares)), answered.answers]
    confidence, correct = answered.confidence, answered.correct
    return Calibration(
        rows=len(correct),
        before=calibration_error(before, correct),
        after=calibration_error(confidence, correct),
        by_chance=error_by_chance(confidence),
        bins_before=[Bin(**found._asdict()) for found in reliability(before, correct)],
        bins_after=[Bin(**found._asdict()) for found in reliability(confidence, correct)],
    )


def _abstaining(answered: Mapping[str, Answered], abstaining: Abstaining) -> AbstainingFacts:
    counts = {name: answering(part.confidence, part.correct, abstaining) for name, part in answered.items()}
    return AbstainingFacts(
        target_precision=abstaining.target_precision,
        threshold=abstaining.threshold,
        answered={name: share(found.answered, found.rows) for name, found in counts.items()},
        precision={name: share(found.right, found.answered) for name, found in counts.items()},
        sentence=_abstaining_in_words(counts, abstaining),
    )


def _abstaining_in_words(counts: Mapping[str, Answering], abstaining: Abstaining) -> str:
    target = f"{abstaining.target_precision:.1%}"
    if abstaining.threshold is None:
        valid, needed = counts["valid"], rows_needed(abstaining.target_precision)
        mend = "Even those it is surest of are wrong too often: give a lower target."
        if valid.rows < needed:
            mend = f"It takes {needed} answers without a mistake: give more validation rows, or a lower target."
        return (
            f"The {valid.rows} answers of validation do not show a precision of {target} at any confidence, so every "
            f"prediction is marked as abstained. {mend}"
        )
    told = [
        f"on {name} {found.share:.1%} of the answers are given, and {found.precision:.1%} of these are right"
        for name, found in counts.items()
        if found.precision is not None
    ]
    return (
        f"For a precision of {target}, answers of a confidence below {abstaining.threshold:.3f} are marked as "
        f"abstained: {'; '.join(told)}.{_missed(counts, abstaining.target_precision)}"
    )


def _missed(counts: Mapping[str, Answering], target: float) -> str:
    """A sentence where the last split's answers do not reach the target."""
    name = next(reversed([*counts]))
    precision = counts[name].precision
    if precision is None or precision >= target:
        return ""
    return f" That misses the target on {name}: rows unlike those of validation, or its luck."


def _label_sets(answered: Mapping[str, Answered], label_sets: LabelSets) -> LabelSetFacts:
    covered, mean_size, sizes = {}, {}, {}
    for name, part in answered.items():
        held = sets_of(part.shares, part.answers, label_sets)
        has_truth = held[np.arange(len(held)), np.maximum(part.expected, 0)] & (part.expected >= 0)
        size, counts = np.unique(held.sum(axis=1), return_counts=True)
        covered[name] = share(int(has_truth.sum()), len(held))
        mean_size[name] = float(held.sum(axis=1).mean())
        sizes[name] = {int(a): int(b) for a, b in zip(size, counts, strict=True)}
    name = next(reversed(covered))
    return LabelSetFacts(
        coverage=label_sets.coverage,
        threshold=label_sets.threshold,
        covered=covered,
        mean_size=mean_size,
        sizes=sizes,
        sentence=(
            f"A label set holds every label of probability {label_sets.threshold:.3f} and more. Stated coverage "
            f"{label_sets.coverage:.1%}: on {name} {covered[name].value:.1%} of the sets hold the true label, with "
            f"{mean_size[name]:.2f} labels on average."
        ),
    )


def _caution(answered: Mapping[str, Answered], task: Task, *, refitted: bool) -> str:
    told = [
        f"Temperature, threshold and label sets were fitted on the {len(answered['valid'])} validation rows, on which "
        "the candidates were compared too: their own figures flatter a little."
    ]
    if refitted:
        told.append(
            "Then the model was trained once more with these rows added. The figures of validation are those of the "
            "model before that; the guarantee of the label sets holds for that one, and test says how it fares since."
        )
    if "test" not in answered:
        told.append("There is no test split, so nothing here was checked on rows that had no part in it.")
    if task == "step":
        told.append("Steps of one sequence resemble each other, so all intervals are narrower than they should be.")
    return " ".join(told)
