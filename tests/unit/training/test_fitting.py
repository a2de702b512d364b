"""One cell trained: what it learns, where it stops, and that a run that was cut off ends as one that was not.

The cuts here are exceptions, in this process; tests/fault/test_resume.py kills whole jobs.
"""

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
from tests.unit.training.small_runs import CPU, LABELS, TRAIN, VALID, figures, same_weights, trained
from training import callbacks, fitting
from training.callbacks import BestWeights
from training.config import TrainingConfig
from training.data import EncodedDataset
from training.fitting import Candidate, Devices, class_weights, fit
from training.module import ClassifierModule
from training.preparing import make_forms

CONVOLVED = {"stem_stride": 2, "stem_channels": 3, "branch_channels": (4,), "branch_kernels": (3,)}


class Cut(BaseException):
    """The end of a process, without its end."""


def trained_on_text(folder: Path, *, resume: bool = False, say: Any = None, **settings: Any) -> Candidate:
    """Words that go up or down, some by their ending alone: the vocabulary has only four of them."""
    rng = np.random.default_rng(2)
    settings = {"epochs": 4, "batch_size": 8, "learning_rate": 0.05, "word_dropout": 0.2} | settings
    tables = {"embedding_dim": 3, "ngram_buckets": 50, "pair_buckets": 20}
    config = TrainingConfig(hidden_size=4, dense_sizes=(4,), **tables, **settings)
    words = ["rising", "falling", "the", "price"]
    encoder = TextEncoder.fit([" ".join(words)], TextEncoderConfig(level="words"), min_count=1)
    forms = make_forms(encoder, config)
    assert forms is not None

    def texts(count: int) -> EncodedDataset:
        labels = rng.integers(0, 2, size=count).tolist()
        chosen = [rng.choice(["rising", "uprising", "arising"] if k else ["falling", "befalling"]) for k in labels]
        encoded = encoder.encode_many([f"the price {word}" if rng.random() < 0.5 else word for word in chosen])
        return EncodedDataset([forms.number(text) for text in encoded], labels)

    model = ModelConfig(
        kind="text", cell="gru", vocab_size=encoder.vocab_size, hidden_size=4, dense_sizes=(4,), num_classes=2, **tables
    )
    quiet: Callable[[str], None] = say or (lambda line: None)
    train, valid = texts(40), texts(30)
    return fit(model, config, train, valid, LABELS, forms, folder, say=quiet, resume=resume, devices=CPU)


def test_the_loss_falls_and_every_epoch_is_recorded(tmp_path: Path) -> None:
    lines: list[str] = []
    candidate = trained(tmp_path, epochs=8, say=lines.append)
    losses = [epoch["train_loss"] for epoch in candidate.epochs]
    assert losses[-1] < 0.8 * losses[0]
    assert [epoch["epoch"] for epoch in candidate.epochs] == list(range(1, 9))
    assert (candidate.best_epoch, candidate.stopped_by) == (8, "epochs")
    assert candidate.seconds == pytest.approx(sum(epoch["seconds"] for epoch in candidate.epochs))
    assert [line.split("  ")[1] for line in lines] == [f"gru epoch {epoch}/8" for epoch in range(1, 9)]
    assert candidate.weights["output.weight"].shape == (2, 4)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    first = trained(tmp_path / "1", seed=3, epochs=2)
    again = trained(tmp_path / "2", seed=3, epochs=2)
    other = trained(tmp_path / "3", seed=4, epochs=2)
    assert same_weights(first, again)
    assert not same_weights(first, other)


@pytest.mark.parametrize(
    "setting",
    [
        {"schedule": "one_cycle", "optimizer": "adamw"},
        {"select": "best"},
        {"averaging": 0.9, "network": CONVOLVED},
        {"averaging": 0.9, "network": CONVOLVED, "select": "best"},
        {"averaging": 0.9, "network": CONVOLVED, "valid": None, "patience": 2},
        {"time_warp": 0.2, "scaling": 0.1, "channel_mixing": 0.1},
    ],
    ids=["one_cycle", "best", "averaged", "averaged_best", "without_validation", "augmented"],
)
@pytest.mark.parametrize("moment", ["in an epoch", "before the checkpoint", "after an epoch", "before the record"])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    tmp_path: Path, moment: str, setting: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole", **setting)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        trained(tmp_path / "cut", **setting, say=cut_at(moment, patch))
    lines: list[str] = []
    resumed = trained(tmp_path / "cut", **setting, resume=True, say=lines.append)
    assert same_weights(resumed, whole)
    assert figures(resumed) == figures(whole)
    assert (resumed.best_epoch, resumed.stopped_by) == (whole.best_epoch, whole.stopped_by)
    assert "goes on from" in lines[0]
    epochs_again = {"in an epoch": 2, "before the checkpoint": 3, "after an epoch": 2, "before the record": 0}
    assert len(lines) - 1 == epochs_again[moment]


@pytest.mark.parametrize("moment", ["after an epoch", "before the record"])
def test_a_run_on_text_that_was_cut_off_ends_as_one_that_was_not(
    tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained_on_text(tmp_path / "whole", select="best")
    with monkeypatch.context() as patch, pytest.raises(Cut):
        trained_on_text(tmp_path / "cut", select="best", say=cut_at(moment, patch))
    resumed = trained_on_text(tmp_path / "cut", select="best", resume=True)
    assert same_weights(resumed, whole)
    assert figures(resumed) == figures(whole)
    assert same_weights(trained_on_text(tmp_path / "cut", select="best", resume=True), whole)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_words_that_the_vocabulary_lacks_are_learnt_by_their_characters(tmp_path: Path, precision: str) -> None:
    candidate = trained_on_text(tmp_path, epochs=12, precision=precision)
    assert candidate.epochs[-1]["valid_accuracy"] == 1
    shapes = {name: array.shape for name, array in candidate.weights.items() if "." in name and name[0] in "enp"}
    assert shapes == {"embedding.weight": (6, 3), "ngrams.weight": (50, 3), "pairs.weight": (20, 3)}
    assert {str(array.dtype) for array in candidate.weights.values()} == {"float32"}


def test_the_best_epochs_words_are_kept_with_the_characters_of_that_epoch(tmp_path: Path) -> None:
    kept = trained_on_text(tmp_path / "best", select="best", epochs=12, learning_rate=0.2)
    assert kept.best_epoch < 12
    assert same_weights(kept, trained_on_text(tmp_path / "short", epochs=kept.best_epoch, learning_rate=0.2))


def cut_at(moment: str, patch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Arrange for the run of four epochs of five steps to be cut off; return its `say`."""
    steps = iter(range(100))
    step = ClassifierModule.training_step

    def cut_in_step(module: ClassifierModule, batch: Any, batch_index: int) -> Any:
        if next(steps) == {"in an epoch": 13, "after an epoch": 10}.get(moment):
            raise Cut
        return step(module, batch, batch_index)

    def cut_before_record(folder: Path, candidate: Candidate) -> None:
        raise Cut

    def cut_when_said(line: str) -> None:
        if moment == "before the checkpoint" and "epoch 2/4" in line:
            raise Cut

    patch.setattr(ClassifierModule, "training_step", cut_in_step)
    if moment == "before the record":
        patch.setattr(fitting, "_write_finished", cut_before_record)
    return cut_when_said


def test_a_run_cut_off_after_its_patience_had_ended_trains_no_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"patience": 1, "epochs": 30, "learning_rate": 0.3}
    whole = trained(tmp_path / "whole", **settings)
    assert whole.stopped_by == "patience"
    assert len(whole.epochs) < 30
    with monkeypatch.context() as patch, pytest.raises(Cut):
        trained(tmp_path / "cut", **settings, say=cut_at("before the record", patch))
    resumed = trained(tmp_path / "cut", **settings, resume=True)
    assert figures(resumed) == figures(whole)
    assert same_weights(resumed, whole)
    assert (resumed.best_epoch, resumed.stopped_by) == (whole.best_epoch, "patience")


def test_a_checkpoint_that_was_cut_off_leaves_the_one_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained(tmp_path / "whole")
    saves = iter(range(100))
    write = torch.save

    def cut_in_third(checkpoint: Any, path: Path) -> None:
        write(checkpoint, path)
        if next(saves) == 2:
            content = path.read_bytes()
            path.write_bytes(content[: len(content) // 2])
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", cut_in_third)
        with pytest.raises(Cut):
            trained(tmp_path / "cut")
    resumed = trained(tmp_path / "cut", resume=True)
    assert same_weights(resumed, whole)
    assert figures(resumed) == figures(whole)


def test_a_checkpoint_waits_until_training_has_taken_its_time_and_the_run_ends_as_it_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(tmp_path / "whole")
    monkeypatch.setattr(callbacks, "_LARGEST_SHARE", 1e-9)
    with monkeypatch.context() as patch, pytest.raises(Cut):
        trained(tmp_path / "cut", say=cut_at("before the record", patch))
    lines: list[str] = []
    resumed = trained(tmp_path / "cut", resume=True, say=lines.append)
    # There is the first epoch's alone: three of the four are trained again.
    assert len(lines) - 1 == 3
    assert same_weights(resumed, whole)
    assert figures(resumed) == figures(whole)


def test_a_finished_candidate_is_taken_as_it_is(tmp_path: Path) -> None:
    first = trained(tmp_path, select="best")
    lines: list[str] = []
    again = trained(tmp_path, select="best", resume=True, say=lines.append)
    assert same_weights(first, again)
    assert (again.epochs, again.best_epoch, again.stopped_by) == (first.epochs, first.best_epoch, first.stopped_by)
    assert len(lines) == 1
    assert "was finished before" in lines[0]
    assert not list(tmp_path.glob("*.ckpt*"))


def test_without_validation_the_last_epochs_weights_are_kept_whatever_the_settings_select(tmp_path: Path) -> None:
    lines: list[str] = []
    without = trained(tmp_path / "without", valid=None, select="best", patience=1, learning_rate=0.3, say=lines.append)
    assert (without.best_epoch, without.stopped_by) == (4, "epochs")
    assert same_weights(without, trained(tmp_path / "with", learning_rate=0.3))
    assert [epoch.keys() for epoch in without.epochs] == [{"epoch", "seconds", "train_loss"}] * 4
    assert [line.split("  ")[1] for line in lines] == [f"gru epoch {epoch}/4" for epoch in range(1, 5)]


def test_a_time_that_is_up_keeps_the_last_weights_where_nothing_was_measured(tmp_path: Path) -> None:
    candidate = trained(tmp_path, epochs=100_000, max_seconds=0.3, valid=None)
    assert candidate.stopped_by == "max_time"
    assert candidate.best_epoch == len(candidate.epochs)
    assert all(np.isfinite(array).all() for array in candidate.weights.values())


def test_the_best_epochs_weights_are_kept_where_the_settings_say_so(tmp_path: Path) -> None:
    kept = trained(tmp_path / "best", select="best", epochs=12, learning_rate=0.2)
    ranks = [(epoch["valid_accuracy"], -epoch["valid_log_loss"]) for epoch in kept.epochs]
    assert kept.best_epoch == ranks.index(max(ranks)) + 1
    assert kept.best_epoch < 12
    # One-epoch runs of that length, without a schedule, end where the best epoch did.
    assert same_weights(kept, trained(tmp_path / "short", epochs=kept.best_epoch, learning_rate=0.2))


def test_patience_ends_a_run_that_gets_no_better_with_its_best_weights(tmp_path: Path) -> None:
    candidate = trained(tmp_path, patience=2, epochs=100, learning_rate=0.3)
    ranks = [(epoch["valid_accuracy"], -epoch["valid_log_loss"]) for epoch in candidate.epochs]
    assert candidate.stopped_by == "patience"
    assert candidate.best_epoch == ranks.index(max(ranks)) + 1
    assert len(ranks) == candidate.best_epoch + 2


def test_a_run_whose_time_is_up_keeps_its_best_weights(tmp_path: Path) -> None:
    candidate = trained(tmp_path, epochs=100_000, max_seconds=0.3)
    assert candidate.stopped_by == "max_time"
    ranks = [(epoch["valid_accuracy"], -epoch["valid_log_loss"]) for epoch in candidate.epochs]
    assert candidate.best_epoch == ranks.index(max(ranks)) + 1
    assert all(np.isfinite(array).all() for array in candidate.weights.values())


def test_time_that_is_up_at_once_still_leaves_a_model(tmp_path: Path) -> None:
    candidate = trained(tmp_path, epochs=1000, max_seconds=1e-6)
    assert candidate.stopped_by == "max_time"
    assert len(candidate.epochs) == 1


def test_one_cycle_ends_with_the_run(tmp_path: Path) -> None:
    rates = []

    class Rates(BestWeights):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "BestWeights", Rates)
        trained(tmp_path, schedule="one_cycle", epochs=4)
    assert max(rates) <= 0.01
    assert rates == sorted(rates, reverse=True)
    # The last step's rate is the lowest; one more step would have none.
    assert 0 < rates[-1] < 0.01 * 0.01


@pytest.mark.parametrize("network", [{}, CONVOLVED])
def test_gradients_are_clipped_in_mixed_precision_too(tmp_path: Path, network: dict[str, Any]) -> None:
    candidate = trained(
        tmp_path,
        precision="bf16-mixed",
        gradient_clip=1.0,
        optimizer="adamw",
        averaging=0.9,
        network=network,
        epochs=2,
    )
    assert len(candidate.epochs) == 2
    assert {str(array.dtype) for array in candidate.weights.values()} == {"float32"}


@pytest.mark.parametrize(
    "devices",
    [
        Devices(accelerator="abacus"),
        Devices(accelerator="cpu", devices="0"),
        Devices(accelerator="cpu", devices="some"),
        Devices(accelerator="cpu", devices="1", strategy="none"),
        Devices(accelerator="cpu", devices="1", num_nodes=0),
    ],
)
def test_devices_that_lightning_does_not_know_are_a_wrong_setting(tmp_path: Path, devices: Devices) -> None:
    model = ModelConfig(kind="series", input_size=2, hidden_size=4, num_classes=2)
    with pytest.raises(InvalidConfig, match=r"^accelerator, devices, strategy") as error:
        fit(model, TrainingConfig(), TRAIN, VALID, LABELS, None, tmp_path, devices=devices, say=lambda line: None)
    assert "\n" not in error.value.message


@pytest.mark.parametrize(("kind", "power"), [("balanced", -1.0), ("sqrt", -0.5)])
def test_class_weights_have_a_mean_of_one_over_the_rows(kind: str, power: float) -> None:
    data = EncodedDataset([np.array([1])] * 10, [0] * 7 + [1] * 2 + [2])
    weights = class_weights(kind, data, 3)
    assert weights is not None
    expected = np.array([7.0, 2.0, 1.0]) ** power
    np.testing.assert_allclose(weights / weights[0], expected / expected[0], rtol=1e-6)
    assert float(weights @ torch.tensor([7.0, 2.0, 1.0])) / 10 == pytest.approx(1.0)
    assert class_weights("none", data, 3) is None


def test_class_weights_of_steps_count_steps() -> None:
    data = EncodedDataset([np.zeros(3), np.zeros(1)], [np.array([0, 0, 1]), np.array([0])])
    weights = class_weights("balanced", data, 2)
    assert weights is not None
    np.testing.assert_allclose(weights, [2 / 3, 2.0], rtol=1e-6)


def test_many_epochs_are_told_in_few_lines_with_the_first_and_the_last(tmp_path: Path) -> None:
    lines: list[str] = []
    trained(tmp_path, say=lines.append, epochs=103)
    told = [int(line.split("epoch ")[1].split("/")[0]) for line in lines]
    assert told == [1, *range(3, 103, 3), 103]
