"""What is measured of the train split, against counts by hand, and what the recipe makes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gatewise.errors import InvalidConfig
from training.config import TrainingConfig
from training.dataset import Dataset
from training.recipe import follow, resolve
from training.statistics import Statistics, measure

TEXT = Statistics("text", "sequence", 5000, (10, 30, 60), {"a": 3000, "b": 2000}, bio=False)
SERIES = Statistics("series", "sequence", 300, (50, 60, 64), {"a": 150, "b": 150}, bio=False, channels=3)
TAGS = Statistics("text", "step", 4000, (12, 30, 50), {"O": 9000, "B-P": 500, "I-P": 100}, bio=True)
STEPS = Statistics("series", "step", 40, (100, 200, 300), {"a": 5000, "b": 2000}, bio=False, channels=2)


def dataset(items: list[Any], labels: list[Any], kind: Any = "text", task: Any = "sequence") -> Dataset:
    channels = ("0", "1") if kind == "series" else None
    return Dataset(kind, task, items, labels, channels, None, "here.csv", np.arange(len(items)))


def test_a_text_is_counted_in_words_and_a_character_of_an_unspaced_script_is_one() -> None:
    items = ["one", "one two", "one, two: three!", "日本 one"]
    figures = measure(dataset(items, ["a", "a", "a", "b"]))
    assert figures.lengths == (2, int(np.quantile([1, 2, 3, 3], 0.95)), 3)
    assert figures.class_counts == {"a": 3, "b": 1}
    assert figures.imbalance == 3.0
    assert (figures.kind, figures.task, figures.rows, figures.bio) == ("text", "sequence", 4, False)


def test_the_unknown_share_is_of_words_that_the_other_nine_tenths_do_not_hold_twice() -> None:
    # Rows 0 and 10 are held back: five words, of which "seen" stands twice elsewhere (capitals aside), "once" once.
    items = ["seen new", *["filler"] * 9, "Seen once other", "SEEN once", "seen filler"]
    figures = measure(dataset(items, ["a", "b"] * 6 + ["a"]))
    assert figures.unknown_share == pytest.approx(3 / 5)


def test_the_uppercase_share_is_of_words_that_begin_with_a_capital() -> None:
    assert measure(dataset(["Ann and Bob", "x"], ["a", "b"])).uppercase_share == pytest.approx(2 / 4)


def test_per_step_labels_are_counted_by_step_and_known_for_bio() -> None:
    items, labels = [["to", "Ann", "Lee"], ["ok"]], [["O", "B-P", "I-P"], ["O"]]
    figures = measure(dataset(items, labels, task="step"))
    assert figures.class_counts == {"O": 2, "B-P": 1, "I-P": 1}
    assert figures.bio
    assert figures.lengths[2] == 3


def test_a_series_is_measured_for_roughness_against_numpy() -> None:
    rng = np.random.default_rng(0)
    items = [rng.normal(size=(length, 2)).cumsum(axis=0).astype(np.float32) for length in (5, 9, 30)]
    items[1][3, 0] = np.nan
    figures = measure(dataset(items, ["a", "b", "a"], kind="series"))
    readings, differences = np.concatenate(items), np.concatenate([np.diff(item, axis=0) for item in items])
    expected = np.median(np.nanstd(differences, axis=0) / np.nanstd(readings, axis=0))
    assert figures.roughness == pytest.approx(expected)
    assert figures.channels == 2
    assert figures.lengths == (9, int(np.quantile([5, 9, 30], 0.95)), 30)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_channel_that_never_moves_or_never_reads_is_no_obstacle(value: float) -> None:
    items = [np.full((4, 2), value, dtype=np.float32) for _ in range(3)]
    for item in items:
        item[:, 1] = np.arange(4)
    assert measure(dataset(items, ["a", "b", "a"], kind="series")).roughness == pytest.approx(0.0)
    assert measure(dataset([item[:1] for item in items], ["a", "b", "a"], kind="series")).roughness == 0.0


@pytest.mark.parametrize("statistics", [TEXT, SERIES, TAGS, STEPS], ids=["text", "series", "tags", "steps"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_documented_preset_is_exactly_what_the_design_says(statistics: Statistics, cell: str) -> None:
    config, _ = resolve(statistics, {"preset": "documented", "cells": (cell,)})
    network = {"hidden_size": 128, "num_layers": 1, "bidirectional": False, "dense_sizes": (64,), "pooling": ("last",)}
    no_dropout = dict.fromkeys(("embedding_dropout", "recurrent_dropout", "dense_dropout", "word_dropout"), 0.0)
    optimization = {
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "schedule": "constant",
        "weight_decay": 0.0,
        "gradient_clip": 0.0,
        "label_smoothing": 0.0,
        "class_weights": "none",
        "input_noise": 0.0,
        "batch_size": 32,
        "epochs": 10,
        "patience": 0,
        "select": "last",
        "precision": "32-true",
        "update_gate_bias": 0.0,
        "differences": False,
        "output_epsilon": 1e-8,
        "ngram_buckets": 0,
        "affix_buckets": 0,
        "pair_buckets": 0,
        "stem_stride": 1,
        "branch_channels": (),
        "skip": False,
        "crf": False,
        "wide": "off",
        "time_warp": 0.0,
        "scaling": 0.0,
        "channel_mixing": 0.0,
        "averaging": 0.0,
        "refit": False,
        "monitor": "accuracy",
    }
    expected = network | no_dropout | optimization
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize("preset", ["default", "documented"])
def test_what_the_user_says_wins(preset: str) -> None:
    settings = {"preset": preset, "hidden_size": 7, "epochs": 3, "learning_rate": 0.5, "monitor": "macro_f1"}
    config, choices = resolve(TEXT, settings)
    assert {name: getattr(config, name) for name in settings} == settings
    assert {c.name: c.reason for c in choices if c.name in settings} == dict.fromkeys(settings, "as you said")
    assert len({c.name for c in choices}) == len(choices)


def test_every_difference_from_the_plain_defaults_is_told_with_a_reason() -> None:
    for statistics in (TEXT, SERIES, TAGS, STEPS):
        config, choices = resolve(statistics, {})
        told = {choice.name for choice in choices}
        plain = TrainingConfig()
        changed = {name for name in TrainingConfig.model_fields if getattr(config, name) != getattr(plain, name)}
        assert changed <= told
        assert all(choice.reason for choice in choices)
        assert all(getattr(config, choice.name) == choice.value for choice in choices)


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({}, "words"),
        ({"unknown_share": 0.3}, "subwords"),
        ({"unknown_share": 0.3, "lengths": (3, 5, 9)}, "characters"),
        ({"unknown_share": 0.2, "lengths": (3, 5, 9)}, "words"),
    ],
)
def test_the_level_follows_how_many_words_are_new(change: dict[str, Any], level: str) -> None:
    assert resolve(replace(TEXT, **change), {})[0].level == level


def test_tags_are_of_tokens_whose_capitals_stay_and_are_judged_by_spans() -> None:
    config, _ = resolve(TAGS, {})
    assert (config.level, config.lowercase, config.monitor, config.max_length) == ("tokens", False, "span_f1", None)
    assert resolve(TAGS, {"level": "words"})[0].level == "tokens"


def test_no_channel_of_many_tells_a_steps_label_alone() -> None:
    dropped = {channels: resolve(replace(STEPS, channels=channels), {})[0].embedding_dropout for channels in (1, 2, 9)}
    assert dropped == {1: 0.0, 2: 0.3, 9: 0.3}
    assert resolve(SERIES, {})[0].embedding_dropout == 0.0


def test_rare_classes_weigh_more_where_they_are_very_rare() -> None:
    rare = replace(TEXT, class_counts={"a": 4900, "b": 100})
    assert resolve(rare, {})[0].class_weights == "sqrt"
    assert resolve(rare, {})[0].monitor == "macro_f1"
    assert resolve(TEXT, {})[0].class_weights == "none"
    assert resolve(rare, {"monitor": "accuracy"})[0].monitor == "accuracy"


def test_long_texts_are_cut_and_series_are_not() -> None:
    assert resolve(replace(TEXT, lengths=(200, 257, 900)), {})[0].max_length == 256
    assert resolve(replace(TEXT, lengths=(200, 256, 900)), {})[0].max_length == 512
    assert resolve(TEXT, {})[0].max_length == 512
    assert resolve(SERIES, {})[0].max_length is None


@pytest.mark.parametrize("rows", [10, 300, 500, 501, 640, 20_000])
def test_any_number_of_rows_has_a_batch_and_epochs_that_make_sense(rows: int) -> None:
    for statistics in (TEXT, SERIES, TAGS, STEPS):
        config, _ = resolve(replace(statistics, rows=rows), {})
        assert 16 <= config.batch_size <= 128
        assert config.epochs * rows / config.batch_size >= 40


def chosen(statistics: Statistics, **settings: Any) -> set[str]:
    """Names of the choices that are the recipe's own."""
    return {choice.name for choice in resolve(statistics, settings)[1] if choice.reason != "as you said"}


LONG = replace(SERIES, lengths=(500, 900, 1000))
OF_WHOLE_SERIES = {"differences", "scaling", "averaging", "channel_mixing", "time_warp", "wide"}
PARTS = {
    *OF_WHOLE_SERIES, "stem_stride", "branch_channels", "branch_kernels", "skip", "crf", "wide", "refit", "input_noise",
    "residual",
}  # fmt: skip


@pytest.mark.parametrize(
    ("statistics", "expected"),
    [
        (TEXT, {"wide"}),
        (replace(TEXT, divided=True), {"wide", "refit"}),
        (replace(TEXT, unknown_share=0.3, lengths=(3, 5, 9)), {"wide"}),
        (TAGS, {"skip", "crf"}),
        (replace(TAGS, bio=False), {"skip"}),
        (replace(TAGS, divided=True), {"skip", "crf", "refit"}),
        (STEPS, {"input_noise", "residual"}),
        (SERIES, {"input_noise", *OF_WHOLE_SERIES, "branch_channels", "branch_kernels"}),
        (LONG, {"input_noise", *OF_WHOLE_SERIES, "branch_channels", "branch_kernels", "stem_stride"}),
        (replace(SERIES, rows=1000), {"input_noise", *OF_WHOLE_SERIES}),
        (replace(SERIES, channels=1, rows=2000), {"input_noise", *OF_WHOLE_SERIES} - {"channel_mixing"}),
        (replace(SERIES, roughness=1.3, rows=2000), {"input_noise", *OF_WHOLE_SERIES} - {"time_warp"}),
        (replace(SERIES, roughness=1.2, rows=2000), {"input_noise", *OF_WHOLE_SERIES}),
    ],
)
def test_each_part_is_chosen_where_the_figures_ask_for_it_and_nowhere_else(
    statistics: Statistics, expected: set[str]
) -> None:
    config, choices = resolve(statistics, {})
    assert {choice.name for choice in choices} & PARTS == expected
    plain = TrainingConfig()
    for name in PARTS - expected:
        assert getattr(config, name) == getattr(plain, name)
    for name in expected:
        assert getattr(config, name) != getattr(plain, name)


@pytest.mark.parametrize(
    ("longest", "stride"), [(64, 1), (128, 1), (129, 2), (256, 2), (257, 3), (1000, 8), (17_984, 141)]
)
def test_a_stem_leaves_at_most_as_many_steps_as_a_recurrence_reads_well(longest: int, stride: int) -> None:
    config, _ = resolve(replace(SERIES, lengths=(50, 60, longest)), {})
    assert config.stem_stride == stride
    assert -(-longest // stride) <= 128


@pytest.mark.parametrize(("rows", "units"), [(1, 16), (99, 16), (100, 64), (5000, 64)])
def test_few_labelled_sequences_are_learnt_by_few_units(rows: int, units: int) -> None:
    assert resolve(replace(STEPS, rows=rows), {})[0].hidden_size == units
    assert resolve(replace(STEPS, rows=rows), {"hidden_size": 5})[0].hidden_size == 5
    assert resolve(replace(SERIES, rows=rows), {})[0].hidden_size == 128


@pytest.mark.parametrize(("rows", "refit"), [(100, True), (20_000, True), (20_001, False)])
def test_rows_that_were_divided_are_learnt_whole_where_they_are_few_enough(rows: int, refit: bool) -> None:
    for statistics in (TEXT, SERIES, TAGS, STEPS):
        assert resolve(replace(statistics, rows=rows, divided=True), {})[0].refit is refit
        assert resolve(replace(statistics, rows=rows, divided=False), {})[0].refit is False
        assert resolve(replace(statistics, rows=rows, divided=True), {"refit": False})[0].refit is False
        assert resolve(replace(statistics, rows=rows, divided=False), {"refit": True})[0].refit is True


def test_the_split_says_whether_the_validation_rows_are_of_its_file() -> None:
    data = dataset(["one", "two"], ["a", "b"])
    assert not measure(data).divided
    assert measure(data, divided=True).divided
    assert replace(measure(data, divided=True), divided=False) == measure(data)


@pytest.mark.parametrize(
    ("statistics", "settings"),
    [
        (LONG, {"stem_stride": 1}),
        (LONG, {"stem_stride": 5, "stem_channels": 16}),
        (SERIES, {"branch_channels": (), "branch_kernels": ()}),
        (SERIES, {"branch_channels": (32,), "branch_kernels": (7,)}),
        (SERIES, {"averaging": 0.0, "time_warp": 0.0, "scaling": 0.0, "channel_mixing": 0.0, "input_noise": 0.0}),
        (SERIES, {"differences": False}),
        (STEPS, {"averaging": 0.9, "time_warp": 0.1}),
        (STEPS, {"skip": True, "crf": True}),
        (TAGS, {"skip": False, "crf": False}),
        (TEXT, {"wide": "off"}),
        (TEXT, {"wide": "on"}),
        (TEXT, {"refit": True}),
    ],
)
def test_of_every_part_what_the_user_says_wins(statistics: Statistics, settings: dict[str, Any]) -> None:
    config, _ = resolve(statistics, settings)
    assert {name: getattr(config, name) for name in settings} == settings
    assert not chosen(statistics, **settings) & settings.keys()


def test_the_documented_preset_takes_the_parts_that_the_user_names() -> None:
    config, _ = resolve(TEXT, {"preset": "documented", "wide": "auto", "averaging": 0.9})
    assert (config.wide, config.averaging, config.hidden_size) == ("auto", 0.9, 128)


@pytest.mark.parametrize(("classes", "epsilon"), [(256, 1e-8), (257, 1e-3), (10_000, 1e-3)])
def test_of_many_classes_each_is_kept_from_drifting(classes: int, epsilon: float) -> None:
    for statistics in (TEXT, SERIES, TAGS, STEPS):
        counts = {f"class{k}": 5 for k in range(classes)}
        assert resolve(replace(statistics, class_counts=counts), {})[0].output_epsilon == epsilon
        assert resolve(replace(statistics, class_counts=counts), {"output_epsilon": 0.5})[0].output_epsilon == 0.5


def test_a_class_of_few_texts_is_read_as_often_as_one_of_many() -> None:
    for rows, classes in [(35_000, 10_000), (700, 200), (100_000, 20_000)]:
        counts = {f"class{k}": rows // classes for k in range(classes)}
        config, _ = resolve(replace(TEXT, rows=rows, class_counts=counts), {})
        assert config.epochs * rows / classes >= 100


@pytest.mark.parametrize("wide", ["auto", "on"])
@pytest.mark.parametrize("statistics", [STEPS, TAGS])
def test_a_linear_branch_is_for_sequences_of_one_label(statistics: Statistics, wide: str) -> None:
    with pytest.raises(InvalidConfig, match=r"^wide: the linear branch is for sequences that have one label"):
        resolve(statistics, {"wide": wide})


@pytest.mark.parametrize(
    ("statistics", "settings"), [(SERIES, {}), (TAGS, {}), (TEXT, {}), (STEPS, {"dense_sizes": (8,)})]
)
def test_what_is_left_open_is_learnt_of_the_steps_of_a_series_alone(
    statistics: Statistics, settings: dict[str, Any]
) -> None:
    with pytest.raises(InvalidConfig, match=r"^residual: for series with a label for each step"):
        resolve(statistics, {"residual": True, **settings})


def test_a_head_of_the_users_own_reads_no_step_by_itself() -> None:
    config, choices = resolve(STEPS, {"dense_sizes": (8,)})
    assert (config.residual, config.dense_sizes) == (False, (8,))
    assert "residual" not in {choice.name for choice in choices}
    assert resolve(STEPS, {"dense_sizes": ()})[0].residual


@pytest.mark.parametrize("name", ["ngram_buckets", "affix_buckets", "pair_buckets"])
def test_tables_of_tokens_are_not_for_series(name: str) -> None:
    with pytest.raises(InvalidConfig, match=r"^ngram_buckets, affix_buckets, pair_buckets: these are of tokens"):
        resolve(SERIES, {name: 100})


def test_a_series_keeps_its_head_or_tail_but_not_both() -> None:
    with pytest.raises(InvalidConfig, match=r"^keep: head_tail is for texts"):
        resolve(SERIES, {"keep": "head_tail"})


def test_spans_are_not_monitored_where_there_are_none() -> None:
    with pytest.raises(InvalidConfig, match=r"^monitor: span_f1 needs BIO tags"):
        resolve(TEXT, {"monitor": "span_f1"})


@pytest.mark.parametrize("setting", [{"class_weights": "balanced"}, {"label_smoothing": 0.1}])
def test_a_chain_takes_no_setting_that_its_loss_would_leave_out(setting: dict[str, Any]) -> None:
    tags = replace(TEXT, task="step", bio=True, class_counts={"O": 50, "B-x": 30, "I-x": 20})
    with pytest.raises(InvalidConfig, match="crf"):
        resolve(tags, setting)


@pytest.mark.parametrize("statistics", [TEXT, SERIES, TAGS, STEPS, replace(SERIES, lengths=(500, 600, 900))])
def test_what_must_stream_has_nothing_that_waits_for_the_end(statistics: Statistics) -> None:
    config, choices = resolve(statistics, {"needs_streaming": True})
    assert (config.bidirectional, config.crf, config.stem_stride, config.branch_channels) == (False, False, 1, ())
    assert config.keep == "head"
    # N-grams can be counted as they come.
    assert (config.wide == "auto") == (statistics is TEXT)
    assert {choice.reason for choice in choices if choice.name == "bidirectional"} == {
        "a stream cannot wait for the sequence's end"
    }


def test_a_part_that_waits_is_refused_where_the_model_must_stream() -> None:
    with pytest.raises(InvalidConfig, match="needs_streaming: bidirectional as you gave it waits"):
        resolve(SERIES, {"needs_streaming": True, "bidirectional": True})
    config, _ = resolve(SERIES, {"needs_streaming": True, "bidirectional": False})
    assert not config.bidirectional


def test_a_finished_models_recipe_is_followed_whatever_the_rows_are_now() -> None:
    theirs, _ = resolve(TEXT, {"hidden_size": 32, "seed": 4})
    config, choices = follow(theirs, replace(TEXT, rows=100_000, lengths=(100, 300, 600)), {"epochs": 2})
    assert config == theirs.model_copy(update={"epochs": 2})
    assert theirs.epochs != 2
    reasons = {choice.name: choice.reason for choice in choices}
    assert (reasons["epochs"], reasons["hidden_size"]) == ("as you said", "as the model before")
    assert "select" not in reasons  # as in every plain configuration


def test_a_followed_recipe_gives_way_to_a_head_of_the_users_own_size() -> None:
    theirs, _ = resolve(STEPS, {})
    config, choices = follow(theirs, STEPS, {"dense_sizes": (8,)})
    assert theirs.residual
    assert config == theirs.model_copy(update={"dense_sizes": (8,), "residual": False})
    assert "residual" not in {choice.name for choice in choices}
    with pytest.raises(InvalidConfig, match=r"^residual"):
        follow(theirs, STEPS, {"dense_sizes": (8,), "residual": True})


def test_what_does_not_fit_a_followed_recipe_is_refused() -> None:
    theirs, _ = resolve(TEXT, {})
    with pytest.raises(InvalidConfig, match="monitor: span_f1 needs BIO tags"):
        follow(theirs, TEXT, {"monitor": "span_f1"})
