"""The page's first part: which candidate was chosen and why, what it was measured against, how they learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.report.contents import Report
from training.report.layout import bar, card, cards, facts, legend, note, section, table
from training.report.markup import Child, Markup, element
from training.report.plots import Candidate, Points, curves, dependency_plot, history_plot, pareto
from training.report.words import NONE, metric, number, percent, titled

Fields = Mapping[str, Any]


def choice_section(report: Report) -> Markup:
    """The choice."""
    comparison = report.comparison
    return section(
        "choice",
        "The choice",
        element("div", [element("p", sentence) for sentence in comparison["sentences"]], class_="verdict"),
        element("p", "What would change it: ", comparison["hint"]) if comparison["hint"] else None,
        element("p", "The rule, written before looking: ", comparison["rule"], ".", class_="note"),
        cards(_candidates(comparison), _pareto(comparison), _tests(comparison), _dependency(comparison)),
        cards(_search(comparison)) if comparison.get("search") else None,
    )


def curves_section(report: Report) -> Markup | None:
    """How the candidates learnt, epoch by epoch."""
    comparison = report.comparison
    name = comparison["metric"]
    named = {c["name"]: c["curve"] for c in comparison["candidates"] if c["curve"]}
    of_metric = {cell: _points(curve, name) for cell, curve in named.items()}
    losses: dict[str, Points] = {}
    for cell, curve in named.items():
        losses[cell] = _points(curve, "valid_loss")
        losses[f"{cell}, train"] = _points(curve, "train_loss")
    losses = {cell: points for cell, points in losses.items() if points}
    if not any(of_metric.values()) and not losses:
        return None
    title = f"{titled(name)} on validation"
    return section(
        "curves",
        "How they learnt",
        cards(
            card(title, curves(of_metric, title, titled(name).lower(), is_share=True), legend([*named]))
            if any(of_metric.values())
            else None,
            card(
                "Loss",
                curves(losses, "Loss by epoch", "loss", is_share=False),
                legend([*named], element("span", "dashed: train, solid: validation")),
                note("The train loss holds dropout, smoothing and the like, so the two are not on one scale."),
            )
            if losses
            else None,
        ),
    )


def _points(curve: list[Fields], name: str) -> Points:
    return [(float(point["epoch"]), float(point[name])) for point in curve if point.get(name) is not None]


def _candidates(comparison: Fields) -> Markup:
    rows = [_candidate(candidate, comparison) for candidate in comparison["candidates"]]
    names = [*comparison["candidates"][0]["metrics"]]
    heads = ["Candidate", *map(titled, names), "ms", "ms, long", "per second", "Parameters", "MB", "Trained, s"]
    used = [i for i in range(len(heads)) if any(row[i] != NONE for row in rows)]
    seeds = {seed for c in comparison["candidates"] for seed in c.get("seeds") or []}
    told = [f"on {comparison['rows']:,} validation rows" if comparison["rows"] else "on validation"]
    told += [f"{len(seeds)} seeds each"] if len(seeds) > 1 else []
    has_intervals = any(
        figures["low"] is not None for c in comparison["candidates"] for figures in c["metrics"].values()
    )
    latency = comparison["candidates"][0]["latency"]
    if latency.get("engine"):
        told.append(f"times by {latency['engine']} on {latency['device']}, one thread, one sequence of median length")
    return card(
        "Candidates",
        table([heads[i] for i in used], [[row[i] for i in used] for row in rows]),
        note("Measured ", "; ".join(told), ".", " In brackets: 95% bootstrap intervals." if has_intervals else None),
        is_wide=True,
    )


def _candidate(candidate: Fields, comparison: Fields) -> list[Child]:
    latency = candidate["latency"]
    is_chosen = candidate["name"] == comparison["chosen"]
    name = [candidate["name"].upper(), element("span", "chosen", class_="badge") if is_chosen else None]
    if not candidate["in_budget"]:
        name.append(element("span", candidate["why_not"] or "over budget", class_="badge bad"))
    return [
        element("span", *name, class_="named"),
        *(_with_interval(each, figures) for each, figures in candidate["metrics"].items()),
        number(latency.get("single_ms")),
        number(latency.get("single_p95_length_ms")),
        number(latency.get("per_second"), 0),
        number(candidate["parameters"]),
        number(candidate["size_mb"], 1),
        number(candidate["training_seconds"], 0),
    ]


def _with_interval(name: str, figures: Fields) -> Markup:
    bounds = None
    if figures["low"] is not None and figures["high"] is not None:
        bounds = element("small", f"[{metric(name, figures['low'])}, {metric(name, figures['high'])}]")
    return element("span", metric(name, figures["value"]), bounds, class_="stacked")


def _pareto(comparison: Fields) -> Markup:
    name = comparison["metric"]
    candidates = [
        Candidate(
            c["name"],
            c["latency"]["single_ms"],
            c["metrics"][name]["value"],
            c["metrics"][name]["low"],
            c["metrics"][name]["high"],
            c["name"] == comparison["chosen"],
        )
        for c in comparison["candidates"]
        if name in c["metrics"]
    ]
    return card(
        f"{titled(name)} against latency",
        pareto(candidates, titled(name), is_share=True),
        note("Up and to the left is better. Dotted: the Pareto front, whose candidates none beats in both."),
    )


def _tests(comparison: Fields) -> Markup | None:
    if not comparison["tests"]:
        return None
    rows = [
        [
            f"{test['of'][0]} − {test['of'][1]}",
            titled(test["metric"]),
            f"{test['difference']:+.4f}",
            NONE if test["low"] is None else f"[{test['low']:+.4f}, {test['high']:+.4f}]",
            NONE if test["p_value"] is None else f"{test['p_value']:.3f}",
        ]
        for test in comparison["tests"]
    ]
    methods = ", ".join(dict.fromkeys(test["method"] for test in comparison["tests"]))
    return card(
        "Are they apart?",
        table(["Candidates", "Figure", "Difference", "95% interval", "p"], rows, words=2),
        note(f"Paired, on the same rows: {methods}. An interval that holds 0 cannot tell them apart."),
    )


def _dependency(comparison: Fields) -> Markup | None:
    found = comparison.get("dependency")
    if not found or not found["steps"]:
        return None
    title = titled(found["metric"])
    return card(
        "How far back it looks",
        dependency_plot(found["steps"], found["values"], found["full"], title),
        note(found["sentence"], ". " if not found["sentence"].endswith(".") else " ", "Dashed: with all steps."),
    )


def _search(comparison: Fields) -> Child:
    search = comparison["search"]
    importance = sorted((search.get("importance") or {}).items(), key=lambda pair: -pair[1])
    rows = [[name, percent(value, 0), bar(value)] for name, value in importance]
    history = [value for value in search.get("history") or [] if value is not None]
    title = titled(comparison["metric"])
    return [
        card(
            "Search",
            history_plot(search["history"], title) if history else None,
            note(f"{search['trials']} trials, {search['pruned']} of them stopped early; the line is the best so far."),
        ),
        card("What mattered", table(["Setting", "Importance", ""], rows)) if rows else None,
        card("The best settings", facts([(name, str(value)) for name, value in search["best"].items()])),
    ]
