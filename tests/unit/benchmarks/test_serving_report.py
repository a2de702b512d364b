"""The report of the serving benchmark, on figures made by hand."""

from __future__ import annotations

from typing import Any

from benchmarks.serving.__main__ import _joined
from benchmarks.serving.goals import Goal, goals
from benchmarks.serving.report import breakdown


def test_a_goal_says_whether_it_is_met_and_else_by_how_much_not() -> None:
    assert Goal("p99", 10.0, 8.0, True, " ms").line() == ["p99", "at most 10 ms", "8 ms", "yes"]
    assert Goal("p99", 10.0, 12.5, True, " ms").line()[-1] == "no, by 25%"
    assert Goal("ratio", 2.0, 2.0, False, "x").line() == ["ratio", "at least 2x", "2x", "yes"]
    assert Goal("ratio", 2.0, 1.5, False, "x").line()[-1] == "no, by 25%"
    assert Goal("lost", 0.0, 3, True).line() == ["lost", "at most 0", "3", "no, by 3"]


def test_goals_compare_medians_of_one_run() -> None:
    def row(rps: float, p99: float) -> dict[str, Any]:
        return {"rps": rps, "p99_ms": p99}

    rows = {
        "gatewise": [row(190, 30), row(210, 50), row(200, 40)],
        "gatewise, arrival order": [row(100, 40), row(100, 20), row(100, 60)],
    }
    lines = goals({"text": rows}).splitlines()
    assert lines[-2].endswith("| at least 1.8x | 2x | yes |")
    assert lines[-1].endswith("| at most 1x | 1x | yes |")


def test_the_parts_of_a_request_and_the_rest_add_up_to_the_whole() -> None:
    rows = {"1": [{"all": 1.0, "bare": 0.1, "parts": {"the network": 0.5, "count": 0.05}}]}
    cells = [line.split("|")[2].strip() for line in breakdown(rows).splitlines()[4:] if line.startswith("|")]
    assert cells == ["0.500", "0.050", "0.100", "0.350", "1.000"]


def test_rounds_of_two_runs_are_put_together() -> None:
    old = {"gatewise": {"1": [1], "8": [2]}}
    new = {"gatewise": {"1": [3]}, "Triton": {"1": [4]}}
    assert _joined(old, new) == {"gatewise": {"1": [1, 3], "8": [2]}, "Triton": {"1": [4]}}
