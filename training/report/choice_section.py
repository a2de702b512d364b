"""The page's first part: which candidate was chosen and why, what it was measured against, how they learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.report.contents import Report
from training.report.layout import bar, card, cards, facts, legend, note, section, table
from training.report.markup import Child, Markup, element
from training.report.plots import Candidate, Curve, curves, dependency_plot, history_plot, pareto
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
        note("The rule, written before looking: ", comparison["rule"].rstrip("."), "."),
        cards(_candidates(comparison), _pareto(comparison), _tests(comparison), _dependency(comparison)),
        cards(_search(comparison)) if comparison["search"] else None,
    )


def curves_section(report: Report) -> Markup | None:
    """How the candidates learnt, epoch by epoch."""
    candidates, metric_name = report.comparison["candidates"], report.comparison["metric"]
    learnt = [(place, c["name"].upper(), c["curve"]) for place, c in enumerate(candidates) if c["curve"]]
    names = [(place, name) for place, name, _ in learnt]
    of_metric = _curves(learnt, metric_name)
    losses = _curves(learnt, "train_loss", is_dashed=True) + _curves(learnt, "valid_loss")
    if not of_metric and not losses:
        return None
    title = f"{titled(metric_name)} on validation"
    return section(
        "curves",
        "How they learnt",
        cards(
            card(title, curves(of_metric, title, titled(metric_name), is_share=True), legend(names))
            if of_metric
            else None,
            card(
                "Loss",
                curves(losses, "Loss by epoch", "Loss", is_share=False),
                legend(names, element("span", "dashed: train, solid: validation")),
                note("The train loss holds dropout, smoothing and the like, so the two are not on one scale."),
            )
            if losses
            else None,
        ),
    )


def _curves(learnt: list[tuple[int, str, list[Fields]]], name: str, *, is_dashed: bool = False) -> list[Curve]:
    found = []
    for place, _, curve in learnt:
        points = [(float(point["epoch"]), float(point[name])) for point in curve if point.get(name) is not None]
        found += [Curve(place, points, is_dashed)] if points else []
    return found


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


def _pareto(comparison: Fields) -> Markup | None:
    name = comparison["metric"]
    candidates = [
        Candidate(
            place,
            c["name"].upper(),
            c["latency"]["single_ms"],
            c["metrics"][name]["value"],
            c["metrics"][name]["low"],
            c["metrics"][name]["high"],
            c["name"] == comparison["chosen"],
        )
        for place, c in enumerate(comparison["candidates"])
        if name in c["metrics"] and None not in (c["metrics"][name]["value"], c["latency"].get("single_ms"))
    ]
    if not candidates:
        return None
    return card(
        f"{titled(name)} against latency",
        pareto(candidates, titled(name), is_share=True),
        legend([(c.place, f"{c.name} (chosen)" if c.is_chosen else c.name) for c in candidates]),
        note("Up and to the left is better. Dotted: the Pareto front, whose candidates none beats in both."),
    )


def _tests(comparison: Fields) -> Markup | None:
    if not comparison["tests"]:
        return None
    rows = [
        [
            f"{test['of'][0].upper()} − {test['of'][1].upper()}",
            titled(test["metric"]),
            NONE if test["difference"] is None else f"{test['difference']:+.4f}",
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
    found = comparison["dependency"]
    if not found:
        return None
    points = [(a, b) for a, b in zip(found["steps"], found["values"], strict=True) if b is not None]
    if not points:
        return None
    title = titled(found["metric"])
    return card(
        "How far back it looks",
        dependency_plot(points, found["full"], title),
        note(found["sentence"], ". " if not found["sentence"].endswith(".") else " ", "Dashed: with all steps."),
    )


def _search(comparison: Fields) -> Child:
    search = comparison["search"]
    importance = sorted((search["importance"] or {}).items(), key=lambda pair: -pair[1])
    rows = [[name, percent(value, 0), bar(value)] for name, value in importance]
    history = search["history"] or []
    title = titled(comparison["metric"])
    return [
        card(
            "Search",
            history_plot(history, title) if any(value is not None for value in history) else None,
            note(f"{search['trials']} trials, {search['pruned']} of them stopped early; the line is the best so far."),
        ),
        card("What mattered", table(["Setting", "Importance", ""], rows)) if rows else None,
        card("The best settings", facts([(name, str(value)) for name, value in (search["best"] or {}).items()])),
    ]
