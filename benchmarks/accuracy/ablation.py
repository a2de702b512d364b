"""The parts of the recipe, and what a configuration is without each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.config import TrainingConfig

# A setting that takes the part away, and what must then change with it. A name that this version's recipe does not
# know, or a value that a configuration has already, is no part of it.
PARTS: dict[str, dict[str, Any]] = {
    "token pairs": {"pair_buckets": 0},
    "character n-grams": {"ngram_buckets": 0},
    "wide part": {"wide": "off"},
    "CRF": {"crf": False},
    "convolutions": {"fcn": False},
    "differences": {"differences": False},
    "right to left": {"bidirectional": False},
    "mean and max pooling": {"pooling": ["last"]},
    "embedding dropout": {"embedding_dropout": 0.0},
    "recurrent dropout": {"recurrent_dropout": 0.0},
    "dense dropout": {"dense_dropout": 0.0},
    "word dropout": {"word_dropout": 0.0},
    "input noise": {"input_noise": 0.0},
    "label smoothing": {"label_smoothing": 0.0},
    "class weights": {"class_weights": "none"},
    "weight decay": {"weight_decay": 0.0},
    "gradient clipping": {"gradient_clip": 0.0},
    # Without a schedule the last epoch is no better than another, and the peak of a cycle is too fast to stay at.
    "one cycle": {"schedule": "constant", "learning_rate": 1e-3, "select": "best"},
    "averaged weights": {"ema": 0.0},
    "GRU that remembers": {"update_gate_bias": 0.0},
}


def settings_without(part: str, configuration: Mapping[str, Any], cell: str) -> dict[str, Any] | None:
    """What takes a part away from a resolved configuration; None where it has no such part."""
    settings = PARTS[part]
    if any(name not in TrainingConfig.model_fields for name in settings):
        return None
    if part == "GRU that remembers" and cell != "gru":
        return None
    name, value = next(iter(settings.items()))
    return None if configuration.get(name) == value else settings
