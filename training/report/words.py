"""Figures as a reader wants them."""

from __future__ import annotations

from training.report.contents import Share

METRICS = {"accuracy": "Accuracy", "macro_f1": "Macro F1", "span_f1": "Span F1", "log_loss": "Log-loss"}
NONE = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage; a dash for None."""
    return NONE if value is None else f"{value * 100:.{digits}f}%"


def interval(share: Share) -> str:
    """A share with its interval."""
    if share.value is None:
        return NONE
    return f"{percent(share.value)} ({percent(share.low)} to {percent(share.high)})"


def metric(name: str, value: float | None) -> str:
    """A metric's value: shares in percent, losses as they are."""
    if value is None:
        return NONE
    return f"{value:.3f}" if name.endswith("loss") else percent(value)


def titled(name: str) -> str:
    """A metric's title."""
    return METRICS.get(name, name.replace("_", " "))


def number(value: float | None, digits: int = 2) -> str:
    """A number; thousands apart, a dash for None."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def compact(count: int) -> str:
    """A large number in thousands or millions."""
    if count < 1e4:
        return f"{count:,}"
    return f"{count / 1e3:.0f}k" if count < 1e6 else f"{count / 1e6:.1f}M"


def counted(count: int, noun: str, nouns: str = "") -> str:
    """A number of things; `nouns` where an s does not make many of one."""
    return f"{count:,} {noun if count == 1 else nouns or f'{noun}s'}"
