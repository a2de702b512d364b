"""Plots as SVG, in the colours of the page; each says in `aria-label` what it shows.

Coordinates are those of a view of 360 x 230, which is about a phone's width: text keeps its size there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from training.report.contents import Bin, LengthGroup
from training.report.markup import Child, Markup, element
from training.report.words import percent

WIDTH, HEIGHT = 360.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 60.0, 342.0, 12.0, 188.0
COLOURS = 6

Points = Sequence[tuple[float, float]]


class Axis(NamedTuple):
    """Values from `low` to `high` between two coordinates.

    Attributes:
        is_log: whether equal factors are equally far apart.
        is_share: whether ticks are percentages.
        least_step: between ticks.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False
    is_share: bool = False
    least_step: float = 0.0

    def at(self, value: float) -> float:
        """The coordinate of a value."""
        low, high, v = map(math.log, (self.low, self.high, value)) if self.is_log else (self.low, self.high, value)
        return self.start + (v - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Round values along it, about five."""
        if self.is_log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
        else:
            step = max(_round_step((self.high - self.low) / 5), self.least_step)
            first = math.ceil(self.low / step - 1e-9)
            values = [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        return [value for value in values if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]

    def shown(self, value: float) -> str:
        """A tick's text."""
        if not self.is_share:
            return f"{value:g}" if abs(value) < 1e4 else f"{value / 1000:g}k"
        return percent(value, 1 if self.high - self.low < 0.05 else 0)


def x_axis(values: Sequence[float], *, is_log: bool = False, is_share: bool = False) -> Axis:
    """An axis from left to right that holds the values."""
    return Axis(*_range(values, is_log=is_log), LEFT, RIGHT, is_log, is_share)


def y_axis(values: Sequence[float], *, is_share: bool = False) -> Axis:
    """An axis from bottom to top that holds the values."""
    low, high = _range(values)
    if is_share:
        low, high = max(0.0, low), min(1.0, high)
    return Axis(low, high, BOTTOM, TOP, is_share=is_share)


def plot(title: str, x: Axis | None, y: Axis, x_title: str, y_title: str, *marks: Child) -> Markup:
    """Axes with what stands between them; without `x` the marks say what stands where."""
    return element(
        "svg",
        [_y_tick(y, value) for value in y.ticks()],
        [_text(x.at(value), BOTTOM + 16, x.shown(value), "tick middle") for value in x.ticks()] if x else None,
        _line(LEFT, BOTTOM, RIGHT, BOTTOM, "axis"),
        _text((LEFT + RIGHT) / 2, HEIGHT - 8, x_title, "title middle"),
        element("text", y_title, class_="title middle", transform=f"translate(11 {(TOP + BOTTOM) / 2}) rotate(-90)"),
        *marks,
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
        role="img",
        aria_label=title,
        class_="plot",
    )


def line(points: Points, x: Axis, y: Axis, colour: str, *, is_dashed: bool = False) -> Markup:
    """A line through points."""
    path = " ".join(f"{x.at(a):.1f},{y.at(b):.1f}" for a, b in points)
    return element("polyline", points=path, class_=f"line {colour}{' dashed' if is_dashed else ''}")


def dot(x: float, y: float, colour: str, told: str, *, radius: float = 4.5) -> Markup:
    """A mark with a tooltip, at coordinates."""
    return element("circle", element("title", told), cx=x, cy=y, r=radius, class_=f"dot {colour}")


class Curve(NamedTuple):
    """A figure by epoch, of the candidate at a place among all."""

    place: int
    points: Points
    is_dashed: bool = False


def curves(drawn: Sequence[Curve], title: str, y_title: str, *, is_share: bool) -> Markup:
    """Figures by epoch, a colour for each candidate."""
    every = [point for curve in drawn for point in curve.points]
    x, y = _counting(every), y_axis([b for _, b in every], is_share=is_share)
    marks: list[Markup] = []
    for place, points, is_dashed in drawn:
        marks.append(line(points, x, y, colour_of(place), is_dashed=is_dashed))
        if len(points) == 1:
            (epoch, value), *_ = points
            marks.append(dot(x.at(epoch), y.at(value), colour_of(place), f"{value:.4f}", radius=3))
    return plot(title, x, y, "epoch", y_title, *marks)


class Candidate(NamedTuple):
    """What the candidate at a place among all costs, and how good it is, with an interval where that is known."""

    place: int
    name: str
    latency_ms: float
    value: float
    low: float | None
    high: float | None
    is_chosen: bool


def pareto(candidates: Sequence[Candidate], y_title: str, *, is_share: bool) -> Markup:
    """How good against how slow; the line joins those that no other one beats in both."""
    times = [c.latency_ms for c in candidates]
    is_log = max(times) > 8 * min(times)
    x = x_axis([0.8 * min(times), 1.25 * max(times)], is_log=is_log)
    bounds = [v for c in candidates for v in (c.value, c.low, c.high) if v is not None]
    y = y_axis(bounds, is_share=is_share)
    front = sorted((c.latency_ms, c.value) for c in pareto_front(candidates))
    marks: list[Markup] = [line(front, x, y, "front")] if len(front) > 1 else []
    for c in candidates:
        at, colour = (x.at(c.latency_ms), y.at(c.value)), colour_of(c.place)
        if c.low is not None and c.high is not None:
            marks.append(_line(at[0], y.at(c.low), at[0], y.at(c.high), f"bar {colour}"))
        told = f"{c.name}: {c.value:.4f} at {c.latency_ms:.2f} ms"
        if c.is_chosen:
            marks.append(element("circle", cx=at[0], cy=at[1], r=9.0, class_="ring"))
        marks.append(dot(*at, colour, told))
    return plot(f"{y_title} against milliseconds", x, y, "ms for one sequence", y_title, *marks)


def pareto_front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no other one beats in both speed and quality."""
    return [
        c
        for c in candidates
        if not any(
            o.latency_ms <= c.latency_ms and o.value >= c.value and (o.latency_ms, o.value) != (c.latency_ms, c.value)
            for o in candidates
        )
    ]


def reliability_diagram(before: Sequence[Bin], after: Sequence[Bin]) -> Markup:
    """Share of right answers against confidence, before and after the temperature; the bars are shares of answers."""
    x, y = Axis(0, 1, LEFT, RIGHT, is_share=True), Axis(0, 1, BOTTOM, TOP, is_share=True)
    rows = sum(found.rows for found in after)
    bars = [
        element(
            "rect",
            x=x.at(found.low) + 1,
            y=BOTTOM - 40 * found.rows / rows,
            width=x.at(found.high) - x.at(found.low) - 2,
            height=40 * found.rows / rows,
            class_="histogram",
        )
        for found in after
    ]
    diagonal = _line(x.at(0), y.at(0), x.at(1), y.at(1), "reference")
    largest = max(found.rows for found in [*before, *after])
    dots = [
        dot(
            x.at(found.confidence),
            y.at(found.accuracy),
            colour,
            f"confidence {percent(found.confidence)}, right {percent(found.accuracy)}, {found.rows} answers",
            radius=2.5 + 4.5 * math.sqrt(found.rows / largest),
        )
        for bins, colour in ((before, "hollow"), (after, colour_of(0)))
        for found in bins
    ]
    # A bin of a few answers is anywhere; a line through it would draw the eye there.
    firm = [(found.confidence, found.accuracy) for found in after if found.rows >= max(10, rows / 100)]
    joined = line(firm, x, y, colour_of(0))
    return plot(
        "Share of right answers against confidence", x, y, "confidence", "right answers", bars, diagonal, joined, dots
    )


def answering_plot(points: Points, target: float | None, chosen: tuple[float, float] | None) -> Markup:
    """Precision of the answers that are given, by their share; the target, and where the threshold stands."""
    x = Axis(0, 1, LEFT, RIGHT, is_share=True)
    values = [b for _, b in points] + [v for v in (target, chosen[1] if chosen else None) if v is not None]
    y = y_axis(values, is_share=True)
    marks: list[Markup] = []
    if target is not None:
        marks.append(_line(LEFT, y.at(target), RIGHT, y.at(target), "reference"))
        # Precision is highest on the left, so the room below the line is free, unless the axis is there.
        below = y.at(target) + 14
        marks.append(_text(LEFT + 6, below if below < BOTTOM - 4 else below - 20, f"target {percent(target)}", "name"))
    marks.append(line(points, x, y, colour_of(0)))
    if chosen:
        told = f"{percent(chosen[0])} answered, {percent(chosen[1])} of them right"
        marks.append(dot(x.at(chosen[0]), y.at(chosen[1]), colour_of(1), told, radius=6))
    return plot("Precision by share answered", x, y, "share answered", "precision", *marks)


def length_plot(groups: Sequence[LengthGroup]) -> Markup:
    """Share of right answers in each group of lengths, with its interval."""
    bounds = [v for g in groups for v in (g.correct.low, g.correct.high) if v is not None]
    y = y_axis(bounds, is_share=True)
    width = (RIGHT - LEFT) / len(groups)
    marks: list[Markup] = []
    for i, group in enumerate(groups):
        middle, correct = LEFT + (i + 0.5) * width, group.correct
        if correct.value is None or correct.low is None or correct.high is None:
            continue
        name = str(group.low) if group.low == group.high else f"{group.low}–{group.high}"
        told = f"{name} timesteps: {percent(correct.value)} of {correct.rows}"
        marks.append(_line(middle, y.at(correct.low), middle, y.at(correct.high), f"bar {colour_of(0)}"))
        marks.append(dot(middle, y.at(correct.value), colour_of(0), told))
        # Both ends of long ranges would run into each other.
        marks.append(_text(middle, BOTTOM + 16, str(group.high), "tick middle"))
    return plot("Right answers by length", None, y, "timesteps, up to", "right answers", *marks)


def dependency_plot(points: Points, full: float, y_title: str) -> Markup:
    """A metric by how many of the last steps the model sees; dashed where it sees all."""
    steps = [a for a, _ in points]
    x = x_axis(steps, is_log=max(steps) > 8 * min(steps))
    y = y_axis([*(b for _, b in points), full], is_share=True)
    reference = _line(LEFT, y.at(full), RIGHT, y.at(full), "reference")
    dots = [dot(x.at(a), y.at(b), colour_of(0), f"{a:g} steps: {percent(b)}", radius=3) for a, b in points]
    joined = line(points, x, y, colour_of(0))
    return plot(f"{y_title} by steps seen", x, y, "steps seen", y_title, reference, joined, dots)


def history_plot(values: Sequence[float | None], y_title: str) -> Markup:
    """The figure of each trial of a search, and the best so far."""
    trials = [(float(i), value) for i, value in enumerate(values, 1) if value is not None]
    x, y = _counting(trials), y_axis([b for _, b in trials], is_share=True)
    best = [(a, max(value for _, value in trials[: i + 1])) for i, (a, _) in enumerate(trials)]
    dots = [dot(x.at(a), y.at(b), "hollow", f"trial {a:g}: {percent(b)}", radius=3) for a, b in trials]
    return plot(f"{y_title} by trial", x, y, "trial", y_title, dots, line(best, x, y, colour_of(0)))


def sparkline(channels: Sequence[Sequence[float | None]]) -> Markup:
    """A few short series, each in its own range; a gap where a reading is missing."""
    width, height = 220.0, 36.0
    lines: list[Markup] = []
    for i, channel in enumerate(channels):
        known = [v for v in channel if v is not None]
        if not known:
            continue
        low, span = min(known), (max(known) - min(known)) or 1.0
        step = width / max(1, len(channel) - 1)
        at = [
            None if v is None else (j * step, height - 3 - (v - low) / span * (height - 6))
            for j, v in enumerate(channel)
        ]
        for run in _runs(at):
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in run)
            lines.append(element("polyline", points=path, class_=f"line thin {colour_of(i)}"))
    return element(
        "svg",
        lines,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_label="the series",
        class_="sparkline",
        preserveAspectRatio="xMinYMid",
    )


def colour_of(index: int) -> str:
    """The colour class of the candidate, or channel, at this place."""
    return f"c{index % COLOURS + 1}"


def _runs(points: Sequence[tuple[float, float] | None]) -> list[list[tuple[float, float]]]:
    """The stretches of points between gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _counting(points: Points) -> Axis:
    """The axis of epochs or trials, which are whole."""
    return x_axis([a for a, _ in points])._replace(least_step=1.0)


def _range(values: Sequence[float], *, is_log: bool = False) -> tuple[float, float]:
    low, high = min(values), max(values)
    if is_log:
        return (low, high) if high > low else (low / 2, high * 2)
    margin = 0.06 * (high - low) if high > low else max(abs(high) * 0.02, 0.01)
    return low - margin, high + margin


def _round_step(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= step * (1 - 1e-9))


def _y_tick(y: Axis, value: float) -> Markup:
    at = y.at(value)
    return Markup(_line(LEFT, at, RIGHT, at, "grid") + _text(LEFT - 6, at + 4, y.shown(value), "tick end"))


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=kind)


def _text(x: float, y: float, text: str, kind: str) -> Markup:
    return element("text", text, x=x, y=y, class_=kind)
