"""The model card in Markdown, under the headings of Mitchell et al. 2019."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from training.report.contents import Report
from training.report.words import counted, interval, metric, number, percent, titled

# What Markdown and the HTML in it would read as their own.
_SPECIAL = str.maketrans({c: f"\\{c}" for c in "\\`*_[]|#"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})


def model_card(report: Report) -> str:
    """The whole card."""
    parts = [
        f"# {plain(report.model.name)}",
        *_section("Model details", _details(report)),
        *_section("Intended use", _use(report)),
        *_section("Metrics", _metrics(report)),
        *_section("Evaluation data", [_split(report, report.errors.split)]),
        *_section("Training data", [_split(report, "train"), *map(plain, report.data.notes)]),
        *_section("Quantitative analyses", _analyses(report)),
        *_section("Ethical considerations", _considerations(report)),
        *_section("Caveats and recommendations", _caveats(report)),
    ]
    return "\n\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Text whose characters mean nothing to Markdown, on one line."""
    return " ".join(text.split()).translate(_SPECIAL)


def _section(title: str, parts: Iterable[str]) -> list[str]:
    return [f"## {title}", *parts]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _details(report: Report) -> list[str]:
    model = report.model
    what = "each step of a sequence" if model.task == "step" else "a sequence"
    return [
        f"{'An LSTM' if model.cell == 'lstm' else 'A GRU'} classifier of {model.kind}: it gives {what} one of "
        f"{counted(len(model.labels), 'label')}. {number(model.parameters)} parameters. Made {model.created_at} with "
        f"Gatewise {model.gatewise_version}.",
        *map(plain, report.comparison["sentences"]),
        "Made by:",
        f"```\n{report.command}\n```",
    ]


def _use(report: Report) -> list[str]:
    labels = ", ".join(plain(label) for label in report.model.labels[:30])
    more = f" and {len(report.model.labels) - 30} more" if len(report.model.labels) > 30 else ""
    return [
        f"To label sequences like those it was trained on. It knows these labels alone: {labels}{more}. A sequence of "
        "another kind gets one of them all the same; a low confidence, or an abstained answer, is the only sign."
    ]


def _metrics(report: Report) -> list[str]:
    names = list(dict.fromkeys(name for figures in report.metrics.values() for name in figures))
    rows = [
        [split.replace("_", " "), *(metric(name, figures.get(name)) for name in names)]
        for split, figures in report.metrics.items()
    ]
    return [_table(["Split", *map(titled, names)], rows)]


def _split(report: Report, name: str) -> str:
    split = report.data.splits[name]
    leaked = f" {counted(split.in_train, 'sequence')} of it stand in train too." if split.in_train else ""
    return (
        f"{plain(split.file)}: {counted(split.rows, 'sequence')}, {split.lengths[0]} to {split.lengths[3]} long "
        f"(median {split.lengths[1]}), of {counted(len(split.classes), 'label')}.{leaked}"
    )


def _analyses(report: Report) -> list[str]:
    certainty, split = report.certainty, report.errors.split
    found = certainty.calibration[split]
    rows = [
        [plain(c.label), percent(c.precision), percent(c.recall), percent(c.f1), str(c.support)]
        for c in report.errors.classes
    ]
    told = [
        f"Right answers on {split}: {interval(report.errors.correct)}.",
        f"Expected calibration error on {split}: {found.before:.4f} before the temperature, {found.after:.4f} after it "
        f"({found.by_chance:.4f} by chance alone).",
        certainty.abstaining.sentence if certainty.abstaining else "No target precision was asked for.",
        certainty.label_sets.sentence,
        _table(["Class", "Precision", "Recall", "F1", "Support"], rows),
    ]
    pairs = [f"{plain(a)} taken for {plain(b)} ({n})" for a, b, n in report.errors.confusion.pairs[:5]]
    return [*told, f"Most frequent mistakes: {'; '.join(pairs)}."] if pairs else told


def _considerations(report: Report) -> list[str]:
    return [
        "The model repeats what its labels say, and their mistakes with it. Gatewise does not know whom the answers "
        "touch: measure the model on each group of people that it will be used on before it decides anything about "
        "them. The report beside this card may show sequences of the data."
    ]


def _caveats(report: Report) -> list[str]:
    suspects = report.errors.suspects
    how = f"cross-validation in {suspects.folds} folds" if suspects.source == "folds" else "held-out mistakes alone"
    return [
        report.certainty.caution,
        f"{counted(suspects.found, 'label')} of {suspects.rows:,} may be wrong, by {how}; the report lists the first.",
    ]
