"""What is kept of a shadow's answers, against numbers worked out by hand."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gatewise.errors import InvalidConfig, ModelConflict
from gatewise.production import PointerState, Shadow
from gatewise.shadow import Comparison, Comparisons, Durations
from gatewise.store import Store
from tests.unit.gatewise.test_store import make_artifact


def compared(*pairs: tuple[str, str]) -> Comparison:
    found = Comparison(champion="a", challenger="b")
    for champion, challenger in pairs:
        found.add([champion], [challenger])
    return found


def test_agreement_has_wilsons_interval() -> None:
    found = compared(*[("x", "x")] * 8, ("x", "y"), ("y", "x"))
    assert found.agreement == 0.8
    # Wilson 1927 for 8 of 10: (0.8 + z²/20 ± z sqrt(0.016 + z²/400)) / (1 + z²/10)
    assert found.interval == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert found.differences == {"x": Counter({"y": 1}), "y": Counter({"x": 1})}


def test_of_no_rows_nothing_is_said() -> None:
    found = compared()
    assert (found.agreement, found.interval) == (None, None)
    assert found.summary()["champion_ms"] == {"mean": None, "p50": None, "p99": None}


def test_labels_of_steps_agree_when_all_do_and_differ_step_by_step() -> None:
    found = Comparison(champion="a", challenger="b")
    assert found.add(["O", "B"], ["O", "B"])
    assert not found.add(["O", "B", "B"], ["O", "O", "I"])
    assert not found.add(["O", "O"], ["O"])
    assert (found.rows, found.agreed) == (3, 1)
    assert found.differences == {"B": Counter({"O": 1, "I": 1}), "2 steps": Counter({"1 steps": 1})}


def test_quantiles_are_those_of_the_durations_to_two_percent() -> None:
    durations = Durations()
    for milliseconds in range(1, 101):
        durations.add(milliseconds / 1000)
    assert durations.mean_ms == pytest.approx(50.5)
    assert durations.quantile_ms(0.5) == pytest.approx(50, rel=0.025)
    assert durations.quantile_ms(0.99) == pytest.approx(99, rel=0.025)


def test_what_many_workers_add_is_the_sum(tmp_path: Path) -> None:
    records = Comparisons(tmp_path)

    def add(_: int) -> None:
        found = compared(("x", "x"), ("x", "y"))
        found.dropped = 3
        found.champion_seconds.add(0.001)
        records.add(found)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(20)))
    [whole] = records.list()
    assert (whole.rows, whole.agreed, whole.dropped) == (40, 20, 60)
    assert whole.differences == {"x": Counter({"y": 20})}
    assert whole.champion_seconds.count == 20
    assert whole.champion_seconds.total_seconds == pytest.approx(0.02)


def test_a_damaged_record_is_begun_anew(tmp_path: Path) -> None:
    records = Comparisons(tmp_path)
    records.add(compared(("x", "x")))
    [path] = tmp_path.glob("*.json")
    path.write_text("{")
    assert records.list() == []
    records.add(compared(("x", "y")))
    assert [one.rows for one in records.list()] == [1]


def test_a_promoted_shadow_shadows_no_longer() -> None:
    state = PointerState()
    state.promote("v1")
    assert state.cast_shadow(Shadow(version="v2", sample=0.1))
    assert not state.cast_shadow(Shadow(version="v2", sample=0.1))
    assert state.promote("v3")
    assert state.shadow is not None
    assert state.promote("v2")
    assert state.shadow is None
    state.cast_shadow(Shadow(version="v3", sample=1))
    state.rollback("m", lambda version: True)
    assert (state.version, state.shadow) == ("v3", None)


def test_a_shadow_is_refused_where_it_could_show_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    first = store.add(make_artifact(tmp_path / "first", size=1), "questions")
    second = store.add(make_artifact(tmp_path / "second", size=2), "questions")
    with pytest.raises(ModelConflict, match="nothing is in production"):
        store.cast_shadow(first.reference, 0.1)
    store.promote(first.reference)
    with pytest.raises(ModelConflict, match="is production"):
        store.cast_shadow(first.reference, 0.1)
    with pytest.raises(InvalidConfig, match="sample: 2"):
        store.cast_shadow(second.reference, 2)
    assert store.cast_shadow(second.reference, 0.1).changed
    assert [version.is_shadow for version in store.list("questions")] == [True, False]
    with pytest.raises(ModelConflict, match="shadows production"):
        store.delete(second.reference)
    assert store.end_shadow("questions")
    assert not store.end_shadow("questions")
    store.delete(second.reference)
