"""The rule, applied to candidates whose figures are made up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training.compare import Measured, choose
from training.evaluation import Scores


def measured(cell: Any, correct: Any, *, latency_ms: float = 1.0, **metrics: float) -> Measured:
    correct = np.array(correct, dtype=np.float64)
    figures = {"accuracy": float(correct.mean()), "log_loss": 0.5, **metrics}
    return Measured(cell, Scores(figures, len(correct), correct), latency_ms, 100, 2.0)


def test_a_clear_winner_is_chosen_though_it_is_slower() -> None:
    better = measured("gru", [1] * 95 + [0] * 5, latency_ms=9.0)
    worse = measured("lstm", [1] * 70 + [0] * 30)
    for candidates in ([better, worse], [worse, better]):
        decision = choose(candidates, "accuracy")
        assert decision.cell == "gru"
        assert "GRU reaches accuracy 0.9500 on 100 validation rows, LSTM 0.7000" in decision.reason
        assert "more than chance explains (+0.2500)" in decision.reason
        assert "accuracy" in decision.rule


def test_between_two_that_cannot_be_told_apart_the_faster_is_chosen() -> None:
    better = measured("lstm", [1] * 52 + [0] * 48, latency_ms=2.0)
    faster = measured("gru", [0] * 50 + [1] * 50, latency_ms=1.25)
    decision = choose([better, faster], "accuracy")
    assert decision.cell == "gru"
    assert "too close to tell apart, and GRU answers in 1.25 ms where LSTM takes 2.00 ms" in decision.reason


def test_times_that_differ_by_little_do_not_decide() -> None:
    better = measured("lstm", [1] * 52 + [0] * 48, latency_ms=1.4)
    faster = measured("gru", [0] * 50 + [1] * 50, latency_ms=1.0)
    for candidates in ([better, faster], [faster, better]):
        decision = choose(candidates, "accuracy")
        assert decision.cell == "lstm"
        assert "and in time as well (GRU answers in 1.00 ms where LSTM takes 1.40 ms)" in decision.reason
    same = [1, 0, 1, 1]
    surer = measured("gru", same, latency_ms=1.1, log_loss=0.3)
    assert choose([measured("lstm", same, log_loss=0.4), surer], "accuracy").cell == "gru"


def test_the_difference_is_judged_in_pairs() -> None:
    # 4 in 100 rows differ, all in favour of one: their sd is 0.197, the standard error 0.0197, and 0.04 > 1.96 errors.
    base = np.array([1] * 60 + [0] * 40)
    better = base.copy()
    better[60:64] = 1
    assert choose([measured("lstm", base), measured("gru", better, latency_ms=5.0)], "accuracy").cell == "gru"
    # As many more right answers, but won and lost on many rows, tell nothing.
    mixed = base.copy()
    mixed[40:60], mixed[60:84] = 0, 1
    assert mixed.sum() == better.sum()
    assert choose([measured("lstm", base), measured("gru", mixed, latency_ms=5.0)], "accuracy").cell == "lstm"


def test_equal_answers_leave_it_to_the_latency() -> None:
    same = [1, 0, 1, 1]
    candidates = [measured("lstm", same, latency_ms=3.0), measured("gru", same, latency_ms=2.0, log_loss=9.0)]
    assert choose(candidates, "accuracy").cell == "gru"


def test_the_figure_that_is_monitored_decides_who_is_better() -> None:
    lstm = measured("lstm", [1] * 90 + [0] * 10, macro_f1=0.5)
    gru = measured("gru", [1] * 60 + [0] * 40, macro_f1=0.6)
    assert choose([lstm, gru], "macro_f1").reason.startswith("GRU reaches macro_f1 0.6000")
    assert choose([lstm, gru], "accuracy").cell == "lstm"


def test_one_row_can_tell_nothing() -> None:
    candidates = [measured("lstm", [1], latency_ms=2.0), measured("gru", [0], latency_ms=1.0)]
    assert choose(candidates, "accuracy").cell == "gru"


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_single_candidate_is_chosen(cell: str) -> None:
    assert choose([measured(cell, [0, 1])], "accuracy").reason == f"{cell.upper()} was the only candidate"


def test_the_figures_name_their_split_and_unit() -> None:
    assert measured("lstm", [1, 0], latency_ms=0.5, macro_f1=0.25).figures() == {
        "valid_accuracy": 0.5,
        "valid_log_loss": 0.5,
        "valid_macro_f1": 0.25,
        "latency_ms": 0.5,
        "parameters": 100,
        "training_seconds": 2.0,
    }
