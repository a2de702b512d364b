"""The page's last parts: the data, the recipe, and how to make the model again."""

from __future__ import annotations

from training.plan import shown
from training.report.contents import Report
from training.report.layout import card, cards, facts, note, section, table
from training.report.markup import Markup, element
from training.report.words import NONE, counted

_CLASSES = 40


def data_section(report: Report) -> Markup:
    """What it learnt from."""
    data = report.data
    conflicts = f"{counted(data.conflicts, 'content')} in train with labels that disagree."
    return section(
        "data",
        "Data",
        cards(
            card(
                "Splits",
                table(
                    ["Split", "Rows", "Length", "Repeats in it", "Also in train"],
                    [
                        [
                            element("span", name, element("small", split.file), class_="stacked"),
                            f"{split.rows:,}",
                            f"{split.lengths[0]:,}–{split.lengths[3]:,}, median {split.lengths[1]:,}",
                            f"{split.repeats:,}",
                            NONE if name == "train" else f"{split.in_train:,}",
                        ]
                        for name, split in data.splits.items()
                    ],
                ),
                note("Lengths in characters of a text, tokens or timesteps. ", conflicts),
                [note(each) for each in data.notes],
                is_wide=True,
            ),
            _classes(report),
        ),
    )


def _classes(report: Report) -> Markup:
    splits = report.data.splits
    labels = list(dict.fromkeys(label for split in splits.values() for label in split.classes))
    rows = [[label, *(f"{split.classes.get(label, 0):,}" for split in splits.values())] for label in labels[:_CLASSES]]
    more = len(labels) - _CLASSES
    return card(
        "Labels",
        table(["Label", *splits], rows),
        note(f"And {counted(more, 'rarer label')}.") if more > 0 else None,
    )


def recipe_section(report: Report) -> Markup:
    """How it was trained, each choice with its reason."""
    choices = [
        element(
            "div", element("code", choice.name), element("b", choice.value or "none"), element("small", choice.reason)
        )
        for choice in report.recipe
    ]
    return section(
        "recipe",
        "Recipe",
        card("What was set, and why", element("div", choices, class_="settings"), is_wide=True),
    )


def origin_section(report: Report) -> Markup:
    """How to make it again."""
    return section(
        "origin",
        "Making it again",
        element("pre", element("code", report.command)),
        note(
            "Files are named without their folders. The same files give this fingerprint of data and settings: ",
            element("code", report.data.fingerprint),
        ),
        cards(
            card("Environment", facts([(name, value) for name, value in report.environment.items()])),
            card("Network", facts([(name, shown(value)) for name, value in report.model.architecture.items()])),
        ),
    )
