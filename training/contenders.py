"""What is trained to be compared: each cell in each size, with each seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gatewise.architecture import Cell
from training.config import TrainingConfig


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        settings: for each cell those that were best for it.
        account: of the search, for the manifest; JSON only.
    """

    settings: dict[Cell, dict[str, Any]]
    account: dict[str, Any]


@dataclass(frozen=True)
class Contender:
    """One training of a job.

    Attributes:
        name: of the candidate that it belongs to: `lstm`, or with several sizes `lstm-64`.
        config: the job's, with this one's seed and size and what a search found.
        is_first: whether its seed is the candidate's first.
    """

    name: str
    cell: Cell
    config: TrainingConfig
    is_first: bool = True

    @property
    def seed(self) -> int:
        """Of the initial weights, the order of the rows and dropout."""
        return self.config.seed

    @property
    def folder(self) -> str:
        """Its folder's name in the run's."""
        return self.name if self.is_first else f"{self.name}-seed{self.seed}"

    @property
    def title(self) -> str:
        """What it is called in a line."""
        return self.name.upper() if self.is_first else f"{self.name.upper()} with seed {self.seed}"


def contenders(config: TrainingConfig, found: Found | None = None) -> list[Contender]:
    """Everything that a job trains, in its order: the seeds of a candidate one after the other."""
    settings = found.settings if found else {}
    return [
        Contender(
            f"{cell}-{size}" if len(config.sizes) > 1 else cell,
            cell,
            config.model_copy(update={"hidden_size": size, **settings.get(cell, {}), "seed": config.seed + i}),
            is_first=i == 0,
        )
        for cell in config.cells
        for size in config.sizes or (config.hidden_size,)
        for i in range(config.seeds)
    ]
