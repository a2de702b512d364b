"""HTML and SVG from Python: whatever is not markup already is escaped, so nothing out of the data can become a tag."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML, and needs no escaping."""

    __slots__ = ()


Child = str | int | float | None | Iterable["Child"]


def element(tag: str, *children: Child, **attributes: str | float | None) -> Markup:
    """An element; children are escaped unless they are markup, and left out where None.

    Args:
        attributes: a trailing underscore is dropped, another one is a hyphen; None leaves the attribute out.
    """
    named = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items() if value is not None}
    opened = "".join(f' {name}="{escape(_text(value))}"' for name, value in named.items())
    return Markup(f"<{tag}{opened}>{fragment(*children)}</{tag}>")


def fragment(*children: Child) -> Markup:
    """Children one after another, escaped unless they are markup."""
    return Markup("".join(map(_child, children)))


def _child(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, str | int | float):
        return escape(_text(child))
    return fragment(*child)


def _text(value: str | float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
