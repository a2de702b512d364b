"""Candidates -> one choice, by a rule that is written, and said, before anything is measured."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gatewise.architecture import Cell
from gatewise.errors import InvalidConfig
from training.resampling import PairedTest

# Medians of so short a time differ by a third from one minute to the next; a choice must not hang on that.
CLEARLY_FASTER = 1.5


@dataclass(frozen=True)
class Budgets:
    """What a model may cost to serve; None where it may cost anything.

    Attributes:
        max_latency_ms: of one sequence alone, as long as the 95th percentile of the data.
        max_size_mb: of the artifact.
        needs_streaming: whether the model must answer a sequence as it comes.
    """

    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    needs_streaming: bool = False

    def why_not(self, latency_ms: float, size_mb: float, *, can_stream: bool) -> str | None:
        """What a model with these figures breaks; None where it is within."""
        broken = []
        if self.max_latency_ms is not None and latency_ms > self.max_latency_ms:
            broken.append(f"takes {latency_ms:.3g} ms of max_latency_ms {self.max_latency_ms:g}")
        if self.max_size_mb is not None and size_mb > self.max_size_mb:
            broken.append(f"has {size_mb:.3g} MB of max_size_mb {self.max_size_mb:g}")
        if self.needs_streaming and not can_stream:
            broken.append("cannot stream: a part of it waits for the sequence's end")
        return " and ".join(broken) or None

    def over(self, latency_ms: float, size_mb: float, *, can_stream: bool) -> float:
        """How far a model is from being within: the largest share of a budget that it takes."""
        if self.needs_streaming and not can_stream:
            return math.inf
        return max(latency_ms / (self.max_latency_ms or math.inf), size_mb / (self.max_size_mb or math.inf))

    def in_words(self) -> str:
        """The budgets for a line."""
        told = []
        if self.max_latency_ms is not None:
            told.append(f"at most {self.max_latency_ms:g} ms for a long sequence")
        if self.max_size_mb is not None:
            told.append(f"at most {self.max_size_mb:g} MB")
        if self.needs_streaming:
            told.append("able to stream")
        return ", ".join(told)


@dataclass(frozen=True)
class Entry:
    """What the rule knows of a candidate.

    Attributes:
        title: what the candidate is called in a sentence.
        score: of the figure that the job goes by, on validation; the mean over seeds.
        latency_ms: of one sequence of median length alone in its batch.
        why_not: what it breaks of the budgets; None where it is within.
        over: the largest share of a budget that it takes.
    """

    name: str
    title: str
    cell: Cell
    score: float
    log_loss: float
    latency_ms: float
    why_not: str | None = None
    over: float = 0.0


@dataclass(frozen=True)
class Decision:
    """Which candidate, by which rule, and why.

    Attributes:
        sentences: which and why, in two plain sentences; `reason` has the figures in one.
    """

    cell: Cell
    rule: str
    reason: str
    name: str
    sentences: tuple[str, ...] = ()


def rule_in_words(monitor: str, budgets: Budgets = Budgets(), *, seeds: int = 1) -> str:
    """The rule, as it is said before anything is measured."""
    within = f"of the candidates within the budgets ({budgets.in_words()}), " if budgets.in_words() else ""
    over = (
        f"; a candidate is judged by its {seeds} seeds together, and of the chosen one the seed that is best by "
        f"{monitor}, then by log-loss, is kept"
    )
    return (
        f"{within}the one with the best {monitor} on validation; where the rows cannot tell others from it (p above "
        "0.05, or a 95% interval of the difference that holds 0), of all these the one that answers faster by half or "
        f"more, and where none does, the best of them by {monitor} and then by log-loss{over if seeds > 1 else ''}"
    )


def ranked(entries: Sequence[Entry]) -> list[Entry]:
    """The candidates within the budgets, the best first.

    Raises:
        InvalidConfig: none is, with the nearest and what to change.
    """
    within = [entry for entry in entries if entry.why_not is None]
    if not within:
        nearest = min(entries, key=lambda entry: entry.over)
        raise InvalidConfig(
            f"no candidate is within the budgets; the nearest, {nearest.title}, {nearest.why_not}. Give a larger "
            "budget with --resume, which trains nothing again, or smaller models: --sizes 32,64, or --set max_length=N"
        )
    return sorted(within, key=lambda entry: (-entry.score, entry.log_loss))


def choose(entries: Sequence[Entry], tests: Sequence[PairedTest], monitor: str, rule: str, rows: int) -> Decision:
    """Apply the rule.

    Args:
        tests: by `monitor`, of the best candidate within the budgets against each other one.
        rows: of validation.
    Raises:
        InvalidConfig: no candidate is within the budgets.
    """
    best, *others = ranked(entries)
    if not others:
        return _only(best, entries, monitor, rule, rows)
    clear = {name for test in tests if test.is_clear for name in test.of}
    tied = [best, *(entry for entry in others if entry.name not in clear)]
    against = f"{best.title} reaches {monitor} {best.score:.4f} on {rows} held-out rows, {_each(others)}"
    if len(tied) == 1:
        return _better(best, others, against, monitor, rule)
    fastest, slowest = (pick(tied, key=lambda entry: entry.latency_ms) for pick in (min, max))
    close = f"By {monitor}, {rows} held-out rows cannot tell {_each(tied)} apart"
    chosen, *_ = quick = [entry for entry in tied if entry.latency_ms < CLEARLY_FASTER * fastest.latency_ms]
    if len(quick) < len(tied):
        times = _times(chosen, slowest)
        reason = f"{against}: too close to tell apart, and {times}"
        sentences = (f"{close}.", f"{chosen.title} is chosen because it is clearly the faster one: {times}.")
    else:
        times = _times(fastest, slowest)
        reason = f"{against}: too close to tell apart, and in time as well ({times})"
        sentences = (
            f"{close}, nor does their speed ({times}).",
            f"{chosen.title} is chosen by {monitor}, then log-loss, though chance may explain that: either will do.",
        )
    return Decision(chosen.cell, rule, reason, chosen.name, sentences)


def _only(one: Entry, entries: Sequence[Entry], monitor: str, rule: str, rows: int) -> Decision:
    others = "; ".join(f"{entry.title} {entry.why_not}" for entry in entries if entry.why_not)
    reason = f"{one.title} was the only candidate" + (f" within the budgets: {others}" if others else "")
    figures = f"It reaches {monitor} {one.score:.4f} on {rows} held-out rows and answers in {one.latency_ms:.2f} ms."
    return Decision(one.cell, rule, reason, one.name, (f"{reason}.", figures))


def _better(best: Entry, others: Sequence[Entry], against: str, monitor: str, rule: str) -> Decision:
    margin = best.score - others[0].score
    sentences = (
        f"{best.title} is chosen because it classifies better: {against}, and chance does not explain that.",
        f"It answers one sequence in {best.latency_ms:.2f} ms ("
        + ", ".join(f"{entry.title}: {entry.latency_ms:.2f} ms" for entry in others)
        + ").",
    )
    return Decision(best.cell, rule, f"{against}: more than chance explains ({margin:+.4f})", best.name, sentences)


def _each(entries: Sequence[Entry]) -> str:
    *told, last = (f"{entry.title} {entry.score:.4f}" for entry in entries)
    return f"{', '.join(told)} and {last}" if told else last


def _times(faster: Entry, slower: Entry) -> str:
    return f"{faster.title} answers in {faster.latency_ms:.2f} ms where {slower.title} takes {slower.latency_ms:.2f} ms"
