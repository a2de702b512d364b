"""The tables of the accuracy benchmark, against figures worked out by hand."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from benchmarks.accuracy.ablation import PARTS, settings_without
from benchmarks.accuracy.answers import scores
from benchmarks.accuracy.chosen import chosen
from benchmarks.accuracy.records import Key, Record, packed
from benchmarks.accuracy.report import judged, report
from benchmarks.accuracy.sets import SETS, Goal
from gatewise.errors import InvalidConfig
from training.config import check_settings
from training.dataset import Dataset


def record(valid: float, test: float, correct: list[float] | None = None, **fields: Any) -> Record:
    metrics = {"accuracy": valid, "log_loss": 1.0 - valid}
    return {
        "metrics": {"valid": metrics, "test": {"accuracy": test}, "test_without_duplicates": {"accuracy": test - 0.01}},
        "valid_correct": packed(np.array(correct or [1.0, 0.0])),
        "configuration": {"monitor": "accuracy"},
        **{"parameters": 1234, "latency_ms": 1.0, "job_cpu_seconds": 90.0},
        **{"commit": "abc", "machine": {"cpu": "x", "when": "2026-01-02 03:04 UTC"}},
        **fields,
    }


def lines(text: str, start: str) -> list[list[str]]:
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in text.splitlines() if row.startswith(start)]


@pytest.mark.parametrize(
    ("percents", "expected"),
    [
        ([90.99], "short by 0.01"),
        ([91.0], "met"),
        ([90.996], "met"),
        ([90.0, 92.0], "met"),
        ([93.6], "met, and the stretch"),
        ([], "-"),
    ],
)
def test_a_goal_is_of_the_mean_as_it_is_shown(percents: list[float], expected: str) -> None:
    assert judged(Goal(91.0, 93.6), percents) == expected


def test_the_report_gives_mean_and_deviation_over_seeds() -> None:
    records = [(Key("trec", "gatewise", "lstm", seed), record(0.9, test)) for seed, test in enumerate((0.90, 0.92))]
    text = report(records)
    # The deviation of 90 and 92 as a sample: the root of 2.
    assert lines(text, "| Gatewise LSTM")[0] == [
        *("Gatewise LSTM", "91.00 ± 1.41 (2)", "90.00 ± 1.41 (2)", "90.00 ± 0.00 (2)", "1.50 ± 0.00", "1,234")
    ]
    assert lines(text, "| trec")[0] == ["trec", "accuracy", "91 (93.6)", "91.00 ± 1.41 (2)", "-", "-", "-", "-"]


def test_the_report_judges_the_chosen_cell_and_names_the_best_comparator() -> None:
    sure = [1.0] * 200
    records = [
        (Key("trec", "gatewise", "lstm", 0), record(1.0, 0.95, sure)),
        (Key("trec", "gatewise", "gru", 0), record(0.5, 0.99, [1.0, 0.0] * 100)),
        (Key("trec", "majority", "", 0), record(0.2, 0.2)),
        (Key("trec", "tfidf-svm", "", 0), record(0.8, 0.885)),
    ]
    row = lines(report(records), "| trec")[0]
    assert row[5:] == ["95.00 (1)", "met, and the stretch", "TF-IDF + linear SVM 88.50"]


def test_a_method_that_was_too_much_says_so_in_the_table() -> None:
    skipped = {"skipped": "9e+12 cells", "commit": "abc", "machine": {"cpu": "x", "when": "y"}}
    text = report([(Key("mnist_rows", "dtw-1nn", "", 0), skipped)])
    assert lines(text, "| 1-NN DTW")[0][:2] == ["1-NN DTW", "not run: 9e+12 cells"]


def test_the_ablation_is_the_difference_to_the_whole_recipe_of_the_same_seed() -> None:
    records = []
    for seed, (whole, without) in enumerate([(0.90, 0.88), (0.80, 0.79)]):
        records.append((Key("trec", "gatewise", "lstm", seed), record(whole, 0.5)))
        records.append((Key("trec", "gatewise", "lstm", seed, "token-pairs"), record(without, 0.5)))
    # -2 and -1: mean -1.5, deviation the root of a half.
    [row] = lines(report(records), "| token pairs")
    assert row == ["token pairs", "-1.50 ± 0.71 (2); +0.015 ± 0.007"]


def test_the_surely_better_cell_is_chosen_and_the_faster_where_chance_explains_it() -> None:
    good, bad = [1.0] * 100, [1.0] * 50 + [0.0] * 50
    assert chosen({"lstm": record(1.0, 0.0, good), "gru": record(0.5, 0.0, bad, latency_ms=0.1)}) == "lstm"
    near = {"lstm": record(0.51, 0.0, [1.0, *bad[1:]]), "gru": record(0.5, 0.0, bad, latency_ms=0.1)}
    assert chosen(near) == "gru"


def test_a_part_is_left_out_only_where_the_configuration_has_it() -> None:
    assert settings_without("token pairs", {"pair_buckets": 32_768}, "lstm") == {"pair_buckets": 0}
    assert settings_without("token pairs", {"pair_buckets": 0}, "lstm") is None
    assert settings_without("mean and max pooling", {"pooling": ["last"]}, "lstm") is None
    assert settings_without("GRU that remembers", {"update_gate_bias": 1.0}, "lstm") is None
    assert settings_without("GRU that remembers", {"update_gate_bias": 1.0}, "gru") == {"update_gate_bias": 0.0}


@pytest.mark.parametrize("part", PARTS)
def test_every_part_is_of_settings_that_exist_and_is_gone_without_them(part: str) -> None:
    settings = check_settings(PARTS[part], part)
    name = next(iter(settings))
    assert settings_without(part, {name: "something else"}, "gru") == settings
    assert settings_without(part, json.loads(json.dumps(settings)), "gru") is None


def test_a_part_of_no_setting_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PARTS, "oracle", {"oracle": False})
    with pytest.raises(InvalidConfig, match="oracle: no such setting"):
        settings_without("oracle", {"oracle": True}, "lstm")


def test_scores_of_answers_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import accuracy_score, f1_score

    rng = np.random.default_rng(0)
    truth, answers = ([f"k{k}" for k in rng.integers(0, 4, size=50)] for _ in range(2))
    data = Dataset("text", "sequence", [""] * 50, truth, None, None, "x", np.arange(50))
    found = scores(data, answers)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, answers))
    assert found["macro_f1"] == pytest.approx(f1_score(truth, answers, average="macro"))


def test_scores_of_tags_count_whole_spans() -> None:
    data = Dataset("text", "step", [["a", "b", "c"]], [["B-x", "I-x", "O"]], None, None, "x", np.arange(1))
    assert scores(data, [["B-x", "O", "O"]]) == {"accuracy": 2 / 3, "macro_f1": pytest.approx(5 / 9), "span_f1": 0.0}


def test_every_set_with_a_goal_has_a_test_that_it_is_of() -> None:
    for each in SETS.values():
        assert all(goal.split != "test" or each.test for goal in each.goals)
        assert all(goal.split != "test_2" or each.second_test for goal in each.goals)
        assert all(goal.stretch is None or goal.stretch > goal.percent for goal in each.goals)
