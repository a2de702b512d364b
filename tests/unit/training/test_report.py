"""The report's files: what they say of the answers, and that nothing out of the data can become markup."""

from __future__ import annotations

import platform
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from gatewise.artifact import Abstaining, LabelSets, restate
from gatewise.cli import main
from gatewise.commands.reading import read_options
from gatewise.commands.settings import seconds_of, settings_of
from gatewise.commands.train import train as train_command
from tests.artifacts import make_series
from tests.reports import HOSTILE, answered, comparison, data_of, report
from training.plan import JobOptions
from training.readers import ReadOptions
from training.report.card import model_card, plain
from training.report.certainty import measure_certainty
from training.report.comparison import comparison_of
from training.report.contents import Report
from training.report.findings import Finder, excerpt
from training.report.markup import Markup, element, fragment
from training.report.origin import command_of, describe_environment
from training.report.page import page
from training.report.plots import Axis, Candidate, pareto_front, x_axis, y_axis
from training.report.words import compact, counted, percent
from training.report.writing import written

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Reader(HTMLParser):
    """The elements and texts of a page; raises where elements do not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


KINDS: list[dict[str, Any]] = [{}, {"classes": 30}, {"steps": True}, {"kind": "series"}, {"examples": False}]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_well_formed_and_holds_no_script_and_no_address(kind: dict[str, Any]) -> None:
    text = page(report(**kind))
    read = Reader(text)
    tags = {tag for tag, _ in read.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    for _, attributes in read.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in text
    assert "@import" not in text
    assert any(HOSTILE in each for each in read.texts)
    ids = {attributes["id"] for _, attributes in read.elements if "id" in attributes}
    links = {attributes["href"] for tag, attributes in read.elements if tag == "a"}
    assert links == {f"#{name}" for name in ids}


def test_children_and_attributes_are_escaped_and_markup_is_not() -> None:
    assert element("b", "<&\"'>", title='"><script>') == (
        '<b title="&quot;&gt;&lt;script&gt;">&lt;&amp;&quot;&#x27;&gt;</b>'
    )
    assert element("p", element("i", "a"), None, ["<", Markup("<br>")], 1.5) == "<p><i>a</i>&lt;<br>1.5</p>"
    assert fragment("a", ["b", ("c", 2)]) == "abc2"
    assert element("rect", class_="x", stroke_width=2.0, fill=None) == '<rect class="x" stroke-width="2"></rect>'


def test_the_json_is_the_report() -> None:
    made = report()
    files = written(made)
    assert set(files) == {"report.html", "report.json", "model_card.md"}
    assert Report.model_validate_json(files["report.json"]) == made
    assert files["report.html"].decode() == page(made)


def test_the_same_report_gives_the_same_bytes() -> None:
    assert written(report()) == written(report())


def test_a_page_says_what_was_measured() -> None:
    made = report()
    text = " ".join(Reader(page(made)).texts)
    for share in (made.errors.correct, made.certainty.label_sets.covered["test"]):
        assert percent(share.value) in text
    assert made.certainty.label_sets.sentence in text
    assert made.certainty.abstaining is not None
    assert made.certainty.abstaining.sentence in text
    for candidate in made.comparison["candidates"]:
        assert candidate["name"].upper() in text
    assert "2.5 ms is more than 2 ms" in text
    assert "looks at every row of train" not in text


def test_what_is_not_known_of_a_comparison_is_left_out() -> None:
    bare = comparison()
    bare |= {"tests": [], "dependency": None, "search": None, "hint": "", "budgets": {}, "rows": None}
    for candidate in bare["candidates"]:
        candidate |= {"curve": [], "size_mb": None, "latency": {"single_ms": None}}
    text = " ".join(Reader(page(report(comparison=bare))).texts)
    for absent in ("Are they apart?", "How far back it looks", "What mattered", "How they learnt", "against latency"):
        assert absent not in text
    assert "per second" not in text


def test_an_account_without_a_comparison_becomes_one() -> None:
    training = {
        "config": {"monitor": "macro_f1"},
        "decision": {"cell": "gru", "rule": "the rule", "reason": "it is better"},
        "epochs": [{"epoch": 1, "seconds": 2.0, "train_loss": 1.0, "valid_macro_f1": 0.5, "valid_log_loss": 0.7}],
        "candidates": {
            cell: {"valid_macro_f1": 0.5, "latency_ms": 0.2, "parameters": 100, "training_seconds": 3.0}
            for cell in ("lstm", "gru")
        },
    }
    made = comparison_of(training)
    assert (made["chosen"], made["metric"], made["sentences"]) == ("gru", "macro_f1", ["it is better"])
    lstm, gru = made["candidates"]
    assert gru["curve"] == [{"epoch": 1, "train_loss": 1.0, "macro_f1": 0.5, "valid_loss": 0.7}]
    assert (lstm["curve"], lstm["metrics"]["macro_f1"]["value"], lstm["latency"]) == ([], 0.5, {"single_ms": 0.2})
    Reader(page(report(comparison=made)))
    assert comparison_of({**training, "comparison": comparison()}) == comparison()


# --- certainty


def test_certainty_is_measured_on_each_split_by_the_thresholds_given() -> None:
    answers = {"valid": answered(300, ("a", "b", "c"), seed=1), "test": answered(200, ("a", "b", "c"), seed=2)}
    found = measure_certainty(
        answers,
        1.0,
        Abstaining(target_precision=0.9, threshold=0.8),
        LabelSets(coverage=0.9, threshold=0.2),
        refitted=False,
    )
    test = answers["test"]
    given = test.confidence >= 0.8
    assert found.abstaining is not None
    assert (found.abstaining.answered["test"].count, found.abstaining.answered["test"].rows) == (given.sum(), 200)
    assert found.abstaining.precision["test"].value == pytest.approx(test.correct[given].mean())
    held = test.shares >= 0.2
    assert held.any(axis=1).all()
    assert found.label_sets.covered["test"].value == pytest.approx(held[np.arange(200), test.expected].mean())
    assert found.label_sets.mean_size["test"] == pytest.approx(held.sum(axis=1).mean())
    assert sum(found.label_sets.sizes["test"].values()) == 200
    # Temperature 1: nothing was changed.
    assert found.calibration["test"].before == pytest.approx(found.calibration["test"].after)
    assert "trained once more" not in found.caution


@pytest.mark.parametrize("target", [0.5, 0.99])
def test_a_target_that_test_rows_miss_is_said_to_be_missed(target: float) -> None:
    answers = {"valid": answered(300, ("a", "b", "c"), seed=1), "test": answered(200, ("a", "b", "c"), seed=2)}
    abstaining = Abstaining(target_precision=target, threshold=0.4)
    found = measure_certainty(answers, 1.0, abstaining, LabelSets(coverage=0.9, threshold=0.2), refitted=False)
    assert found.abstaining is not None
    precision = found.abstaining.precision["test"].value
    assert precision is not None
    assert ("misses the target on test" in found.abstaining.sentence) == (precision < target)
    assert 0.5 < precision < 0.99


@pytest.mark.parametrize(("rows", "mend"), [(20, "give more validation rows"), (300, "give a lower target")])
def test_where_nothing_is_answered_it_is_said_why(rows: int, mend: str) -> None:
    answers = {"valid": answered(rows, ("a", "b", "c"))}
    none = Abstaining(target_precision=0.95, threshold=None)
    found = measure_certainty(answers, 1.0, none, LabelSets(coverage=0.9, threshold=0.2), refitted=True)
    assert found.abstaining is not None
    assert "every prediction is marked as abstained" in found.abstaining.sentence
    assert mend in found.abstaining.sentence
    assert found.abstaining.precision["valid"].value is None
    assert "There is no test split" in found.caution
    assert "trained once more" in found.caution


# --- findings


def test_a_finding_names_where_its_answer_stands() -> None:
    answers = answered(30, ("a", "b"), steps=True)
    other = answered(10, ("a", "b"), seed=5, steps=True)
    finder = Finder(
        [(data_of(answers, "text", "/private/one.csv"), answers), (data_of(other, "text", "/private/two.csv"), other)],
        examples=True,
    )
    place = len(answers.correct) + 3
    [found] = finder.describe([place])
    sequence, step = other.places[3]
    assert (found.file, found.row, found.step) == ("two.csv", sequence + 2, step)
    assert found.label == other.truth[sequence][step]
    assert found.answer == ("a", "b")[other.answers[3]]
    assert found.confidence == pytest.approx(other.confidence[3])
    assert found.item is not None
    assert found.item.marked == (f"token{step}" if step else excerpt([HOSTILE], 0).marked)


def test_without_examples_no_sequence_is_in_any_file() -> None:
    files = written(report(examples=False))
    assert not [name for name, content in files.items() if b" text 1" in content]
    assert [name for name, content in written(report()).items() if b" text 1" in content]


def test_an_excerpt_is_bounded() -> None:
    assert excerpt("x" * 500).text == "x" * 239 + "…"
    tokens = [f"t{i}" for i in range(50)]
    middle = excerpt(tokens, 20)
    assert middle.text == "… " + " ".join(tokens[12:20])
    assert (middle.marked, middle.after) == ("t20", " ".join(tokens[21:29]) + " …")
    assert (excerpt(tokens, 0).text, excerpt(tokens, 49).after) == ("", "")
    series = np.arange(6000, dtype=np.float32).reshape(1000, 6)
    whole = excerpt(series)
    assert whole.series is not None
    assert (len(whole.series), len(whole.series[0]), whole.stride) == (4, 59, 17)
    assert whole.series[1][:2] == [1.0, 1.0 + 6 * 17]
    series[3, 0] = np.nan
    around = excerpt(series, 5)
    assert around.series is not None
    assert (len(around.series[0]), around.series[0][3], around.timesteps) == (36, None, 1000)


# --- where it comes from


def test_the_command_of_a_job_is_read_as_the_same_job() -> None:
    settings = {
        "epochs": 3,
        "dense_sizes": (8, 4),
        "cells": ("gru",),
        "refit": False,
        "target_precision": 0.95,
        "level": "words",
        "examples": False,
    }
    options = JobOptions(
        data="/home/someone/my data.csv",
        test="/home/someone/test.csv",
        name="questions",
        reading=ReadOptions(sequence="text", label="the label", channels=("a", "b")),
        settings=settings,
        max_seconds=90.0,
    )
    words = shlex.split(command_of(options))
    assert words[:3] == ["gatewise", "train", "my data.csv"]
    assert not [word for word in words if "/" in word]
    context = train_command.make_context("train", words[2:])
    assert read_options(context.params) == options.reading
    assert settings_of(context.params) == settings
    assert seconds_of(context.params["max_time"]) == 90
    assert (context.params["test"], context.params["name"]) == ("test.csv", "questions")


def test_the_environment_names_versions_and_no_machine() -> None:
    found = describe_environment()
    assert found["python"] == platform.python_version()
    assert {"torch", "onnxruntime", "gatewise", "processor", "cores"} <= set(found)
    assert platform.node() not in found.values()


# --- plots and words


@pytest.mark.parametrize(
    ("low", "high", "is_log", "ticks"),
    [
        (0.0, 10.0, False, [0, 2, 4, 6, 8, 10]),
        (0.93, 0.981, False, [0.94, 0.96, 0.98]),
        (0.15, 30.0, True, [0.2, 0.5, 1, 2, 5, 10, 20]),
    ],
)
def test_ticks_are_round_values_on_the_axis(low: float, high: float, is_log: bool, ticks: list[float]) -> None:
    assert Axis(low, high, 0, 100, is_log=is_log).ticks() == pytest.approx(ticks)


def test_an_axis_holds_its_values_between_its_ends() -> None:
    for axis in (x_axis([3, 9, 5]), x_axis([0.1, 30], is_log=True), y_axis([0.97, 1.0], is_share=True), y_axis([5, 5])):
        places = [axis.at(axis.low), axis.at(axis.high)]
        assert places == pytest.approx([axis.start, axis.end])
    assert y_axis([0.97, 1.0], is_share=True).high == 1.0
    assert Axis(1, 100, 0, 10, is_log=True).at(10) == pytest.approx(5)


def test_the_front_holds_those_that_none_beats_in_both() -> None:
    def at(milliseconds: float, value: float) -> Candidate:
        return Candidate(0, "c", milliseconds, value, None, None, is_chosen=False)

    front = [at(1, 0.8), at(2, 0.9), at(4, 0.95)]
    beaten = [at(2, 0.85), at(1.5, 0.8), at(5, 0.95)]
    assert pareto_front([*front, *beaten]) == front


def test_figures_are_worded_for_readers() -> None:
    assert (percent(0.12345), percent(None), percent(1)) == ("12.3%", "–", "100.0%")
    assert (compact(9_999), compact(123_456), compact(9_166_982)) == ("9,999", "123k", "9.2M")
    assert (counted(1, "label"), counted(1200, "class", "classes")) == ("1 label", "1,200 classes")


# --- the model card


def test_the_card_has_the_headings_of_model_cards_and_its_tables_are_whole() -> None:
    card = model_card(report())
    assert re.findall(r"^## (.*)$", card, flags=re.MULTILINE) == [
        "Model details",
        "Intended use",
        "Metrics",
        "Evaluation data",
        "Training data",
        "Quantitative analyses",
        "Ethical considerations",
        "Caveats and recommendations",
    ]
    for table in re.findall(r"(?:^\|.*\|$\n?)+", card, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in table.strip().splitlines()}
        assert len(widths) == 1


def test_nothing_of_the_data_is_markup_in_the_card() -> None:
    outside_code = re.sub(r"```.*?```", "", model_card(report()), flags=re.DOTALL)
    assert "<script" not in outside_code
    assert plain("a|b\n# *c* <i>") == r"a\|b \# \*c\* &lt;i&gt;"


def test_a_model_without_a_report_says_so(tmp_path: Path) -> None:
    made = make_series(tmp_path / "artifact")
    result = CliRunner().invoke(main, ["report", str(made.folder)])
    assert (result.exit_code, "was made without a report; `gatewise train` makes one" in result.output) == (4, True)
    result = CliRunner().invoke(main, ["report", str(made.folder), "--output", str(tmp_path / "a.pdf")])
    assert (result.exit_code, "does not end in one of .html, .json, .md" in result.output) == (2, True)


def test_the_report_is_written_where_it_is_wanted(tmp_path: Path) -> None:
    files = written(report())
    restate(make_series(tmp_path / "bare").folder, tmp_path / "artifact", files=files)
    for suffix, name in {".html": "report.html", ".json": "report.json", ".md": "model_card.md"}.items():
        target = tmp_path / f"copy{suffix}"
        result = CliRunner().invoke(main, ["report", str(tmp_path / "artifact"), "--output", str(target)])
        assert (result.exit_code, result.output) == (0, f"Report:  {target}\n")
        assert target.read_bytes() == files[name]
    result = CliRunner().invoke(main, ["report", str(tmp_path / "artifact")])
    assert result.output == f"Report:  {tmp_path / 'artifact' / 'report.html'}\n"
