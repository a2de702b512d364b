"""Every setting of a training run, in one typed, flat table; a TOML file holds the same names.

The recipe fills what the user leaves open, the user's values always win, and the artifact keeps the resolved table.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from gatewise.architecture import Cell, Pooling
from gatewise.errors import InvalidConfig
from gatewise.text import Keep, Level

Preset = Literal["default", "documented"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
EmbeddingMode = Literal["frozen", "finetuned", "gated"]


# What a choice goes by and no training does: another budget is no other job.
DECIDING = frozenset({"max_latency_ms", "max_size_mb"})


class TrainingConfig(BaseModel):
    """A resolved training configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: Preset = "default"
    cells: tuple[Cell, ...] = Field(("lstm", "gru"), min_length=1, description="the candidates, trained in this order")
    seed: int = Field(0, ge=0, description="of the split, the initial weights, the order of the rows and dropout")
    seeds: int = Field(1, ge=1, le=100, description="trainings of each candidate, with seed, seed + 1 and so on")
    sizes: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="hidden sizes, each a candidate with each cell; hidden_size alone where empty"
    )
    search: int = Field(0, ge=0, description="trials of settings that the recipe leaves open, before the candidates")

    # Choice
    max_latency_ms: float | None = Field(None, gt=0, description="of one long sequence alone, at the service's engine")
    max_size_mb: float | None = Field(None, gt=0, description="of the artifact")
    needs_streaming: bool = Field(False, description="whether sequences must be answered as they come")

    # Encoding
    level: Level = Field("words", description="what a text's timesteps are")
    lowercase: bool = True
    vocab_size: int = Field(30_000, ge=3)
    min_count: int = Field(2, ge=1, description="tokens seen less often in train are unknown")
    max_length: int | None = Field(None, ge=2, description="tokens or timesteps kept of a longer sequence")
    keep: Keep = Field("head", description="which part of a longer sequence is kept")
    differences: bool = Field(False, description="first differences of a series are inputs too")
    window: int = Field(512, ge=2, description="per-step training rows longer than this are cut into pieces")

    # Network
    embedding_dim: int = Field(128, ge=1)
    ngram_buckets: int = Field(0, ge=0, description="rows for hashed character n-grams of tokens; 0 is none")
    affix_buckets: int = Field(0, ge=0, description="rows for hashed ends and shapes of tokens; 0 is none")
    pair_buckets: int = Field(0, ge=0, description="rows for hashed pairs of neighbouring tokens; 0 is none")
    stem_stride: int = Field(1, ge=1, description="timesteps that a convolution makes one of; 1 is no stem")
    stem_channels: int = Field(64, ge=1)
    branch_channels: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="convolutions beside the recurrent layers, whose average over time joins theirs; empty is none"
    )
    branch_kernels: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="width of each, odd")
    hidden_size: int = Field(128, ge=1)
    num_layers: int = Field(1, ge=1, le=8)
    bidirectional: bool = False
    pooling: tuple[Pooling, ...] = Field(("last",), min_length=1)
    dense_sizes: tuple[Annotated[int, Field(ge=1)], ...] = (64,)
    skip: bool = Field(False, description="the head of a per-step model reads the step's own features too")
    residual: bool = Field(
        False, description="the network learns what a logistic regression of the single step leaves open"
    )
    crf: bool = Field(False, description="a chain over the tags of a per-step model: which tag follows which")
    wide: Literal["auto", "on", "off"] = Field(
        "off",
        description="a linear branch over n-grams of a text or short patterns of a series; auto keeps it where "
        "validation says that it helps",
    )
    embedding_dropout: float = Field(
        0.0, ge=0, lt=1, description="share of the features that a whole sequence is trained without"
    )
    recurrent_dropout: float = Field(0.0, ge=0, lt=1)
    dense_dropout: float = Field(0.0, ge=0, lt=1)
    update_gate_bias: float = Field(0.0, description="initial bias of a GRU's update gate; an LSTM's forget gate has 1")

    # Optimization
    epochs: int = Field(10, ge=1, le=100_000)
    batch_size: int = Field(32, ge=1)
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(1e-3, gt=0, description="the peak where the schedule is one_cycle")
    weight_decay: float = Field(0.0, ge=0)
    output_epsilon: float = Field(1e-8, gt=0, description="Adam's epsilon for the layer of the classes")
    schedule: Literal["constant", "one_cycle"] = "constant"
    gradient_clip: float = Field(0.0, ge=0, description="largest norm of the gradient; 0 is no clipping")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    word_dropout: float = Field(0.0, ge=0, lt=1, description="share of tokens replaced by the unknown one in training")
    input_noise: float = Field(0.0, ge=0, description="deviation of the noise on standardized readings in training")
    time_warp: float = Field(0.0, ge=0, le=0.5, description="deviation of the speed at which a series is read")
    scaling: float = Field(0.0, ge=0, le=1, description="deviation of the factor that a series' channels get")
    channel_mixing: float = Field(0.0, ge=0, le=1, description="how much of its other channels a channel gets")
    averaging: float = Field(
        0.0, ge=0, lt=1, description="decay of the moving average of the weights that is kept for them; 0 is none"
    )
    class_weights: Literal["none", "sqrt", "balanced"] = Field("none", description="how rare classes weigh in the loss")
    select: Literal["best", "last"] = Field(
        "last", description="whose weights are kept; a run that was stopped early keeps its best epoch's in any case"
    )
    patience: int = Field(0, ge=0, description="epochs without a better validation before stopping; 0 is never")
    monitor: Literal["accuracy", "macro_f1", "span_f1"] = Field("accuracy", description="what validation goes by")
    refit: bool = Field(
        False,
        description="train the chosen cell once more, on the validation rows too where they were taken from train",
    )
    precision: Precision = "32-true"

    # How sure it is, and the report
    target_precision: float | None = Field(
        None, gt=0, lt=1, description="share of the predictions not marked as abstained that shall be right"
    )
    coverage: float = Field(0.9, gt=0, lt=1, description="share of the label sets that shall hold the true label")
    folds: int = Field(
        0, ge=0, description="trainings of the chosen cell, each without a part of the rows, that look for wrong labels"
    )
    examples: bool = Field(True, description="the report shows sequences of the data")

    # Word vectors and unlabelled sequences, where the job is given any
    embedding_mode: EmbeddingMode = Field(
        "finetuned", description="of pretrained word vectors; gated mixes each with one of the task's own"
    )
    embedding_words: int = Field(20_000, ge=0, description="words of the vectors' file known beyond those of train")
    pretrain_epochs: int = Field(0, ge=0, le=100_000, description="passes over the unlabelled sequences")
    pretrain_batch_size: int = Field(64, ge=1)
    unfreeze_epochs: int = Field(
        0, ge=0, description="epochs that each pretrained part waits for the one above it; 0 trains all from the start"
    )

    @field_validator("cells", "sizes", "pooling", "dense_sizes", "branch_channels", "branch_kernels", mode="before")
    @classmethod
    def _one_is_a_list_of_one(cls, value: object) -> object:
        return (value,) if isinstance(value, str | int) else value

    @field_validator("folds")
    @classmethod
    def _one_fold_is_none(cls, folds: int) -> int:
        if folds == 1:
            raise ValueError("one fold leaves nothing to train on; give 2 or more, or 0 for none")
        return folds

    @field_validator("cells", "sizes", "pooling")
    @classmethod
    def _names_each_once(cls, names: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(names)) != len(names):
            raise ValueError("a name stands twice")
        return names


def check_settings(settings: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return the user's settings, typed.

    Raises:
        InvalidConfig: a name is unknown or a value does not fit; the message begins with `source` and the name.
    """
    try:
        config = TrainingConfig.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(sorted(TrainingConfig.model_fields))
            raise InvalidConfig(f"{source}: {name}: no such setting; there are: {known}") from None
        message = first["msg"].removeprefix("Value error, ")
        raise InvalidConfig(f"{source}: {name}: {message}, got {first['input']!r}") from None
    return {name: getattr(config, name) for name in settings}


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read settings from a flat TOML file.

    Raises:
        InvalidConfig: the file is not there, is not TOML, or names or values do not fit.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        settings = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidConfig(f"{path}: cannot be read as TOML: {error}") from None
    return check_settings(settings, str(path))
