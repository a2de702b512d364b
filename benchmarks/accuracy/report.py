"""From the records to results/README.md: goals, each set with its systems, and the recipe without each part."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.ablation import PARTS
from benchmarks.accuracy.chosen import chosen
from benchmarks.accuracy.records import GATEWISE, Key, Record, Records
from benchmarks.accuracy.sets import SETS, BenchmarkSet, Goal
from benchmarks.machine import in_words
from benchmarks.tables import mean_deviation, table
from gatewise.durable import replace_text

# The rows of a set's table by the record's system and cell.
_LSTM, _GRU, _CHOSEN = "Gatewise LSTM", "Gatewise GRU", "Gatewise, chosen"
_SHOWN = {
    **{"majority": "majority", "tag-majority": "majority tag of each word", "tfidf-svm": "TF-IDF + linear SVM"},
    **{"nb-logistic": "NB-weighted logistic regression", "fasttext": "fastText", "minirocket": "MiniRocket"},
    **{"dtw-1nn": "1-NN DTW", "step-logistic": "logistic regression of each step"},
}
_TRIED = Path(__file__).with_name("tried.md")
Rows = dict[str, dict[int, Record]]
"""Records of a set by the table's row and the seed."""


def write_report(records: Records, folder: Path) -> None:
    """Write the report of the records that there are."""
    folder.mkdir(parents=True, exist_ok=True)
    replace_text(folder / "README.md", report(records.all()))


def report(records: Iterable[tuple[Key, Record]]) -> str:
    """The report in Markdown."""
    kept = list(records)
    of_sets: dict[str, Rows] = {name: _rows(name, kept) for name in SETS}
    of_sets = {name: rows for name, rows in of_sets.items() if rows}
    head = (
        "# Results\n\nMade by `python -m benchmarks.accuracy`. Percent on the test split, mean ± standard deviation "
        "over seeds, their number in brackets. Everything was chosen on validation; Gatewise's figures are those of "
        "the default recipe, trained from scratch and measured on the reloaded artifact. *Chosen* is the cell that "
        "`gatewise train` would choose with each seed. CPU minutes are those of the whole job on one thread: reading, "
        "training, packaging, answering; aeon's first fit compiles its functions too, which can take longer.\n"
    )
    tried = _TRIED.read_text(encoding="utf-8")
    parts = [head, f"## Goals\n\n{_goals(of_sets)}", f"### What was tried where a goal is not met\n\n{tried}"]
    parts += [f"## {name}\n\n{_set_table(SETS[name], rows)}" for name, rows in of_sets.items()]
    ablation = _ablation(kept)
    if ablation:
        parts.append(f"## The recipe without each part\n\n{ablation}")
    parts.append(f"## The machine\n\n{_machines(kept)}")
    return "\n".join(parts)


def judged(goal: Goal, percents: Sequence[float]) -> str:
    """How the mean of percents stands to a goal; it is compared as it is shown, to a hundredth."""
    if not percents:
        return "-"
    mean = round(float(np.mean(percents)), 2)
    if goal.stretch is not None and mean >= goal.stretch:
        return "met, and the stretch"
    return "met" if mean >= goal.percent else f"short by {goal.percent - mean:.2f}"


def _rows(name: str, records: Sequence[tuple[Key, Record]]) -> Rows:
    """The set's records by row and seed, with the chosen cell's as a row of its own."""
    found: defaultdict[str, dict[int, Record]] = defaultdict(dict)
    for key, record in records:
        if key.set == name and not key.without:
            shown = f"Gatewise {key.cell.upper()}" if key.system == GATEWISE else _SHOWN[key.system]
            found[shown][key.seed] = record
    for seed in sorted(found[_LSTM].keys() & found[_GRU].keys()):
        cells = {"lstm": found[_LSTM][seed], "gru": found[_GRU][seed]}
        found[_CHOSEN][seed] = cells[chosen(cells)]
    order = [_LSTM, _GRU, _CHOSEN, *_SHOWN.values()]
    return {row: dict(sorted(found[row].items())) for row in order if found.get(row)}


def _percents(records: Iterable[Record], split: str, metric: str) -> list[float]:
    found = [record.get("metrics", {}).get(split, {}).get(metric) for record in records]
    return [100 * value for value in found if value is not None]


def _counted(values: Sequence[float], form: str = ".2f") -> str:
    return f"{mean_deviation(values, form)} ({len(values)})" if values else "-"


def _goals(of_sets: dict[str, Rows]) -> str:
    lines = []
    for name, rows in of_sets.items():
        for goal in SETS[name].goals:
            means = {row: _percents(rows.get(row, {}).values(), goal.split, goal.metric) for row in rows}
            peers = {row: float(np.mean(values)) for row, values in means.items() if row in _SHOWN.values() and values}
            best = max(peers, key=peers.__getitem__) if peers else None
            lines.append(
                [
                    f"{name}{' (second test)' if goal.split == 'test_2' else ''}",
                    goal.metric,
                    f"{goal.percent:g}" + (f" ({goal.stretch:g})" if goal.stretch else ""),
                    *(_counted(means.get(row, [])) for row in (_LSTM, _GRU, _CHOSEN)),
                    judged(goal, means.get(_CHOSEN, [])),
                    f"{best} {peers[best]:.2f}" if best else "-",
                ]
            )
    head = ["set", "figure", "goal (stretch)", "LSTM", "GRU", "chosen", "chosen against goal", "best comparator"]
    return table(head, lines)


def _set_table(each: BenchmarkSet, rows: Rows) -> str:
    metric = each.metric
    splits = ["test", "test_without_duplicates", "valid"] + (["test_2"] if each.second_test else [])
    lines = []
    for row, by_seed in rows.items():
        records = list(by_seed.values())
        skipped = next((record["skipped"] for record in records if "skipped" in record), None)
        if skipped:
            lines.append([row, f"not run: {skipped}", *["-"] * (len(splits) + 1)])
            continue
        minutes = [record["job_cpu_seconds"] / 60 for record in records]
        weights = [record["parameters"] for record in records if record.get("parameters")]
        lines.append(
            [
                row,
                *(_counted(_percents(records, split, metric)) for split in splits),
                mean_deviation(minutes, ".2f"),
                f"{int(np.median(weights)):,}" if weights else "-",
            ]
        )
    names = {"test": f"test {metric}", "test_without_duplicates": "without duplicates", "test_2": "second test"}
    head = ["system", *(names.get(split, split) for split in splits), "CPU minutes", "parameters"]
    told = "; ".join(_goal_in_words(goal) for goal in each.goals) or "no goal: a user's plain file"
    return f"Goal: {told}.\n\n{table(head, lines)}"


def _goal_in_words(goal: Goal) -> str:
    stretch = f", stretch {goal.stretch:g}" if goal.stretch else ""
    return f"{goal.metric} {goal.percent:g}{' on the second test' if goal.split == 'test_2' else ''}{stretch}"


def _ablation(records: Sequence[tuple[Key, Record]]) -> str:
    """What validation loses without each part: the difference to the whole recipe of the same set, cell and seed."""
    by_key = dict(records)
    names = {part.replace(" ", "-"): part for part in PARTS}
    changes: defaultdict[str, defaultdict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    for key, record in records:
        whole = by_key.get(Key(key.set, key.system, key.cell, key.seed))
        if not key.without or whole is None:
            continue
        without, with_it = record["metrics"]["valid"], whole["metrics"]["valid"]
        metric = SETS[key.set].metric
        change = (100 * (without[metric] - with_it[metric]), without["log_loss"] - with_it["log_loss"])
        changes[names[key.without]][f"{key.set} {key.cell.upper()}"].append(change)
    if not changes:
        return ""
    columns = sorted({column for row in changes.values() for column in row})
    lines = [[part, *(_changed(changes[part][c]) for c in columns)] for part in PARTS if part in changes]
    caption = (
        "What changes on validation when a part is left out, everything else as the recipe has it: points of the "
        "score, where below zero the part helps, and the log-loss, where above zero it does. Mean ± standard deviation "
        "over seeds, each against the whole recipe with the same seed.\n\n"
    )
    return caption + table(["without", *columns], lines)


def _changed(changes: Sequence[tuple[float, float]]) -> str:
    """The changes of a score and of the log-loss; - where there is none."""
    if not changes:
        return "-"
    scores, losses = zip(*changes, strict=True)
    return f"{_counted(scores, '+.2f')}; {mean_deviation(losses, '+.3f')}"


def _machines(records: Sequence[tuple[Key, Record]]) -> str:
    """Each machine with the commits that ran on it; the time is that of its last fit."""
    commits: defaultdict[str, set[str]] = defaultdict(set)
    last: dict[str, str] = {}
    for _, record in records:
        machine: dict[str, Any] = dict(record["machine"])
        when = machine.pop("when")
        words = in_words(machine)
        commits[words].add(record["commit"])
        last[words] = max(last.get(words, ""), when)
    lines = [f"- {words}; last fit {last[words]}; commits {', '.join(sorted(commits[words]))}" for words in commits]
    return "\n".join(lines) + "\n"
