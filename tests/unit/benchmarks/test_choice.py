"""The tables of the choice benchmark against figures worked out by hand, and the adding problem against its words."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.records import Key, Records
from benchmarks.choice import __main__ as command
from benchmarks.choice.adding import Task, series
from benchmarks.choice.report import Outcome, outcomes, report
from tests.unit.benchmarks.test_accuracy_report import lines, record


def outcome(chosen: Any, lstm: float, gru: float, lstm_ms: float = 1.0, gru_ms: float = 2.0) -> Outcome:
    return Outcome(chosen, {"lstm": lstm, "gru": gru}, {"lstm": lstm_ms, "gru": gru_ms}, 0.5, 0.25)


def test_the_oracle_takes_the_better_test_score_and_of_equals_the_faster_cell() -> None:
    assert outcome("lstm", 90.0, 91.0).taken("oracle") == "gru"
    assert outcome("lstm", 90.0, 90.0).taken("oracle") == "lstm"
    assert outcome("lstm", 90.0, 90.0, gru_ms=0.5).taken("oracle") == "gru"
    assert [outcome("gru", 1, 2).taken(way) for way in ("always LSTM", "always GRU", "chosen")] == [
        "lstm",
        "gru",
        "gru",
    ]


def test_each_way_of_choosing_has_its_mean_score_and_time() -> None:
    sets = {"trec": [outcome("gru", 90.0, 92.0), outcome("lstm", 94.0, 92.0)], "snips": [outcome("gru", 80.0, 70.0)]}
    text = report(sets, [])
    trec = lines(text, "| trec")[0]
    assert trec[1] == "LSTM 1, GRU 1"
    assert trec[2] == "+0.50 (p 0.25), +0.50 (p 0.25)"
    # The root of 8, 0 and 2 for deviations of 90, 94; 92, 92; 92, 94.
    assert trec[3:7] == ["92.00 ± 2.83", "92.00 ± 0.00", "93.00 ± 1.41", "93.00 ± 1.41"]
    assert trec[7:] == ["1.00", "2.00", "1.50", "1.50"]
    mean = lines(text, "| mean of 2 sets")[0]
    assert mean[3:7] == ["86.00", "81.00", "81.50", "86.50"]
    # trec is 1 and 2 times the faster cell's time, in the geometric mean the root of 2; snips is 2, or 1.
    assert mean[7:] == ["x1.00", "x2.00", "x1.68", "x1.19"]


def test_certainty_is_that_of_the_chosen_cell_with_the_rows_of_all_seeds_taken_together(tmp_path: Path) -> None:
    records = Records(tmp_path)
    good, bad = [1.0] * 100, [1.0] * 50 + [0.0] * 50
    for seed, (error, covered, answered, right) in enumerate([(0.1, 90, 50, 50), (0.3, 100, 0, 0)]):
        certainty = {
            "calibration_error": {"before": error, "after": error / 2, "by_chance": 0.01},
            **{"coverage": 0.9, "labels_a_set": 1.5, "target_precision": 0.95},
            **{"covered": [covered, 100], "answered": [answered, 100], "right": [right, answered]},
        }
        records.write(Key("trec", "gatewise", "lstm", seed), record(1.0, 0.9, good, certainty=certainty))
        records.write(Key("trec", "gatewise", "gru", seed), record(0.5, 0.8, bad))
    text = report(outcomes(records), [])
    found = lines(text[text.index("How sure") :], "| trec")[0]
    assert found[1:] == ["2", "0.200", "0.100", "0.010", "90%", "95.0%", "1.50", "95%", "100.0%", "25.0%"]


def test_a_set_counts_with_the_seeds_that_both_cells_have(tmp_path: Path) -> None:
    records = Records(tmp_path)
    good, bad = [1.0] * 100, [1.0] * 50 + [0.0] * 50
    records.write(Key("trec", "gatewise", "lstm", 0), record(1.0, 0.9, good))
    records.write(Key("trec", "gatewise", "gru", 0), record(0.5, 0.8, bad))
    records.write(Key("trec", "gatewise", "lstm", 1), record(1.0, 0.9, good))
    records.write(Key("snips", "gatewise", "lstm", 0), record(1.0, 0.9, good))
    records.write(Key("trec", "gatewise", "gru", 1, "crf"), record(1.0, 0.9, good))
    [found] = outcomes(records)["trec"]
    assert (found.chosen, found.test, found.difference) == ("lstm", {"lstm": 90.0, "gru": 80.0}, 50.0)
    assert found.p_value < 0.01


def test_the_adding_problem_is_what_its_words_say() -> None:
    items, labels = series(20, 300, 0)
    assert items.shape == (300, 20, 2)
    marks = items[:, :, 1]
    assert (marks[:, :10].sum(axis=1) == 1).all()
    assert (marks[:, 10:].sum(axis=1) == 1).all()
    assert (labels == ((items[:, :, 0] * marks).sum(axis=1) > 1)).all()
    assert 0.4 < labels.mean() < 0.6
    assert not np.array_equal(series(20, 300, 1)[0], items)


def test_what_was_done_is_not_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = {"valid": 0.9, "test": 0.8, "latency_ms": 0.5, "training_seconds": 3.0}
    made = {
        "chosen": "gru",
        "test": {"difference": 0.01, "p_value": 0.5},
        "dependency": {"range": None},
        "cells": {"lstm": cell, "gru": cell},
    }
    ran: list[Task] = []
    monkeypatch.setattr(command, "run", lambda task, work: ran.append(task) or made)
    arguments = ["adding", "--seeds", "1", "--lengths", "10,20", "--results", str(tmp_path), "--records", str(tmp_path)]
    assert command.main(arguments) == 0
    assert [task.length for task in ran] == [10, 10, 20, 20]
    rows = (tmp_path / "adding.jsonl").read_text().splitlines()
    (tmp_path / "adding.jsonl").write_text("\n".join(rows[:3]) + "\n")
    assert command.main(arguments) == 0
    assert [asdict(task) for task in ran[4:]] == [json.loads(rows[3])["task"]]
    table = lines((tmp_path / "README.md").read_text(), "| 20")
    assert table[0][5:] == ["80.00", "80.00", "GRU", "+1.00 (p 0.500)", "all", "0.50 / 0.50", "3 / 3"]
