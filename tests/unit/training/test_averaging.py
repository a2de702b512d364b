"""The moving average of the weights: step by step by hand, and what a run with it measures, keeps and goes on from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from gatewise.convolution import StepNorm
from tests.unit.training.small_runs import figures, same_weights, trained
from training import fitting
from training.callbacks import AveragedWeights
from training.module import ClassifierModule

CONVOLVED = {"stem_stride": 2, "stem_channels": 3, "branch_channels": (4,), "branch_kernels": (3,)}


def by_hand(first: np.ndarray, steps: list[np.ndarray], decay: float) -> np.ndarray:
    """a <- d a + (1 - d) w at each step, with d = min(decay, n / (n + 9)) at the n-th."""
    average = first.astype(np.float64)
    for n, weights in enumerate(steps, start=1):
        d = min(decay, n / (n + 9))
        average = d * average + (1 - d) * weights
    return average


def stepped(callback: AveragedWeights, module: Any, steps: int) -> dict[str, list[np.ndarray]]:
    """Give the module new weights `steps` times; return all that each had, the first ones first."""
    seen = {name: [tensor.numpy().copy()] for name, tensor in module.model.state_dict().items()}
    for _ in range(steps):
        for name, tensor in module.model.state_dict().items():
            tensor.add_(torch.randn_like(tensor) if tensor.is_floating_point() else 1)
            seen[name].append(tensor.numpy().copy())
        callback.on_train_batch_end(None, module, None, None, 0)
    return seen


def module_of() -> Any:
    torch.manual_seed(0)
    return SimpleNamespace(model=torch.nn.ModuleList([torch.nn.Linear(3, 2), StepNorm(2), torch.nn.BatchNorm1d(2)]))


@pytest.mark.parametrize("decay", [0.15, 0.5, 0.98])
def test_the_average_is_that_of_the_steps_by_hand_with_the_statistics_of_normalization(decay: float) -> None:
    module, callback = module_of(), AveragedWeights(decay)
    callback.on_train_start(None, module)
    seen = stepped(callback, module, 14)
    assert {"0.weight", "1.mean", "1.variance", "2.running_var"} <= callback.average.keys()
    for name, average in callback.average.items():
        first, *rest = seen[name]
        np.testing.assert_allclose(average, by_hand(first, rest, decay), rtol=0, atol=1e-5)
    # A count is no average.
    assert "2.num_batches_tracked" not in callback.average


def test_validation_sees_the_average_and_training_goes_on_with_the_modules_own() -> None:
    module, callback = module_of(), AveragedWeights(0.9)
    callback.on_train_start(None, module)
    stepped(callback, module, 3)
    own = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
    average = {name: tensor.clone() for name, tensor in callback.average.items()}
    callback.on_validation_start(None, module)
    shown = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
    assert all(torch.equal(shown[name], average[name]) for name in average)
    callback.on_validation_end(None, module)
    assert all(torch.equal(tensor, own[name]) for name, tensor in module.model.state_dict().items())
    assert all(torch.equal(tensor, average[name]) for name, tensor in callback.average.items())


def test_a_checkpoint_of_it_goes_on_as_if_nothing_had_been() -> None:
    module, callback = module_of(), AveragedWeights(0.9)
    callback.on_train_start(None, module)
    stepped(callback, module, 5)
    state = {name: (value if name == "steps" else dict(value)) for name, value in callback.state_dict().items()}
    resumed = AveragedWeights(0.9)
    resumed.load_state_dict({"steps": state["steps"], "average": {k: v.clone() for k, v in state["average"].items()}})
    resumed.on_train_start(None, module)
    for one in (callback, resumed):
        torch.manual_seed(1)
        own = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
        stepped(one, module, 4)
        module.model.load_state_dict(own)
    assert callback.steps == resumed.steps == 9
    assert all(torch.equal(callback.average[name], tensor) for name, tensor in resumed.average.items())


# In a run


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, np.ndarray]]:
    """The module's own weights, first and after each step, of the runs that follow."""
    seen: list[dict[str, np.ndarray]] = []

    def now(module: Any) -> dict[str, np.ndarray]:
        return {name: tensor.numpy().copy() for name, tensor in module.model.classifier.state_dict().items()}

    class Recording(fitting.EpochSeed):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            seen.append(now(pl_module))

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *others: Any) -> None:
            seen.append(now(pl_module))

    monkeypatch.setattr(fitting, "EpochSeed", Recording)
    return seen


def test_a_run_keeps_the_average_of_its_own_steps_which_are_those_of_a_run_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = recorded(monkeypatch)
    plain = trained(tmp_path / "plain", network=CONVOLVED)
    own, others = list(seen), seen
    others.clear()
    averaged = trained(tmp_path / "averaged", network=CONVOLVED, averaging=0.8)
    assert len(own) == len(others) == 1 + 4 * 5
    for one, other in zip(own, others, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
    assert {name for name in own[0] if name.endswith(".mean")} == {"stem.norm.mean", "branch.0.norm.mean"}
    for name in own[0]:
        first, *rest = [weights[name] for weights in own]
        np.testing.assert_allclose(averaged.weights[name], by_hand(first, rest, 0.8), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(plain.weights["output.weight"], own[-1]["output.weight"])
    assert [epoch["train_loss"] for epoch in plain.epochs] == [epoch["train_loss"] for epoch in averaged.epochs]


def test_every_epoch_is_measured_on_the_average(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = recorded(monkeypatch)
    measured: list[dict[str, np.ndarray]] = []
    step = ClassifierModule.validation_step

    def watch(module: ClassifierModule, batch: Any, batch_index: int) -> None:
        if batch_index == 0:
            measured.append({k: v.numpy().copy() for k, v in module.model.classifier.state_dict().items()})
        step(module, batch, batch_index)

    monkeypatch.setattr(ClassifierModule, "validation_step", watch)
    trained(tmp_path, averaging=0.8, network=CONVOLVED)
    assert len(measured) == 4
    for epoch, weights in enumerate(measured, start=1):
        for name, tensor in weights.items():
            first, *rest = [one[name] for one in seen[: 1 + 5 * epoch]]
            np.testing.assert_allclose(tensor, by_hand(first, rest, 0.8), rtol=0, atol=1e-5)


def test_the_best_epochs_average_is_kept_where_the_settings_say_so(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"averaging": 0.6, "learning_rate": 0.3, "network": CONVOLVED}
    kept = trained(tmp_path / "best", select="best", epochs=12, **settings)
    ranks = [(epoch["valid_accuracy"], -epoch["valid_log_loss"]) for epoch in kept.epochs]
    assert kept.best_epoch == ranks.index(max(ranks)) + 1
    assert kept.best_epoch < 12
    assert same_weights(kept, trained(tmp_path / "short", epochs=kept.best_epoch, **settings))


def test_without_validation_the_last_epochs_average_is_kept(tmp_path: Path) -> None:
    with_it = trained(tmp_path / "with", averaging=0.9, network=CONVOLVED)
    without = trained(tmp_path / "without", averaging=0.9, network=CONVOLVED, valid=None)
    assert same_weights(with_it, without)
    assert [epoch.keys() for epoch in without.epochs] == [{"epoch", "seconds", "train_loss"}] * 4
    assert [epoch["train_loss"] for epoch in figures(with_it)] == [epoch["train_loss"] for epoch in figures(without)]
