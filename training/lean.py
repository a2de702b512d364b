"""What Lightning does around each step that no training here needs, left out by its own hooks and settings.

A step of short texts takes ten milliseconds, and Lightning added most of one to it.
"""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import PassThroughProfiler
from torch.optim import Optimizer

_NOTHING = nullcontext()


class LeanModule(pl.LightningModule):
    """A LightningModule with the same steps and less around them."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Write down the signature of the step, which Lightning else works out at each step."""
        super().__init_subclass__(**options)
        step: Any = vars(cls).get("training_step")
        if step:
            step.__signature__ = inspect.signature(step)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; a string as Python does it."""
        # Lightning notes the name of the hook that runs some fifty times a step, and a Module looks each value over
        # for being a parameter, a buffer or a module.
        if isinstance(value, str):
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip where the configuration says so."""
        if gradient_clip_val:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)


class NoProfiler(PassThroughProfiler):
    """Does nothing at once, where Lightning's own enters a generator for it, fifty times a step."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:
        """Time nothing."""
        return _NOTHING
