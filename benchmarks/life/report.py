"""The table and the plot of each week."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from benchmarks.life.week import SETTINGS, Evening
from benchmarks.life.world import DRIFTS_ON, SCALE, SHIFT, WRONG
from benchmarks.machine import in_words
from benchmarks.tables import table

Week = dict[str, Any]

_HEAD = ["day", "rows", "retrained daily", "never again", "on test", "never, on test", "drift", "that night"]


def write_week(out: Path, name: str, evenings: Sequence[Evening], machine: dict[str, Any]) -> None:
    """Write a week's record."""
    week = {"machine": machine, "evenings": [asdict(evening) for evening in evenings]}
    (out / f"{name}.json").write_bytes(orjson.dumps(week, option=orjson.OPT_INDENT_2))


def read_weeks(out: Path, names: Sequence[str]) -> dict[str, Week]:
    """The records that there are."""
    files = {name: out / f"{name}.json" for name in names}
    return {name: orjson.loads(file.read_bytes()) for name, file in files.items() if file.exists()}


def write_report(out: Path, weeks: dict[str, Week]) -> None:
    """Write README.md and the plots."""
    parts = [_INTRODUCTION]
    for name, week in weeks.items():
        _plot(week["evenings"], out / f"{name}.svg", name)
        lines = [_line(evening) for evening in week["evenings"]]
        settings = ", ".join(SETTINGS.get(name, ())) or "the recipe's settings"
        parts.append(f"## {name}\n\n![accuracy by day]({name}.svg)\n\n{table(_HEAD, lines)}")
        parts += [f"Night {e['day']}, refused: {e['reason']}.\n" for e in week["evenings"] if e["result"] == "refused"]
        seconds = sum(evening["retrain_seconds"] for evening in week["evenings"])
        parts.append(f"With {settings}; seven retrainings took {seconds:.0f} s. {in_words(week['machine'])}.\n")
    (out / "README.md").write_text("\n".join(parts), encoding="utf-8")


_INTRODUCTION = f"""# A week of life

A model is trained on half of a data set and put in production. Each of seven days a part of the rest is sent to a
running service; its labels come back by `POST /feedback`, {WRONG:.0%} of them wrong; at night
`gatewise retrain NAME --promote auto` trains on all that is known, and the gate decides. From day {DRIFTS_ON} on
the first channel of the series is another sensor's: {SCALE:g} times what it was, and {SHIFT:g} more.

Accuracy is against the true labels, of the model that answered that day, beside the first model's on the same rows;
*on test* is on the whole test split, as it would come that day. *Drift* is what `gatewise drift` says of the day's rows
and the model that answered them; of trec it is measured by the test questions, which are shorter than the others.

Made by:

```
python -m benchmarks.life --data FOLDER
```
"""


def _line(evening: dict[str, Any]) -> list[str]:
    day = f"{evening['day']}{', drifted' if evening['has_drifted'] else ''}"
    shares = [f"{evening[name]:.3f}" for name in ("live", "never", "live_test", "never_test")]
    return [day, str(evening["rows"]), *shares, evening["drift"], evening["result"]]


def _plot(evenings: Sequence[dict[str, Any]], path: Path, name: str) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    # The same figures give the same file.
    mpl.rcParams["svg.hashsalt"] = "life"
    figure, axes = plt.subplots(figsize=(7, 3.6))
    days = [evening["day"] for evening in evenings]
    axes.plot(days, [e["live"] for e in evenings], "o-", color="#1f6f8b", label="retrained each night, the day's rows")
    axes.plot(days, [e["never"] for e in evenings], "o-", color="#c0562f", label="never again, the day's rows")
    axes.plot(days, [e["live_test"] for e in evenings], "--", color="#1f6f8b", label="retrained each night, test")
    axes.plot(days, [e["never_test"] for e in evenings], "--", color="#c0562f", label="never again, test")
    drifted = [e["day"] for e in evenings if e["has_drifted"]]
    if drifted:
        axes.axvline(drifted[0] - 0.5, color="#888888", linewidth=0.8)
        axes.text(drifted[0] - 0.45, axes.get_ylim()[0], "another sensor", va="bottom", fontsize=8, color="#555555")
    axes.set_xlabel("day")
    axes.set_ylabel("accuracy")
    axes.set_title(name)
    axes.legend(fontsize=8, frameon=False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
