"""What is left out around each step leaves the step as it was."""

from __future__ import annotations

import pytorch_lightning as pl
import torch
from pytorch_lightning.demos.boring_classes import RandomDataset
from torch import Tensor, nn
from torch.utils.data import DataLoader

from training.fitting import quiet_lightning
from training.lean import LeanModule, NoProfiler


class Lean(LeanModule):
    """One linear layer, which learns to answer large numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def training_step(self, batch: Tensor, batch_index: int) -> Tensor:
        return -1000 * self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def distance_of_a_step(clip: float | None) -> float:
    torch.manual_seed(0)
    module = Lean()
    before = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=1,
        gradient_clip_val=clip,
        profiler=NoProfiler(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=0,
    )
    with quiet_lightning():
        trainer.fit(module, DataLoader(RandomDataset(4, 2), batch_size=2))
    return float((nn.utils.parameters_to_vector(module.parameters()).detach() - before).norm())


def test_gradients_are_clipped_where_it_is_asked_for_and_nowhere_else() -> None:
    assert abs(distance_of_a_step(0.5) - 0.5) < 1e-5
    assert distance_of_a_step(None) > 100
    assert distance_of_a_step(0.0) > 100


def test_parameters_buffers_and_modules_are_still_registered() -> None:
    module = Lean()
    module.weight = nn.Parameter(torch.zeros(1))
    module.word = "a word"
    module.register_buffer("shift", torch.zeros(1))
    module.shift = torch.ones(1)
    assert {"weight", "layer.weight", "layer.bias"} == {name for name, _ in module.named_parameters()}
    assert dict(module.named_buffers())["shift"] == 1
    assert module.word == "a word"
    assert "word" in vars(module)


def test_the_profiler_runs_what_it_is_put_around_and_lets_errors_through() -> None:
    ran = []
    profiler = NoProfiler()
    with profiler.profile("outer"), profiler.profile("inner"):
        ran.append(1)
    assert ran == [1]
    try:
        with profiler.profile("outer"):
            raise ValueError("told")
    except ValueError as error:
        ran.append(str(error))
    assert ran == [1, "told"]
