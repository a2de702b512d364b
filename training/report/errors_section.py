"""The page's part on where the model errs."""

from __future__ import annotations

from collections.abc import Sequence

from training.report.contents import ClassFigures, Confusion, Excerpt, Finding, Report, Suspects
from training.report.layout import bar, card, cards, note, section, table
from training.report.markup import Child, Markup, element
from training.report.plots import length_plot, sparkline
from training.report.words import counted, interval, percent

# Above so many classes the worst come first.
_MANY = 12


def errors_section(report: Report) -> Markup:
    """Where it errs."""
    errors = report.errors
    return section(
        "errors",
        f"Where it errs, on {errors.split}",
        element("p", f"{counted(errors.correct.rows, 'answer')}, right: {interval(errors.correct)}."),
        note(f"Labels that training never saw, counted as wrong: {errors.unseen:,}.") if errors.unseen else None,
        cards(
            _confusion(errors.confusion),
            card(
                "By length",
                length_plot(errors.lengths),
                note("In groups of about as many sequences each, with 95% intervals (Wilson)."),
            ),
            _pairs(errors.confusion),
            _classes(errors.classes),
        ),
        _findings("The most confident mistakes", errors.mistakes),
        _suspects(errors.suspects),
    )


def _confusion(confusion: Confusion) -> Markup:
    totals = [max(1, sum(row)) for row in confusion.counts]
    heads: list[Child] = [element("th", element("span", "labelled ↓ answered →"), scope="col")]
    heads += [element("th", element("span", label), scope="col") for label in confusion.labels]
    rows = [
        element(
            "tr",
            element("th", label, scope="row"),
            [_count(n, n / totals[i], is_right=i == j) for j, n in enumerate(confusion.counts[i])],
        )
        for i, label in enumerate(confusion.labels)
    ]
    grid = element("table", element("thead", element("tr", heads)), element("tbody", rows), class_="confusion")
    left_out = f" {confusion.left_out} labels with fewer mistakes are left out." if confusion.left_out else ""
    return card(
        "Confusion",
        element("div", grid, class_="scroll", tabindex="0"),
        note(f"A row for each true label; the shade is the share of the row.{left_out}"),
        is_wide=len(confusion.labels) > 9,
    )


def _pairs(confusion: Confusion) -> Markup | None:
    rows = [[label, answer, f"{count:,}"] for label, answer, count in confusion.pairs]
    return card("Most confused", table(["Labelled", "Answered", "Times"], rows, words=2)) if rows else None


def _count(count: int, share: float, *, is_right: bool) -> Markup:
    kind = ("right" if is_right else "wrong") + (" strong" if share > 0.75 else "")
    return element("td", count or None, class_=kind, style=f"--share:{share:.3f}")


def _classes(classes: Sequence[ClassFigures]) -> Markup:
    is_many = len(classes) > _MANY
    ordered = sorted(classes, key=lambda c: (c.f1 is None, c.f1 or 0.0)) if is_many else classes
    rows = [
        [c.label, percent(c.precision), percent(c.recall), percent(c.f1), bar(c.f1), f"{c.support:,}"] for c in ordered
    ]
    return card(
        "By class" + (", the worst first" if is_many else ""),
        table(["Class", "Precision", "Recall", "F1", "", "Support"], rows),
        is_wide=is_many,
    )


def _findings(title: str, found: Sequence[Finding], *told: Child) -> Markup:
    shown = element("div", [_finding(each) for each in found], class_="findings")
    return card(title, *told, shown if found else note("There are none."), is_wide=True)


def _suspects(suspects: Suspects) -> Markup:
    if suspects.source == "folds":
        how = (
            f"Every row was answered by one of {suspects.folds} models that were trained without it, and these "
            "answers are confidently another label."
        )
    else:
        how = (
            "From mistakes on validation and test alone, since no cross-validation was run: labels of train were not "
            "looked at, and a model's own weakness looks the same. --folds 5 looks at every row of train."
        )
    rule = (
        f"{counted(suspects.found, 'suspect')} among {counted(suspects.rows, 'answer')}, by confident learning "
        "(Northcutt et al. 2021); the likeliest first."
    )
    return _findings("Labels that may be wrong", suspects.shown, note(how), note(rule))


def _finding(found: Finding) -> Markup:
    place = f"{found.file}, row {found.row}" + ("" if found.step is None else f", step {found.step}")
    return element(
        "article",
        element("div", _item(found.item)),
        element(
            "div",
            element("span", "labelled ", element("b", found.label), f" {percent(found.likelihood)}"),
            element("span", "answered ", element("b", found.answer, class_="answer"), f" {percent(found.confidence)}"),
            element("span", place),
            class_="said",
        ),
    )


def _item(item: Excerpt | None) -> Child:
    if item is None:
        return element("i", "sequence left out")
    if item.series is not None:
        return [sparkline(item.series), element("small", counted(item.timesteps, "timestep"))]
    if item.marked is not None:
        return [item.text, " ", element("mark", item.marked), " ", item.after]
    return item.text if item.text and item.text.strip() else element("i", "an empty text")
