"""The page's building blocks: sections, figures, tables."""

from __future__ import annotations

from collections.abc import Sequence

from training.report.markup import Child, Markup, element
from training.report.plots import colour_of


def section(name: str, title: str, *children: Child) -> Markup:
    """A section with a heading that the contents lead to."""
    return element("section", element("h2", title), *children, id=name)


def card(title: str, *children: Child, is_wide: bool = False) -> Markup:
    """A part of a section; a wide one takes the whole line."""
    return element("div", element("h3", title), *children, class_="card wide" if is_wide else "card")


def cards(*children: Child) -> Markup:
    """Cards side by side where there is room."""
    return element("div", *children, class_="cards")


def note(*children: Child) -> Markup:
    """A sentence below a figure."""
    return element("p", *children, class_="note")


def legend(named: Sequence[tuple[int, str]], *more: Child) -> Markup:
    """Which colour is whose: places among all candidates, with what to call them."""
    keys = [element("span", element("i", class_=f"key {colour_of(place)}"), name) for place, name in named]
    return element("p", keys, *more, class_="legend")


def table(heads: Sequence[Child], rows: Sequence[Sequence[Child]], *, words: int = 1) -> Markup:
    """A table, wider than the page at need; all columns but the first `words` are figures."""
    head = element("tr", [element("th", name, class_=_kind(i, words), scope="col") for i, name in enumerate(heads)])
    body = [element("tr", [element("td", cell, class_=_kind(i, words)) for i, cell in enumerate(row)]) for row in rows]
    return element(
        "div", element("table", element("thead", head), element("tbody", body)), class_="scroll", tabindex="0"
    )


def facts(pairs: Sequence[tuple[str, Child]]) -> Markup:
    """Names with their values."""
    return element("dl", [(element("dt", name), element("dd", value)) for name, value in pairs])


def bar(share: float | None) -> Markup | None:
    """A share as a short bar."""
    return None if share is None else element("span", class_="meter", style=f"--share:{share:.3f}")


def _kind(column: int, words: int) -> str | None:
    return None if column < words else "figure"
