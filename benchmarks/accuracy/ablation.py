"""The parts of the recipe, and what a configuration is without each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from training.config import check_settings

# A setting that takes the part away, and what must then change with it.
PARTS: dict[str, dict[str, Any]] = {
    "token pairs": {"pair_buckets": 0},
    "character n-grams": {"ngram_buckets": 0},
    "affixes and shapes": {"affix_buckets": 0},
    "linear branch": {"wide": "off"},
    "skip": {"skip": False},
    "scores of single steps": {"residual": False},
    "CRF": {"crf": False},
    "convolutional branch": {"branch_channels": (), "branch_kernels": ()},
    "strided stem": {"stem_stride": 1},
    "differences": {"differences": False},
    "right to left": {"bidirectional": False},
    "mean and max pooling": {"pooling": ("last",)},
    "embedding dropout": {"embedding_dropout": 0.0},
    "recurrent dropout": {"recurrent_dropout": 0.0},
    "dense dropout": {"dense_dropout": 0.0},
    "word dropout": {"word_dropout": 0.0},
    "input noise": {"input_noise": 0.0},
    "time warp": {"time_warp": 0.0},
    "scaling": {"scaling": 0.0},
    "channel mixing": {"channel_mixing": 0.0},
    "label smoothing": {"label_smoothing": 0.0},
    "class weights": {"class_weights": "none"},
    "weight decay": {"weight_decay": 0.0},
    "gradient clipping": {"gradient_clip": 0.0},
    # Without a schedule the last epoch is no better than another, and the peak of a cycle is too fast to stay at.
    "one cycle": {"schedule": "constant", "learning_rate": 1e-3, "select": "best"},
    "averaged weights": {"averaging": 0.0},
    "GRU that remembers": {"update_gate_bias": 0.0},
}


def settings_without(part: str, configuration: Mapping[str, Any], cell: str) -> dict[str, Any] | None:
    """What takes a part away from a resolved configuration; None where it has no such part."""
    if part == "GRU that remembers" and cell != "gru":
        return None
    settings = check_settings(PARTS[part], f"without {part}")
    name, value = next(iter(settings.items()))
    # A record that is older than a part lacks it; and of a record a list is what a tuple is of settings.
    has = configuration.get(name, value)
    return None if (tuple(has) if isinstance(has, list) else has) == value else settings
