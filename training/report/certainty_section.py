"""The page's part on how sure the model is: calibration, abstaining, label sets."""

from __future__ import annotations

from training.report.contents import AbstainingFacts, Report
from training.report.layout import card, cards, note, section, table
from training.report.markup import Child, Markup, element
from training.report.plots import answering_plot, reliability_diagram
from training.report.words import interval, percent


def certainty_section(report: Report) -> Markup:
    """How sure it is."""
    certainty = report.certainty
    return section(
        "certainty",
        "How sure it is",
        cards(_calibration(report), _abstaining(report), _label_sets(report)),
        element("p", certainty.caution, class_="note"),
    )


def _calibration(report: Report) -> Markup:
    certainty, split = report.certainty, report.errors.split
    shown = certainty.calibration[split]
    rows = [
        [name, f"{found.before:.4f}", f"{found.after:.4f}", f"{found.by_chance:.4f}", f"{found.rows:,}"]
        for name, found in certainty.calibration.items()
    ]
    keys = [
        element("span", element("i", class_="key hollow"), "before"),
        element("span", element("i", class_="key c1"), "after"),
        element("span", element("i", class_="key histogram"), "share of answers"),
    ]
    return card(
        f"Calibration, on {split}",
        reliability_diagram(shown.bins_before, shown.bins_after),
        element("p", keys, class_="legend"),
        table(["Expected calibration error", "before", "after", "by chance", "answers"], rows),
        note(
            f"Temperature {certainty.temperature:.3f}. The error is the mean distance of confidence from the share of "
            "right answers, in 15 bins of equal width (Guo et al. 2017). “By chance” is what so many answers "
            "would show if every confidence were exactly right: no error below it means anything."
        ),
    )


def _abstaining(report: Report) -> Markup:
    certainty, split = report.certainty, report.errors.split
    found, chosen = certainty.abstaining, None
    if found and found.answered[split].value is not None and found.precision[split].value is not None:
        chosen = (found.answered[split].value or 0.0, found.precision[split].value or 0.0)
    told: list[Child] = [
        "No target precision was asked for, so nothing is marked as abstained: ",
        element("code", "--target-precision 0.95"),
    ]
    if found:
        told = [found.sentence]
    return card(
        f"Answering the sure ones only, on {split}",
        answering_plot(certainty.answering, found.target_precision if found else None, chosen),
        _precision_table(found) if found and found.threshold is not None else None,
        note(*told),
        note(
            "The threshold is the lowest whose precision on validation is shown by its 90% lower bound (Clopper & "
            "Pearson) to reach the target."
        )
        if found
        else None,
    )


def _precision_table(found: AbstainingFacts) -> Markup:
    rows = [[name, interval(found.answered[name]), interval(found.precision[name])] for name in found.answered]
    return table(["Split", "Answered", f"Right of these, target {percent(found.target_precision)}"], rows)


def _label_sets(report: Report) -> Markup:
    found = report.certainty.label_sets
    rows = [
        [name, interval(covered), f"{found.mean_size[name]:.2f}", _of_size_one(found.sizes[name])]
        for name, covered in found.covered.items()
    ]
    return card(
        "Label sets",
        table(["Split", f"Coverage, stated {percent(found.coverage)}", "Labels a set", "Sets of one"], rows),
        note(found.sentence, " Ask for them with ", element("code", '"label_set": true'), " (split conformal)."),
    )


def _of_size_one(sizes: dict[int, int]) -> str:
    return percent(sizes.get(1, 0) / sum(sizes.values()))
