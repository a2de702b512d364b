"""The week that the benchmark lives: what comes when, with which labels, and how it is written down."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy.sets import BenchmarkSet
from benchmarks.life import report, world
from benchmarks.life.week import Evening
from benchmarks.life.world import World, make_world, write
from training.readers import read


@pytest.fixture
def week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    rng = np.random.default_rng(0)
    for part, rows in (("train", 280), ("test", 20)):
        x = rng.normal(size=(rows, 5, 2)).astype(np.float32)
        np.savez(tmp_path / f"{part}.npz", x=x, y=np.arange(rows) % 4)
    chosen = BenchmarkSet("tiny", "series", "train.npz", test="test.npz")
    monkeypatch.setitem(world.SETS, "tiny", chosen)
    return make_world("tiny", tmp_path)


def test_half_is_known_before_and_every_other_row_comes_on_one_day(week: World) -> None:
    assert len(week.known) == 140
    assert [len(day.rows) for day in week.days] == [20] * 7
    rows = [week.known.rows, *(day.rows.rows for day in week.days)]
    assert sorted(np.concatenate(rows)) == sorted(set(np.concatenate(rows)))


def test_a_tenth_of_the_labels_comes_back_wrong(week: World) -> None:
    for day in week.days:
        assert day.rows.labels is not None
        assert sum(a != b for a, b in zip(day.reported, day.rows.labels, strict=True)) == 2


def test_the_first_channel_is_another_from_the_fourth_day_on_for_the_test_too(week: World, tmp_path: Path) -> None:
    raw = read(tmp_path / "train.npz")
    for day in week.days:
        i = list(raw.rows).index(day.rows.rows[0])
        expected = raw.items[i].copy()
        if day.number >= 4:
            expected[:, 0] = 0.3 * expected[:, 0] + 20
        np.testing.assert_allclose(day.rows.items[0], expected, rtol=1e-6)
        assert (day.test.items[0] is week.test.items[0]) == (day.number < 4)


def test_written_rows_are_read_as_they_were(week: World, tmp_path: Path) -> None:
    write(week.known, tmp_path / "known.jsonl")
    again = read(tmp_path / "known.jsonl")
    assert again.labels == week.known.labels
    for one, other in zip(again.items, week.known.items, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_report_has_a_line_for_each_day_and_the_same_plot_for_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shares = {"live": 0.9, "never": 0.8, "live_test": 0.91, "never_test": 0.81}
    words = {"version": "v", "drift": "none", "result": "promoted", "reason": "not worse"}
    evenings = [
        Evening(day=day, rows=20, has_drifted=day >= 4, retrain_seconds=2.0, **shares, **words) for day in range(1, 8)
    ]
    evenings[3] = replace(evenings[3], result="refused", reason="recall on test: 'a' from 1.000 to 0.500")
    plots = []
    for _ in range(2):
        report.write_week(tmp_path, "tiny", evenings, {"cpu": "some"})
        report.write_report(tmp_path, report.read_weeks(tmp_path, ("tiny", "absent")))
        plots.append((tmp_path / "tiny.svg").read_bytes())
    text = (tmp_path / "README.md").read_text()
    assert "| 3 | 20 | 0.900 | 0.800 | 0.910 | 0.810 | none | promoted |" in text
    assert "| 4, drifted | 20 |" in text
    assert "Night 4, refused: recall on test: 'a' from 1.000 to 0.500." in text
    assert "seven retrainings took 14 s" in text
    assert plots[0] == plots[1]
