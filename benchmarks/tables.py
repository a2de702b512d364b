"""Figures as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def table(head: list[str], lines: Iterable[list[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def median_range(values: Sequence[float], form: str) -> str:
    """Median and, where there are several, smallest and largest."""
    if not values:
        return "-"
    middle = format(float(np.median(values)), form)
    return middle if len(values) == 1 else f"{middle} ({format(min(values), form)}-{format(max(values), form)})"


def mean_deviation(values: Sequence[float], form: str) -> str:
    """Mean and, where there are several, the standard deviation of one of them."""
    if not values:
        return "-"
    mean = format(float(np.mean(values)), form)
    return mean if len(values) == 1 else f"{mean} ± {format(float(np.std(values, ddof=1)), form.lstrip('+'))}"
