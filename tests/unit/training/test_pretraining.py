"""Pretraining as a run of its own, and what fine-tuning makes of its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.architecture import ModelConfig
from gatewise.errors import InvalidConfig
from gatewise.text import TextEncoder, TextEncoderConfig
from gatewise.timeseries import TimeSeriesEncoder, TimeSeriesEncoderConfig
from tests.artifacts import config_of
from training import pretraining
from training.config import TrainingConfig
from training.data import EncodedDataset
from training.embedding import Forms
from training.fitting import Candidate, Devices, fit
from training.module import Network
from training.pretraining import Pretrained, PretrainingModule, pretrain

CPU = Devices(accelerator="cpu", devices="1")
STEPS = 5  # of an epoch: 40 rows in batches of 8


class Cut(Exception):
    """The run ends here, as if the machine had gone."""


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)


def waves(count: int, seed: int) -> list[np.ndarray]:
    """Two channels that a gap cannot hide: a wave, and the same wave a quarter later."""
    rng = np.random.default_rng(seed)
    turns = [np.arange(rng.integers(10, 20)) * 0.5 + rng.random() * 6 for _ in range(count)]
    return [np.stack([np.sin(t), np.cos(t)], axis=1).astype(np.float32) for t in turns]


SERIES = TimeSeriesEncoder.fit(waves(40, 0), ["a", "b"], differences=True)


def rows_of(items: list[Any]) -> EncodedDataset:
    return EncodedDataset(items, [0] * len(items))


def on_series(
    folder: Path, *, resume: bool = False, say: Any = None, max_seconds: float | None = None, **settings: Any
) -> Pretrained:
    fields = {
        "pretrain_epochs": 4,
        "pretrain_batch_size": 8,
        "learning_rate": 0.03,
        "recurrent_dropout": 0.1,
        **settings,
    }
    config = TrainingConfig(hidden_size=8, dense_sizes=(4,), bidirectional=True, **fields)
    model = config_of("series", "gru", input_size=4, hidden_size=8, bidirectional=True, recurrent_dropout=0.1)
    quiet: Callable[[str], None] = say or (lambda line: None)
    rows, held_out = (rows_of(SERIES.encode_many(waves(count, seed))) for count, seed in ((40, 1), (16, 2)))
    return pretrain(
        model,
        config,
        rows,
        held_out,
        None,
        SERIES.config,
        folder,
        say=quiet,
        resume=resume,
        devices=CPU,
        max_seconds=max_seconds,
    )


TEXTS = [" ".join(np.roll(["one", "two", "three", "four", "five"], i)) for i in range(5)] * 8


def on_text(folder: Path, *, resume: bool = False, say: Any = None, **settings: Any) -> Pretrained:
    """Texts in which every token follows from the one before, from either side."""
    tables: dict[str, Any] = {"embedding_dim": 6, "ngram_buckets": 20, "pair_buckets": 10}
    fields = {"pretrain_epochs": 4, "pretrain_batch_size": 8, "learning_rate": 0.03, "word_dropout": 0.1, **settings}
    config = TrainingConfig(hidden_size=8, bidirectional=True, **tables, **fields)
    encoder = TextEncoder.fit(TEXTS, TextEncoderConfig(level="words"), min_count=1)
    forms = Forms(encoder.words(), config.ngram_buckets)
    model = config_of("text", "lstm", vocab_size=encoder.vocab_size, hidden_size=8, bidirectional=True, **tables)
    rows = rows_of([forms.number(text) for text in encoder.encode_many(TEXTS)])
    quiet: Callable[[str], None] = say or (lambda line: None)
    return pretrain(model, config, rows, rows, forms, None, folder, say=quiet, resume=resume, devices=CPU)


RUNS: Any = {"series": on_series, "text": on_text}


def same(one: Pretrained, other: Pretrained) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(one.weights[name], other.weights[name]) for name in one.weights
    )


def figures(run: Pretrained) -> list[dict[str, float]]:
    return [{name: value for name, value in epoch.items() if name != "seconds"} for epoch in run.epochs]


def test_a_language_model_learns_what_follows_what(tmp_path: Path) -> None:
    lines: list[str] = []
    run = on_text(tmp_path, pretrain_epochs=30, say=lines.append)
    # Of five words one alone can follow; guessing has a perplexity of 5.
    assert run.epochs[0]["held_out_perplexity"] > 3
    assert run.epochs[-1]["held_out_perplexity"] < 1.7
    assert run.epochs[-1]["held_out_perplexity"] == pytest.approx(np.exp(run.epochs[-1]["held_out_loss"]))
    assert lines[-1].startswith("  lstm pretraining epoch 30/30  train_loss ")
    assert "held_out_perplexity" in lines[-1]
    assert lines[-1].endswith(" s")


def test_gaps_in_a_wave_are_filled_better_than_by_its_mean(tmp_path: Path) -> None:
    run = on_series(tmp_path, pretrain_epochs=40)
    # Standardized readings have a variance of one, which is the error of the mean.
    assert run.epochs[-1]["held_out_loss"] < 0.4
    assert run.epochs[-1]["held_out_loss"] < 0.6 * run.epochs[0]["held_out_loss"]


@pytest.mark.parametrize("kind", RUNS)
def test_the_taught_weights_are_the_recurrent_layers_and_the_words(tmp_path: Path, kind: str) -> None:
    names = set(RUNS[kind](tmp_path, pretrain_epochs=1).weights)
    words = {name for name in names if name.startswith("embedding.")}
    assert words == ({"embedding.words.weight", "embedding.ngrams.weight"} if kind == "text" else set())
    assert {name.split(".")[1] for name in names - words} == {"recurrent"}
    assert len(names - words) == 8


@pytest.mark.parametrize("kind", RUNS)
def test_the_same_seed_teaches_the_same_weights_and_another_seed_others(tmp_path: Path, kind: str) -> None:
    first, again, other = (
        RUNS[kind](tmp_path / str(i), seed=seed, pretrain_epochs=2) for i, seed in enumerate((3, 3, 4))
    )
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("moment", ["in an epoch", "before a checkpoint", "before the record"])
def test_pretraining_that_was_cut_off_ends_as_if_it_had_not_been(
    tmp_path: Path, kind: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = RUNS[kind](tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Cut):
        RUNS[kind](tmp_path / "cut", say=cut_at(moment, patch))
    lines: list[str] = []
    resumed = RUNS[kind](tmp_path / "cut", resume=True, say=lines.append)
    assert same(resumed, whole)
    assert figures(resumed) == figures(whole)
    assert "goes on from" in lines[0]
    assert len(lines) - 1 == {"in an epoch": 2, "before a checkpoint": 3, "before the record": 0}[moment]


def cut_at(moment: str, patch: pytest.MonkeyPatch) -> Callable[[str], None]:
    steps = iter(range(100))
    step = PretrainingModule.training_step

    def cut_in_step(module: PretrainingModule, batch: Any, batch_index: int) -> Any:
        if next(steps) == 2 * STEPS + 3 and moment == "in an epoch":
            raise Cut
        return step(module, batch, batch_index)

    def cut_before_record(folder: Path, pretrained: Pretrained) -> None:
        raise Cut

    def cut_when_said(line: str) -> None:
        if moment == "before a checkpoint" and "epoch 2/4" in line:
            raise Cut

    patch.setattr(PretrainingModule, "training_step", cut_in_step)
    if moment == "before the record":
        patch.setattr(pretraining, "_write_finished", cut_before_record)
    return cut_when_said


def test_finished_pretraining_is_taken_as_it_is(tmp_path: Path) -> None:
    first = on_text(tmp_path)
    lines: list[str] = []
    again = on_text(tmp_path, resume=True, say=lines.append)
    assert same(first, again)
    assert again.epochs == first.epochs
    assert lines == [f"  pretraining was finished before; its weights are taken from {tmp_path}"]
    assert not list(tmp_path.glob("*.ckpt*"))


def test_time_that_is_up_keeps_what_was_learnt(tmp_path: Path) -> None:
    run = on_series(tmp_path, pretrain_epochs=1000, max_seconds=1e-6)
    assert len(run.epochs) == 1
    assert all(torch.isfinite(weight).all() for weight in run.weights.values())


def test_pretraining_that_diverges_names_the_learning_rate(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"^learning_rate: with 1e\+30 pretraining diverged in epoch 1"):
        on_series(tmp_path, learning_rate=1e30)


# Fine-tuning


def finetuned(folder: Path, pretrained: Pretrained | None, **settings: Any) -> Candidate:
    fields = {
        "epochs": 3,
        "batch_size": 8,
        "learning_rate": 0.02,
        "weight_decay": 0.1,
        "optimizer": "adamw",
        **settings,
    }
    config = TrainingConfig(hidden_size=8, dense_sizes=(), **fields)
    model = network_config()
    items = SERIES.encode_many(waves(40, 3))
    data = EncodedDataset(items, [int(item[0, 0] > 0) for item in items])
    start = pretrained.weights if pretrained else None
    return fit(model, config, data, data, ("0", "1"), None, folder, say=lambda line: None, devices=CPU, start=start)


def network_config() -> ModelConfig:
    return config_of("series", "gru", input_size=4, hidden_size=8, bidirectional=True, dense_sizes=(), num_classes=2)


def test_fine_tuning_begins_with_the_pretrained_weights(tmp_path: Path) -> None:
    pretrained = on_series(tmp_path / "pre", pretrain_epochs=2)
    candidate = finetuned(tmp_path / "fit", pretrained, learning_rate=1e-12, weight_decay=0.0)
    for name, weight in pretrained.weights.items():
        np.testing.assert_allclose(candidate.weights[name.removeprefix("classifier.")], weight, atol=1e-8)


@pytest.mark.parametrize(("unfreeze_epochs", "stays"), [(0, False), (2, False), (3, True)])
def test_a_pretrained_part_waits_for_its_turn_bit_by_bit(tmp_path: Path, unfreeze_epochs: int, stays: bool) -> None:
    pretrained = on_series(tmp_path / "pre", pretrain_epochs=1)
    candidate = finetuned(tmp_path / "fit", pretrained, unfreeze_epochs=unfreeze_epochs)
    for name, weight in pretrained.weights.items():
        assert np.array_equal(candidate.weights[name.removeprefix("classifier.")], weight) == stays
    drawn = finetuned(tmp_path / "none", pretrained, unfreeze_epochs=unfreeze_epochs, epochs=1, learning_rate=1e-12)
    assert not np.array_equal(candidate.weights["output.weight"], drawn.weights["output.weight"])


def test_the_embedding_waits_twice_as_long_and_pairs_not_at_all(tmp_path: Path) -> None:
    pretrained = on_text(tmp_path / "pre", pretrain_epochs=1)
    tables: dict[str, Any] = {"embedding_dim": 6, "ngram_buckets": 20, "pair_buckets": 10}
    encoder = TextEncoder.fit(TEXTS, TextEncoderConfig(level="words"), min_count=1)
    forms = Forms(encoder.words(), 20)
    model = config_of("text", "lstm", vocab_size=encoder.vocab_size, hidden_size=8, bidirectional=True, **tables)
    data = EncodedDataset([forms.number(text) for text in encoder.encode_many(TEXTS)], [0, 1] * 20)
    changed = []
    for epochs in (1, 2, 3):
        config = TrainingConfig(hidden_size=8, epochs=epochs, unfreeze_epochs=1, seed=5, **tables)
        start, folder = pretrained.weights, tmp_path / str(epochs)
        run = fit(
            model, config, data, data, ("0", "1", "2"), forms, folder, say=lambda line: None, devices=CPU, start=start
        )
        state = run.weights
        words = Network(model, forms, 0.0)
        words.load_state_dict(dict(start), strict=False)
        before = words.weights()
        parts = ("ngrams.weight", "recurrent.0.left_to_right.weight_hh_l0")
        changed.append([not np.array_equal(state[name], before[name]) for name in parts])
    assert changed == [[False, False], [False, True], [True, True]]


def test_a_run_with_waiting_parts_that_was_cut_off_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """The wait is a matter of the epoch's number, which a resumed run knows."""
    pretrained = on_series(tmp_path / "pre", pretrain_epochs=1)
    whole = finetuned(tmp_path / "whole", pretrained, unfreeze_epochs=2)
    lines: list[str] = []

    def cut(line: str) -> None:
        lines.append(line)
        if "epoch 3/3" in line:
            raise Cut

    items = SERIES.encode_many(waves(40, 3))
    data = EncodedDataset(items, [int(item[0, 0] > 0) for item in items])
    fields = {"epochs": 3, "batch_size": 8, "learning_rate": 0.02, "weight_decay": 0.1, "optimizer": "adamw"}
    config = TrainingConfig(hidden_size=8, dense_sizes=(), unfreeze_epochs=2, **fields)
    arguments: Any = (network_config(), config, data, data, ("0", "1"), None, tmp_path / "cut")
    with pytest.raises(Cut):
        fit(*arguments, say=cut, devices=CPU, start=pretrained.weights)
    resumed = fit(*arguments, say=lines.append, devices=CPU, start=pretrained.weights, resume=True)
    assert "goes on from" in lines[3]
    assert all(np.array_equal(resumed.weights[name], whole.weights[name]) for name in whole.weights)


def test_the_encoder_of_series_with_missing_readings_is_taught_too(tmp_path: Path) -> None:
    config = TimeSeriesEncoderConfig(channels=("a",), mean=(0.0,), scale=(1.0,), allow_missing=True)
    encoder = TimeSeriesEncoder(config)
    items = [
        np.where(np.arange(12)[:, None] % 5 == i % 5, np.nan, np.sin(np.arange(12)[:, None] + i)) for i in range(24)
    ]
    rows = rows_of(encoder.encode_many([item.astype(np.float32) for item in items]))
    model = config_of("series", "lstm", input_size=2)
    settings = TrainingConfig(hidden_size=4, pretrain_epochs=2, pretrain_batch_size=8)
    run = pretrain(model, settings, rows, rows, None, config, tmp_path, say=lambda line: None, devices=CPU)
    assert all(np.isfinite(epoch["held_out_loss"]) for epoch in run.epochs)
