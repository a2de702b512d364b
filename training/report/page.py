"""The report as one HTML page that needs nothing else: no script, no font, no request."""

from __future__ import annotations

from importlib.resources import files

from training.report.certainty_section import certainty_section
from training.report.choice_section import choice_section, curves_section
from training.report.contents import Report
from training.report.errors_section import errors_section
from training.report.markup import Markup, element, fragment
from training.report.origin_section import data_section, origin_section, recipe_section
from training.report.words import compact, counted, interval, metric, number, titled

_CONTENTS = {
    "choice": "Choice",
    "curves": "Learning",
    "certainty": "Certainty",
    "errors": "Errors",
    "data": "Data",
    "recipe": "Recipe",
    "origin": "Again",
}
# Whatever stands in the data, nothing is loaded and nothing runs.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(report: Report) -> str:
    """The whole page."""
    sections = {
        "choice": choice_section(report),
        "curves": curves_section(report),
        "certainty": certainty_section(report),
        "errors": errors_section(report),
        "data": data_section(report),
        "recipe": recipe_section(report),
        "origin": origin_section(report),
    }
    links = [element("a", _CONTENTS[name], href=f"#{name}") for name, content in sections.items() if content]
    head = fragment(
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        element("title", f"{report.model.name}: report"),
        element("style", Markup(files(__package__).joinpath("style.css").read_text(encoding="utf-8"))),
    )
    body = element("body", _header(report), element("nav", links), element("main", *sections.values()), _footer(report))
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>{body}</html>\n'


def _header(report: Report) -> Markup:
    model = report.model
    what = "one label for each step" if model.task == "step" else "one label for each"
    of = "texts" if model.kind == "text" else "time series"
    told = f"{model.cell.upper()} for {of}, {what}, {counted(len(model.labels), 'class', 'classes')}"
    return element(
        "header",
        element("p", "Gatewise report", class_="kicker"),
        element("h1", model.name),
        element("p", told, f" · made {model.created_at[:10]} with Gatewise {model.gatewise_version}"),
        element("div", _tiles(report), class_="tiles"),
    )


def _tiles(report: Report) -> list[Markup]:
    split = report.errors.split
    metrics = report.metrics[split]
    chosen = next(c for c in report.comparison["candidates"] if c["name"] == report.comparison["chosen"])
    told = {"accuracy": interval(report.errors.correct).partition("(")[2].rstrip(")")}
    tiles = [_tile(titled(name), metric(name, value), told.get(name, f"on {split}")) for name, value in metrics.items()]
    error = report.certainty.calibration[split].after
    latency = chosen["latency"].get("single_ms")
    return [
        *tiles,
        _tile("Calibration error", f"{error:.3f}", f"on {split}"),
        _tile("One answer", f"{number(latency)} ms", "alone, median length"),
        _tile("Parameters", compact(report.model.parameters), "weights"),
    ]


def _tile(name: str, value: str, told: str) -> Markup:
    return element("div", element("span", name), element("strong", value), element("small", told), class_="tile")


def _footer(report: Report) -> Markup:
    return element(
        "footer",
        "The same figures for programs: ",
        element("code", "report.json"),
        "; in words: ",
        element("code", "model_card.md"),
        f"; both beside this page in the artifact of {report.model.name}.",
    )
