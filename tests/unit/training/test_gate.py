"""The gate's rules, each on answers whose figures are worked out by hand."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gatewise.errors import GatewiseError
from gatewise.predictor import Predictor
from tests.artifacts import TEXTS, make_text
from training import gate
from training.answers import Answered
from training.dataset import Dataset
from training.gate import TEST, Check, Rules, compare_overall, compare_recalls, judge

LABELS = ("down", "flat", "up")


def answered(rows: list[tuple[str, str]], labels: tuple[str, ...] = ("a", "b")) -> Answered:
    """One label for each row: (truth, answer)."""
    index = [labels.index(answer) for _, answer in rows]
    shares = [np.full((1, len(labels)), 0.1 / (len(labels) - 1)) for _ in rows]
    for share, k in zip(shares, index, strict=True):
        share[0, k] = 0.9
    classes = [np.array([k]) for k in index]
    return Answered(labels, "sequence", [[truth] for truth, _ in rows], classes, shares, np.ones(len(rows), np.int64))


def both(*counts: tuple[int, str, str, str]) -> tuple[Answered, Answered]:
    """Champion and challenger, for so many rows of (truth, champion's answer, challenger's answer)."""
    rows = [row for count, *row in counts for _ in range(count)]
    return answered([(t, one) for t, one, _ in rows]), answered([(t, other) for t, _, other in rows])


def of_class(check: Check, label: str) -> dict[str, Any]:
    [found] = [one for one in check.figures["classes"] if one["label"] == label]
    return dict(found)


# --- overall


def test_a_challenger_that_is_clearly_worse_is_refused_with_its_figures() -> None:
    check = compare_overall(TEST, *both((70, "a", "a", "a"), (20, "a", "a", "b"), (10, "b", "b", "b")), "accuracy")
    assert not check.passed
    assert check.figures["champion"]["accuracy"] == 1.0
    assert check.figures["challenger"]["accuracy"] == pytest.approx(0.8)
    assert check.figures["difference"] == pytest.approx(-0.2)
    # Of 100 rows 20 are lost: the interval is 1.96 deviations of 0.04 about that, as near as 1000 draws have it.
    assert check.figures["low"] == pytest.approx(-0.2 - 1.96 * 0.04, abs=0.02)
    assert check.figures["high"] == pytest.approx(-0.2 + 1.96 * 0.04, abs=0.02)
    assert "accuracy 0.8000 against 1.0000 on 100 rows of test (-0.2000, 95% interval" in check.told


def test_a_difference_that_chance_explains_is_no_reason_to_refuse() -> None:
    check = compare_overall(TEST, *both((95, "a", "a", "a"), (3, "a", "a", "b"), (2, "a", "b", "a")), "accuracy")
    assert check.passed
    assert check.figures["difference"] == pytest.approx(-0.01)
    assert check.figures["low"] < 0 < check.figures["high"]


def test_a_better_challenger_passes() -> None:
    assert compare_overall(TEST, *both((50, "a", "a", "a"), (40, "b", "a", "b")), "macro_f1").passed


def test_of_five_rows_nothing_is_concluded() -> None:
    check = compare_overall(TEST, *both((5, "a", "a", "b")), "accuracy")
    assert check.passed
    assert (check.figures["low"], check.figures["high"]) == (None, None)
    assert "too few to tell" in check.told


# --- recall


@pytest.mark.parametrize(
    ("lost", "gained", "of", "p_value", "fell"),
    [
        (6, 0, 20, 1 / 64, True),  # 0.30 of recall, and six coins that fall alike: 0.0156 of 0.05 / 2
        (5, 0, 20, 1 / 32, False),  # 0.25 of recall, which chance explains
        (8, 1, 20, 10 / 512, True),  # nine rows are apart, of which 8 or 9: (9 + 1) / 512
        (7, 1, 20, 9 / 256, False),
        (7, 0, 200, 1 / 128, False),  # 0.035 of recall: within the margin
    ],
)
def test_a_recall_falls_by_more_than_the_margin_and_by_more_than_chance(
    lost: int, gained: int, of: int, p_value: float, fell: bool
) -> None:
    rows = ((lost, "a", "a", "b"), (gained, "a", "b", "a"), (of - lost - gained, "a", "a", "a"), (30, "b", "b", "b"))
    check = compare_recalls(TEST, *both(*rows), margin=0.05)
    figures = of_class(check, "a")
    assert figures["p_value"] == pytest.approx(p_value)
    assert figures["champion"] - figures["challenger"] == pytest.approx((lost - gained) / of)
    assert (figures["lost"], figures["gained"], figures["count"]) == (lost, gained, of)
    assert (figures["fell"], check.passed) == (fell, not fell)
    assert of_class(check, "b")["p_value"] == 1.0
    if fell:
        assert check.told.startswith("'a' from ")


def test_a_class_of_too_few_rows_refuses_nothing_and_is_named_as_such() -> None:
    # With two classes 0.025 each: five coins that fall alike are 0.031.
    check = compare_recalls(TEST, *both((5, "a", "a", "b"), (6, "b", "b", "b")), margin=0.05)
    assert check.passed
    assert (of_class(check, "a")["can_refuse"], of_class(check, "b")["can_refuse"]) == (False, True)
    assert "1 have too few rows to tell" in check.told


def test_more_classes_leave_less_of_the_five_percent_to_each() -> None:
    labels = tuple("abcdefgh")
    truth = [("a", "a")] * 20
    worse = [("a", "b")] * 7 + [("a", "a")] * 13
    check = compare_recalls(TEST, answered(truth, labels), answered(worse, labels), margin=0.05)
    # 1/128 is above 0.05 / 8 = 0.00625, and 1/256 is below.
    assert check.passed
    assert check.figures["level"] == pytest.approx(0.00625)
    worse[7] = ("a", "b")
    assert not compare_recalls(TEST, answered(truth, labels), answered(worse, labels), margin=0.05).passed


def test_the_steps_of_a_sequence_are_one_coin() -> None:
    def steps(answers: list[list[int]]) -> Answered:
        rows = [np.array(row) for row in answers]
        truth = [["a"] * len(row) for row in answers]
        shares = [np.eye(2)[row] for row in rows]
        return Answered(("a", "b"), "step", truth, rows, shares, np.array([len(row) for row in rows]))

    champion = steps([[0] * 10, [0] * 10, [0, 1]])
    challenger = steps([[1] * 10, [1] * 10, [0, 0]])
    figures = of_class(compare_recalls(TEST, champion, challenger, 0.05), "a")
    # 20 steps are lost in two sequences and one is gained in a third: 2 or 3 of 3 coins.
    assert (figures["lost"], figures["gained"], figures["p_value"]) == (2, 1, pytest.approx(4 / 8))
    assert (figures["champion"], figures["challenger"]) == (pytest.approx(21 / 22), pytest.approx(2 / 22))


# --- the whole gate


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return Predictor.load(make_text(tmp_path_factory.mktemp("champion") / "artifact").folder)


@pytest.fixture
def rows(champion: Predictor) -> dict[str, Dataset]:
    """What the champion answers, as truth."""
    items = list(TEXTS) * 2
    labels = [answer.label for answer in champion.predict(items)]
    return {TEST: Dataset("text", "sequence", items, labels, None, None, "t.csv", np.arange(len(items)))}


def quiet(line: str) -> None:
    """Say nothing."""


def verdict(
    champion: Predictor, challenger: Path, rows: dict[str, Dataset], rules: Rules | None = None
) -> gate.Verdict:
    return judge(champion, challenger, rows, "accuracy", rules or Rules(), quiet)


def test_a_copy_of_the_champion_passes_every_check(
    champion: Predictor, rows: dict[str, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "measure_long", lambda predictor, items: 1.0)
    found = verdict(champion, Path(shutil.copytree(champion._artifact.folder, tmp_path / "copy")), rows)
    assert found.passed, found.reason
    names = ["golden items", "classes", "overall on test", "recall on test", "latency"]
    assert [check.name for check in found.checks] == names
    assert found.reason.startswith("not worse: accuracy 1.0000 against 1.0000")


def test_a_damaged_challenger_is_refused_by_name_of_the_file(
    champion: Predictor, rows: dict[str, Dataset], tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(champion._artifact.folder, tmp_path / "copy"))
    (copy / "model.onnx").write_bytes((copy / "model.onnx").read_bytes()[:-1])
    found = verdict(champion, copy, rows)
    assert not found.passed
    assert "golden items: the challenger cannot be used" in found.reason
    assert "model.onnx" in found.reason


def test_a_challenger_whose_golden_items_do_not_replay_is_refused(
    champion: Predictor, rows: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Predictor) -> None:
        raise GatewiseError("golden item 3: a logit differs by 0.5")

    monkeypatch.setattr(Predictor, "replay", fails)
    found = verdict(champion, champion._artifact.folder, rows)
    assert (found.passed, len(found.checks)) == (False, 1)
    assert "golden item 3" in found.reason


def test_a_challenger_that_lacks_a_class_is_refused_by_its_name(
    champion: Predictor, rows: dict[str, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = champion.manifest.model_copy(update={"labels": (*LABELS[:-1], "another")})
    monkeypatch.setattr(champion, "manifest", manifest)
    found = verdict(champion, champion._artifact.folder, rows)
    assert not found.passed
    assert found.reason == f"classes: it lacks 'another', and {LABELS[-1]!r} more"


def test_too_few_rows_to_compare_on_are_refused(champion: Predictor, rows: dict[str, Dataset]) -> None:
    few = {TEST: rows[TEST].take(range(5))}
    for found in (verdict(champion, champion._artifact.folder, few), verdict(champion, champion._artifact.folder, {})):
        assert not found.passed
        assert "rows: there are no held-out rows to compare on" in found.reason


@pytest.mark.parametrize(
    ("rules", "ours", "passes"),
    [
        (Rules(), 2.0, True),
        (Rules(), 2.1, False),
        (Rules(max_slowdown=3.0), 2.1, True),
        (Rules(max_latency_ms=1.5), 1.6, False),
        (Rules(max_latency_ms=5.0), 4.0, True),
    ],
)
def test_latency_is_held_to_the_budget_or_to_the_champions_own(
    champion: Predictor,
    rows: dict[str, Dataset],
    monkeypatch: pytest.MonkeyPatch,
    rules: Rules,
    ours: float,
    passes: bool,
) -> None:
    monkeypatch.setattr(gate, "measure_long", lambda predictor, items: 1.0 if predictor is champion else ours)
    found = verdict(champion, champion._artifact.folder, rows, rules)
    assert found.passed == passes
    assert passes or "latency" in found.reason


def test_a_new_class_widens_the_champions_answers(champion: Predictor) -> None:
    manifest = champion.manifest.model_copy(update={"labels": ("0", *LABELS)})
    other = type("Other", (), {"manifest": manifest})()
    narrow = answered([(LABELS[0], LABELS[1])], LABELS)
    wide = gate._widened(narrow, champion, other)  # type: ignore[arg-type]
    assert wide.labels == tuple(sorted({"0", *LABELS}))
    assert [wide.labels[k] for k in wide.classes[0]] == [LABELS[1]]
    assert wide.probabilities[0][0, wide.labels.index("0")] == 0.0
    assert wide.probabilities[0].sum() == pytest.approx(1.0)
