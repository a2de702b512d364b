"""The rule, applied to candidates whose figures are made up."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from gatewise.errors import InvalidConfig
from training.compare import Budgets, Decision, Entry, choose, ranked, rule_in_words
from training.resampling import PairedTest

CLEAR, NOT_CLEAR = (0.05, 0.2, 0.01), (-0.1, 0.2, 0.4)


def entry(name: str, score: float, *, latency_ms: float = 1.0, log_loss: float = 0.5, **more: Any) -> Entry:
    cell: Any = name.partition("-")[0]
    return Entry(name, name.upper(), cell, score, log_loss, latency_ms, **more)


def decide(*entries: Entry, clear: tuple[str, ...] = ()) -> Decision:
    """The decision where the best is clearly better than those named."""
    best, *others = ranked(entries)
    tests = [
        PairedTest((best.name, other.name), "accuracy", 0.1, *(CLEAR if other.name in clear else NOT_CLEAR), "made up")
        for other in others
    ]
    return choose(entries, tests, "accuracy", rule_in_words("accuracy"), 100)


def both_ways(*entries: Entry, clear: tuple[str, ...] = ()) -> Decision:
    """The decision, which must not hang on the order of the candidates."""
    one, other = decide(*entries, clear=clear), decide(*entries[::-1], clear=clear)
    assert one == other
    return one


def test_a_clear_winner_is_chosen_though_it_is_slower() -> None:
    decision = both_ways(entry("gru", 0.95, latency_ms=9.0), entry("lstm", 0.7), clear=("lstm",))
    assert decision.cell == "gru"
    assert "GRU reaches accuracy 0.9500 on 100 held-out rows, LSTM 0.7000" in decision.reason
    assert "more than chance explains (+0.2500)" in decision.reason
    assert decision.sentences[0].startswith("GRU is chosen because it classifies better")
    assert decision.sentences[1] == "It answers one sequence in 9.00 ms (LSTM: 1.00 ms)."


def test_between_two_that_cannot_be_told_apart_the_faster_is_chosen() -> None:
    decision = both_ways(entry("lstm", 0.52, latency_ms=2.0), entry("gru", 0.5, latency_ms=1.25))
    assert decision.cell == "gru"
    assert "too close to tell apart, and GRU answers in 1.25 ms where LSTM takes 2.00 ms" in decision.reason
    assert decision.sentences[0] == "By accuracy, 100 held-out rows cannot tell LSTM 0.5200 and GRU 0.5000 apart."
    assert decision.sentences[1].startswith("GRU is chosen because it is clearly the faster one")


@pytest.mark.parametrize(("latency_ms", "cell"), [(1.49, "lstm"), (1.5, "gru")])
def test_times_that_differ_by_less_than_half_do_not_decide(latency_ms: float, cell: str) -> None:
    decision = both_ways(entry("lstm", 0.52, latency_ms=latency_ms), entry("gru", 0.5, latency_ms=1.0))
    assert decision.cell == cell
    assert ("and in time as well (GRU answers in 1.00 ms" in decision.reason) == (cell == "lstm")


def test_of_equal_scores_and_times_the_surer_one_is_chosen() -> None:
    assert both_ways(entry("lstm", 0.5, log_loss=0.4), entry("gru", 0.5, log_loss=0.3)).cell == "gru"


def test_of_several_the_best_of_the_quick_ones_that_are_not_clearly_worse_is_chosen() -> None:
    field = [
        entry("lstm-128", 0.92, latency_ms=4.0),
        entry("lstm-64", 0.91, latency_ms=1.4),
        entry("gru-64", 0.90, latency_ms=1.0),
        entry("gru-16", 0.60, latency_ms=0.1),
    ]
    assert both_ways(*field, clear=("gru-16",)).name == "lstm-64"
    assert both_ways(*field, clear=("gru-16", "lstm-64")).name == "gru-64"
    assert both_ways(*field).name == "gru-16"
    assert (
        "LSTM-64 answers in 1.40 ms where LSTM-128 takes 4.00 ms" in both_ways(*field, clear=("gru-16",)).sentences[1]
    )


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_single_candidate_is_chosen(cell: str) -> None:
    decision = decide(entry(cell, 0.5))
    assert (decision.cell, decision.reason) == (cell, f"{cell.upper()} was the only candidate")
    assert "It reaches accuracy 0.5000 on 100 held-out rows" in decision.sentences[1]


def test_a_candidate_over_the_budget_is_not_chosen_though_it_is_better() -> None:
    over = entry("lstm", 0.99, why_not="takes 9 ms of max_latency_ms 5")
    decision = both_ways(over, entry("gru", 0.5), clear=("gru",))
    assert decision.cell == "gru"
    assert decision.reason == "GRU was the only candidate within the budgets: LSTM takes 9 ms of max_latency_ms 5"


def test_where_no_candidate_is_within_the_budgets_the_nearest_is_named_with_what_to_change() -> None:
    far = entry("lstm", 0.9, why_not="has 9 MB of max_size_mb 1", over=9.0)
    near = entry("gru", 0.1, why_not="has 2 MB of max_size_mb 1", over=2.0)
    with pytest.raises(InvalidConfig, match=r"the nearest, GRU, has 2 MB of max_size_mb 1\. Give") as error:
        ranked([far, near])
    assert "--resume" in error.value.message
    assert "--sizes" in error.value.message


@pytest.mark.parametrize(
    ("budgets", "why_not", "over"),
    [
        (Budgets(), None, 0.0),
        (Budgets(max_latency_ms=2.0, max_size_mb=3.0), None, 1.0),
        (Budgets(max_latency_ms=1.0), "takes 2 ms of max_latency_ms 1", 2.0),
        (Budgets(max_size_mb=0.5), "has 3 MB of max_size_mb 0.5", 6.0),
        (
            Budgets(max_latency_ms=1.0, max_size_mb=2.0),
            "takes 2 ms of max_latency_ms 1 and has 3 MB of max_size_mb 2",
            2.0,
        ),
    ],
)
def test_a_budget_is_kept_up_to_its_last_millisecond_and_megabyte(
    budgets: Budgets, why_not: str | None, over: float
) -> None:
    assert budgets.why_not(2.0, 3.0, can_stream=False) == why_not
    assert budgets.over(2.0, 3.0, can_stream=False) == over


def test_a_model_that_waits_for_the_end_does_not_stream() -> None:
    budgets = Budgets(needs_streaming=True)
    assert budgets.why_not(1.0, 1.0, can_stream=True) is None
    assert "cannot stream" in str(budgets.why_not(1.0, 1.0, can_stream=False))


def test_the_rule_names_the_figure_the_budgets_and_the_seeds_before_anything_is_measured() -> None:
    assert rule_in_words("span_f1").startswith("the one with the best span_f1 on validation")
    rule = rule_in_words("accuracy", Budgets(5.0, 2.0, True), seeds=3)
    assert "at most 5 ms for a long sequence, at most 2 MB, able to stream" in rule
    assert "judged by its 3 seeds together" in rule


def test_a_test_is_clear_only_where_lot_and_interval_agree() -> None:
    test = PairedTest(("a", "b"), "accuracy", 0.1, 0.01, 0.2, 0.04, "made up")
    assert test.is_clear
    assert dataclasses.replace(test, low=-0.2, high=-0.01).is_clear
    assert not dataclasses.replace(test, p_value=0.06).is_clear
    assert not dataclasses.replace(test, low=-0.01).is_clear
    assert not dataclasses.replace(test, low=None, high=None).is_clear
