"""Gradual unfreezing: what was pretrained waits until what is above it has learnt something (Howard & Ruder 2018)."""

from __future__ import annotations

from collections.abc import Collection

import pytorch_lightning as pl
from torch.optim import Optimizer


class Unfreezing(pl.Callback):
    """Lets the head learn first, then the pretrained recurrent layers, then the pretrained embedding.

    Args:
        pretrained: names of the network's parameters that were pretrained; all others learn from the start.
        epochs: that each part waits for the one above it.
    """

    def __init__(self, pretrained: Collection[str], epochs: int) -> None:
        self.waits = {name: epochs * (2 if name.startswith("embedding.") else 1) for name in pretrained}

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        """Drop the gradients of the parts that still wait."""
        # requires_grad would save their backward pass, but with several devices every parameter's gradient is awaited.
        for name, parameter in pl_module.model.named_parameters():
            if trainer.current_epoch < self.waits.get(name, 0):
                parameter.grad = None
