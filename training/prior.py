"""What a job may know before its labels, word vectors and unlabelled sequences, and what the recipe makes of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gatewise.architecture import Kind
from gatewise.errors import InvalidConfig
from training.config import TrainingConfig
from training.recipe import Choice

_OF_VECTORS = ("embedding_mode", "embedding_words")
_OF_PRETRAINING = ("pretrain_epochs", "pretrain_batch_size", "unfreeze_epochs")
# Steps of pretraining below which little is learnt, and passes beyond which it is by heart.
_STEPS, _MOST_PASSES = 1_000, 20
# The wait of a pretrained part, as a share of all epochs: a run of few epochs has none to spare.
_WAIT = 0.05


def check_prior(kind: Kind, settings: Mapping[str, Any], *, has_vectors: bool, has_unlabelled: bool) -> None:
    """Refuse settings of files that were not given, and vectors for what has no words.

    Raises:
        InvalidConfig: with the setting's or the flag's name.
    """
    if has_vectors and kind == "series":
        raise InvalidConfig("--embeddings: these are vectors of words, and the sequences are series")
    if has_vectors and settings.get("level") in ("characters", "subwords"):
        raise InvalidConfig(f"--embeddings: these are vectors of words, and level is {settings['level']}")
    for names, is_given, flag in (
        (_OF_VECTORS, has_vectors, "--embeddings"),
        (_OF_PRETRAINING, has_unlabelled, "--unlabelled"),
    ):
        for name in names:
            if name in settings and not is_given:
                raise InvalidConfig(f"{name}: it says what becomes of {flag} FILE, and none is given")


def with_vectors(
    config: TrainingConfig, choices: list[Choice], settings: Mapping[str, Any], dim: int
) -> tuple[TrainingConfig, list[Choice]]:
    """Fit the recipe to word vectors of `dim` numbers."""
    more = [
        Choice("embedding_mode", TrainingConfig().embedding_mode, "trained on from the file's vectors"),
        Choice("embedding_words", TrainingConfig().embedding_words, "words that train lacks are served all the same"),
    ]
    if dim > config.embedding_dim:
        more.append(Choice("embedding_dim", dim, "as many as a vector of the file has"))
    if config.level not in ("words", "tokens"):
        more += [
            Choice("level", "words", "the vectors are of words"),
            Choice("vocab_size", 30_000, "for words"),
            Choice("ngram_buckets", 32_768, "words that have no vector are read by their spelling"),
        ]
    return _with(config, choices, settings, more)


def with_pretraining(
    config: TrainingConfig, choices: list[Choice], settings: Mapping[str, Any], rows: int
) -> tuple[TrainingConfig, list[Choice]]:
    """Add pretraining on so many rows to the recipe."""
    passes = min(_MOST_PASSES, max(2, math.ceil(_STEPS * config.pretrain_batch_size / rows)))
    more = [
        Choice("pretrain_epochs", passes, f"{rows} rows without labels"),
        Choice(
            "unfreeze_epochs", round(_WAIT * config.epochs), "a head that knows nothing yet would spoil what is below"
        ),
    ]
    return _with(config, choices, settings, more)


def _with(
    config: TrainingConfig, choices: list[Choice], settings: Mapping[str, Any], more: list[Choice]
) -> tuple[TrainingConfig, list[Choice]]:
    new = {choice.name: choice for choice in more if choice.name not in settings}
    kept = [choice for choice in choices if choice.name not in new]
    return config.model_copy(update={name: choice.value for name, choice in new.items()}), [*kept, *new.values()]
