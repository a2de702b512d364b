"""Champion and challenger on the same held-out rows -> whether the challenger may take the champion's place.

The rule, of which a record keeps every figure:

1. The challenger loads: its checksums hold and its golden items give their logits again.
2. It knows every class that the champion knows.
3. On the test rows, and on the held-out feedback apart, it is not worse: the 95% bootstrap interval of the difference
   in the figure that the champion was chosen by does not lie wholly below 0.
4. On each of them no class's recall falls: by more than the margin, and by more than chance explains. Chance is an
   exact sign test of the rows of the class that one of the two has right and the other wrong (of a per-step model, of
   the sequences), at 5% for all K classes together: 5%/K each. So a class of few rows refuses nothing by itself, and
   the record says which those are.
5. It answers a long sequence within the budget that was given in training, and where there was none in at most
   `max_slowdown` times the champion's time.

K classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from gatewise.artifact import Artifact
from gatewise.errors import GatewiseError
from gatewise.predictor import Predictor
from training.answers import Answered, answer_all
from training.dataset import Dataset
from training.evaluation import scores_of
from training.latency import measure_long
from training.resampling import FEWEST_ROWS, paired_test

LEVEL = 0.05
TEST, FEEDBACK = "test", "feedback"


@dataclass(frozen=True)
class Rules:
    """What a challenger may cost.

    Attributes:
        recall_margin: by how much a class's recall may fall.
        max_latency_ms: of a long sequence; None for none but `max_slowdown`.
        max_slowdown: the champion's time, so often.
    """

    recall_margin: float = 0.05
    max_latency_ms: float | None = None
    max_slowdown: float = 2.0


@dataclass(frozen=True)
class Check:
    """One rule, whether it holds, and the figures by which it does or does not."""

    name: str
    passed: bool
    told: str
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes:
        reason: why, in a sentence.
    """

    passed: bool
    reason: str
    checks: list[Check]

    def account(self) -> dict[str, Any]:
        """JSON only."""
        return asdict(self)


def judge(
    champion: Predictor,
    challenger: Path,
    rows: Mapping[str, Dataset],
    monitor: str,
    rules: Rules,
    say: Callable[[str], None] = print,
) -> Verdict:
    """Hold a challenger to the rule.

    Args:
        challenger: its folder, which may be damaged.
        rows: by `TEST` and `FEEDBACK`; neither model has learnt from any.
        monitor: what the champion was chosen by.
    """
    checks: list[Check] = []

    def add(check: Check) -> bool:
        checks.append(check)
        say(f"  {'passed ' if check.passed else 'REFUSED'} {check.name}: {check.told}")
        return check.passed

    try:
        ours = Predictor.load(challenger)
    except GatewiseError as error:
        add(Check("golden items", False, f"the challenger cannot be used: {error.message}"))
        return _verdict(checks)
    add(Check("golden items", True, f"{len(Artifact(challenger).golden())} give their logits again"))
    if not add(_check_classes(champion, ours)):
        return _verdict(checks)
    if all(len(part) < FEWEST_ROWS for part in rows.values()):
        add(Check("rows", False, "there are no held-out rows to compare on; give a test file, or more feedback"))
    for name, part in rows.items():
        theirs, mine = (_widened(answer_all(one, [part]), champion, ours) for one in (champion, ours))
        add(compare_overall(name, theirs, mine, monitor))
        add(compare_recalls(name, theirs, mine, rules.recall_margin))
    if rows:
        add(_check_latency(champion, ours, next(iter(rows.values())), rules))
    return _verdict(checks)


def _verdict(checks: list[Check]) -> Verdict:
    failed = [check for check in checks if not check.passed]
    if failed:
        return Verdict(False, "; ".join(f"{check.name}: {check.told}" for check in failed), checks)
    overall = [check.told for check in checks if check.name.startswith("overall")]
    return Verdict(True, f"not worse: {'; '.join(overall)}", checks)


def _check_classes(champion: Predictor, challenger: Predictor) -> Check:
    theirs, ours = champion.manifest.labels, challenger.manifest.labels
    missing, new = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    told = f"it lacks {', '.join(map(repr, missing))}" if missing else f"all {len(theirs)} of the champion's"
    if new:
        told += f", and {', '.join(map(repr, new))} more"
    return Check("classes", not missing, told, {"missing": missing, "new": new})


def compare_overall(name: str, theirs: Answered, ours: Answered, monitor: str) -> Check:
    """Rule 3, on rows that both have answered."""
    champion, challenger = scores_of(theirs), scores_of(ours)
    test = paired_test(("challenger", "champion"), monitor, [challenger.tallies[monitor]], [champion.tallies[monitor]])
    worse = test.high is not None and test.high < 0
    between = "too few to tell" if test.low is None else f"95% interval {test.low:+.4f} to {test.high:+.4f}"
    told = (
        f"{monitor} {challenger.metrics[monitor]:.4f} against {champion.metrics[monitor]:.4f} on {len(ours)} rows of "
        f"{name} ({test.difference:+.4f}, {between})"
    )
    figures = {
        "rows": len(ours),
        "metric": monitor,
        "champion": champion.metrics,
        "challenger": challenger.metrics,
        "difference": test.difference,
        "low": test.low,
        "high": test.high,
    }
    return Check(f"overall on {name}", not worse, told, figures)


def compare_recalls(name: str, theirs: Answered, ours: Answered, margin: float) -> Check:
    """Rule 4, on rows that both have answered with the same classes."""
    level = LEVEL / len(ours.labels)
    classes: list[dict[str, Any]] = []
    for k, label in enumerate(ours.labels):
        of_class = ours.expected == k
        if not of_class.any():
            continue
        recalls = [float((one.answers == k)[of_class].mean()) for one in (theirs, ours)]
        lost, gained = _moved(theirs, ours, of_class)
        p_value = float(binom.sf(lost - 1, lost + gained, 0.5))
        classes.append(
            {
                "label": label,
                "count": int(of_class.sum()),
                "champion": recalls[0],
                "challenger": recalls[1],
                "lost": lost,
                "gained": gained,
                "p_value": p_value,
                "fell": recalls[0] - recalls[1] > margin and p_value < level,
                "can_refuse": len(np.unique(ours.places[of_class, 0])) >= math.ceil(-math.log2(level)),
            }
        )
    fallen = [one for one in classes if one["fell"]]
    if fallen:
        told = ", ".join(
            f"{one['label']!r} from {one['champion']:.3f} to {one['challenger']:.3f} of {one['count']} on {name}"
            for one in fallen
        )
    else:
        worst = min(classes, key=lambda one: one["challenger"] - one["champion"], default=None)
        few = sum(not one["can_refuse"] for one in classes)
        told = f"none falls by more than {margin:g} and chance" + (f"; {few} have too few rows to tell" if few else "")
        if worst and worst["challenger"] < worst["champion"]:
            told += f"; most {worst['label']!r}, {worst['champion']:.3f} to {worst['challenger']:.3f}"
    figures = {"margin": margin, "level": level, "classes": classes}
    return Check(f"recall on {name}", not fallen, told, figures)


def _moved(theirs: Answered, ours: Answered, of_class: NDArray[np.bool_]) -> tuple[int, int]:
    """Sequences in which the challenger has fewer answers of the class right than the champion, and more."""
    sequence = ours.places[of_class, 0]
    change = ours.correct[of_class].astype(np.int64) - theirs.correct[of_class]
    change = np.bincount(sequence, weights=change)
    return int((change < 0).sum()), int((change > 0).sum())


def _check_latency(champion: Predictor, challenger: Predictor, rows: Dataset, rules: Rules) -> Check:
    theirs, ours = (measure_long(one, rows.items) for one in (champion, challenger))
    budget = rules.max_latency_ms or rules.max_slowdown * theirs
    whose = "max_latency_ms" if rules.max_latency_ms else f"{rules.max_slowdown:g} times the champion's {theirs:.2f} ms"
    told = f"{ours:.2f} ms for a long sequence, and the budget is {budget:.2f} ms ({whose})"
    return Check("latency", ours <= budget, told, {"champion_ms": theirs, "challenger_ms": ours, "budget_ms": budget})


def _widened(answered: Answered, champion: Predictor, challenger: Predictor) -> Answered:
    """Answers of either model as ones among the classes of both."""
    labels = tuple(sorted({*champion.manifest.labels, *challenger.manifest.labels}))
    column = np.array([labels.index(label) for label in answered.labels])

    def wide(p: NDArray[np.float64]) -> NDArray[np.float64]:
        filled = np.zeros((len(p), len(labels)))
        filled[:, column] = p
        return filled

    return replace(
        answered,
        labels=labels,
        classes=[column[row] for row in answered.classes],
        probabilities=[wide(p) for p in answered.probabilities],
    )
