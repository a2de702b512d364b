"""From figures of the train split to a configuration, each choice with its reason; every choice can be overridden.

Nothing here knows a data set by name, and nothing looks at the test split.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from gatewise.errors import InvalidConfig
from training.config import TrainingConfig
from training.statistics import Statistics

# Timesteps up to which a recurrent layer reads every one.
_LONG = 128
# Deviation of first differences over that of the readings: where neighbours are as good as unrelated, a warp that reads
# between two of them makes a reading that cannot be.
_ROUGH = 1.2
_FEW_ROWS = 1000
_FEW_SERIES = 100
# Tokens of a text up to which the network reads all; its time grows with them.
_LONG_TEXT = 256
# With more rows a tenth more of them tells little, and costs as much as another cell.
_REFIT_ROWS = 20_000
_MANY_CLASSES = 256
# How often at least a text of each class is read in all.
_LEAST_READINGS = 100


# What waits for a sequence's end, and what stands in its place where an answer cannot.
_STREAMING: dict[str, Any] = {
    "bidirectional": False,
    "crf": False,
    "stem_stride": 1,
    "branch_channels": (),
    "branch_kernels": (),
    "keep": "head",
}
# The n-grams of a text can be counted as they come; a kernel sees later steps too.
_STREAMING_SERIES: dict[str, Any] = {**_STREAMING, "wide": "off"}


class Choice(NamedTuple):
    """One setting, and why it has its value."""

    name: str
    value: Any
    reason: str


def resolve(statistics: Statistics, settings: Mapping[str, Any]) -> tuple[TrainingConfig, list[Choice]]:
    """Fill in what the user left open.

    Args:
        settings: the user's own, checked by `config.check_settings`; they win.
    Returns:
        the configuration, and every choice that differs from the architecture's plain defaults.
    """
    documented = settings.get("preset") == "documented"
    streaming = _STREAMING if statistics.kind == "text" else _STREAMING_SERIES
    choices = _documented(statistics) if documented else _default(statistics)
    if settings.get("needs_streaming"):
        choices = [_streaming(choice, streaming) for choice in choices]
    choices = [choice for choice in choices if choice.name not in {*settings, *_giving_way(settings)}]
    choices += [Choice(name, value, "as you said") for name, value in settings.items()]
    config = TrainingConfig(**{choice.name: choice.value for choice in choices})
    if statistics.task == "step" and (statistics.kind == "text") != (config.level == "tokens"):
        config = config.model_copy(update={"level": "tokens"})
    if statistics.kind == "series" and config.keep == "head_tail":
        raise InvalidConfig("keep: head_tail is for texts; a series keeps its head or its tail")
    if statistics.kind == "series" and (config.ngram_buckets or config.affix_buckets or config.pair_buckets):
        raise InvalidConfig("ngram_buckets, affix_buckets, pair_buckets: these are of tokens; a series has none")
    if config.wide != "off" and statistics.task == "step":
        raise InvalidConfig("wide: the linear branch is for sequences that have one label")
    if config.residual and (statistics.kind, statistics.task, config.dense_sizes) != ("series", "step", ()):
        raise InvalidConfig("residual: for series with a label for each step, and a head without dense_sizes")
    waiting = [name for name, value in streaming.items() if name in settings and settings[name] != value]
    if config.needs_streaming and waiting:
        raise InvalidConfig(f"needs_streaming: {', '.join(waiting)} as you gave it waits for a sequence's end")
    if config.crf and (config.class_weights != "none" or config.label_smoothing):
        raise InvalidConfig("crf: a chain has a loss of its own, without class_weights and label_smoothing")
    if config.monitor == "span_f1" and not statistics.bio:
        raise InvalidConfig("monitor: span_f1 needs BIO tags; use accuracy or macro_f1")
    return config, choices


def follow(
    recipe: TrainingConfig, statistics: Statistics, settings: Mapping[str, Any]
) -> tuple[TrainingConfig, list[Choice]]:
    """Take over a finished model's configuration, but for what the user says.

    Returns:
        as `resolve`.
    """
    theirs = {name: getattr(recipe, name) for name in TrainingConfig.model_fields if name not in _giving_way(settings)}
    config, _ = resolve(statistics, {**theirs, **settings})
    plain = TrainingConfig()
    choices = [
        Choice(name, value, "as you said" if name in settings else "as the model before")
        for name, value in config
        if value != getattr(plain, name) or name in settings
    ]
    return config, choices


def _giving_way(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """What a recipe leaves out, unless it is asked for, because the user's settings do not go with it."""
    # It is served by the head's own weights, of a head that is one layer.
    return ("residual",) if settings.get("dense_sizes") else ()


def _streaming(choice: Choice, streaming: Mapping[str, Any]) -> Choice:
    """The choice, or what takes its place where a sequence is answered as it comes."""
    instead = streaming.get(choice.name, choice.value)
    if instead == choice.value:
        return choice
    return Choice(choice.name, instead, "a stream cannot wait for the sequence's end")


def _documented(statistics: Statistics) -> list[Choice]:
    why = "the documented preset"
    return [
        Choice("level", _level(statistics).value, why),
        Choice("hidden_size", 128, why),
        Choice("dense_sizes", (64,), why),
        Choice("optimizer", "adam", why),
        Choice("learning_rate", 1e-3, why),
        Choice("batch_size", 32, why),
        Choice("epochs", 10, why),
        Choice("max_length", *_max_length(statistics)),
    ]


def _default(statistics: Statistics) -> list[Choice]:
    of_kind = _text(statistics) if statistics.kind == "text" else _series(statistics)
    return [
        *of_kind,
        Choice("bidirectional", True, "each step is read with what comes before and after it"),
        Choice("pooling", ("last", "mean", "max"), "the end, the average and the strongest of what was read"),
        Choice(
            "dense_sizes", (128,) if statistics.task == "sequence" else (), "one dense layer over the pooled outputs"
        ),
        Choice("optimizer", "adamw", "with weight decay; converges in few epochs"),
        Choice("learning_rate", 3e-3, "the peak of one cycle"),
        Choice("schedule", "one_cycle", "warm-up, then down to zero: the last epochs are the best ones"),
        Choice("gradient_clip", 1.0, "recurrent gradients can explode"),
        Choice("label_smoothing", 0.0 if statistics.task == "step" else 0.1, "labels are never quite certain"),
        Choice("update_gate_bias", 1.0, "a GRU that begins by remembering, as an LSTM's forget gate does"),
        Choice("select", "last", "one cycle ends at its best"),
        *_imbalance(statistics),
        *_many_classes(statistics),
        *_refit(statistics),
    ]


def _many_classes(statistics: Statistics) -> list[Choice]:
    classes = len(statistics.class_counts)
    if classes <= _MANY_CLASSES:
        return []
    # A class is seldom a batch's own. What it hears in between is tiny, and Adam would make full steps of it.
    why = f"of {classes} classes each is taught seldom, and must not drift in between"
    return [Choice("output_epsilon", 1e-3, why)]


def _refit(statistics: Statistics) -> list[Choice]:
    if not statistics.divided or statistics.rows > _REFIT_ROWS:
        return []
    return [Choice("refit", True, "the rows that chose the cell are worth learning from too")]


def _text(statistics: Statistics) -> list[Choice]:
    level = _level(statistics)
    rows = statistics.rows
    per_step = statistics.task == "step"
    batch = 16 if rows < 1000 else 32 if per_step else 64 if rows < 50_000 else 128
    dropout = 0.3 if level.value == "characters" else 0.4 if per_step else 0.5
    vocabulary = 8_000 if level.value == "subwords" else 30_000
    return [
        level,
        Choice("lowercase", statistics.task == "sequence", "capitals matter to tags, little to a whole text"),
        Choice("vocab_size", vocabulary, f"for {level.value}"),
        *_hashed(statistics, level.value),
        Choice("max_length", *_max_length(statistics)),
        Choice("keep", "head_tail", "long texts tell most at their beginning and end"),
        Choice("hidden_size", 200 if per_step else 128, "wide enough for words"),
        Choice("embedding_dropout", dropout, "texts are memorized easily"),
        Choice("recurrent_dropout", dropout, "texts are memorized easily"),
        Choice("dense_dropout", dropout, "texts are memorized easily"),
        Choice("word_dropout", 0.3 if per_step else 0.1, "unknown words will come"),
        Choice("weight_decay", 0.01, "little is enough beside dropout"),
        Choice("batch_size", batch, f"{rows} rows"),
        Choice("epochs", _text_epochs(statistics, batch), f"{rows} rows of {statistics.lengths[0]} words"),
        *(_tags(statistics) if per_step else ()),
    ]


def _tags(statistics: Statistics) -> list[Choice]:
    choices = [Choice("skip", True, "a tag depends on its own word first of all")]
    if statistics.bio:
        choices.append(Choice("crf", True, "which tag may follow which is learned too"))
    return choices


def _hashed(statistics: Statistics, level: str) -> list[Choice]:
    choices = []
    if level in ("words", "tokens"):
        why = f"{statistics.unknown_share:.0%} of words are new: their spelling still tells something"
        choices.append(Choice("ngram_buckets", 32_768, why))
    if statistics.task == "step":
        choices.append(Choice("affix_buckets", 32_768, "how a word begins and ends, and its capitals, tell its kind"))
    if statistics.task == "sequence":
        # Of characters there are few pairs; each row costs a little of every step.
        buckets = 8_192 if level == "characters" else 32_768
        choices.append(Choice("pair_buckets", buckets, "which two tokens stand together tells much of a text"))
        choices.append(Choice("wide", "auto", "a linear branch over n-grams, kept where validation says it helps"))
    return choices


def _series(statistics: Statistics) -> list[Choice]:
    rows, longest = statistics.rows, statistics.lengths[2]
    batch = 16 if rows <= 500 else min(128, 8 * round(rows / 64))
    least = 200 if statistics.task == "step" else 600 if longest > 256 else 400
    steps = max(least, 30 * rows // batch)
    return [
        Choice("hidden_size", *_series_units(statistics)),
        Choice("recurrent_dropout", 0.3, "few series are many enough to go without"),
        Choice("dense_dropout", 0.3, "few series are many enough to go without"),
        Choice("weight_decay", 0.02, "keeps the network from following single series"),
        Choice("batch_size", batch, f"{rows} rows"),
        Choice("epochs", max(2, math.ceil(steps * batch / rows)), f"about {steps} steps for {rows} rows"),
        Choice("input_noise", 0.05, "no two readings are the same"),
        *(_whole_series(statistics) if statistics.task == "sequence" else _labelled_steps(statistics)),
    ]


def _series_units(statistics: Statistics) -> tuple[int, str]:
    rows, longest = statistics.rows, statistics.lengths[2]
    if statistics.task == "step" and rows < _FEW_SERIES:
        return 16, f"{rows} labelled sequences are soon learnt by heart, however many their steps"
    return 128 if longest <= 64 else 64, f"sequences of up to {longest} steps"


def _labelled_steps(statistics: Statistics) -> list[Choice]:
    why = "neighbouring steps are much alike, and learnt by heart; what a step tells by itself holds elsewhere too"
    choices = [Choice("residual", True, why)]
    if statistics.channels > 1:
        # One channel alone may answer nearly all of a week, and not the next one.
        choices.append(Choice("embedding_dropout", 0.3, "no channel alone shall tell a step's label"))
    return choices


def _whole_series(statistics: Statistics) -> list[Choice]:
    """What fits series that have one label, and would blur those that have one for each step."""
    rows, longest = statistics.rows, statistics.lengths[2]
    choices = [
        Choice("differences", True, "how readings change tells as much as where they are"),
        Choice("scaling", 0.1, "the same movement is larger or smaller another time"),
        Choice("wide", "auto", "a linear branch over fixed short patterns, kept where validation says it helps"),
        Choice("averaging", 0.98, "an average of the last steps' weights varies less than the last ones"),
    ]
    if statistics.channels > 1:
        choices.append(Choice("channel_mixing", 0.1, "channels are never quite apart"))
    if statistics.roughness <= _ROUGH:
        choices.append(Choice("time_warp", 0.05, "the same movement is faster or slower another time"))
    if longest > _LONG:
        stride = math.ceil(longest / _LONG)
        choices.append(Choice("stem_stride", stride, f"series of {longest} steps become {_LONG} for the recurrence"))
    if rows < _FEW_ROWS:
        why = f"with {rows} rows, short patterns wherever they stand are learned sooner than their order"
        choices.append(Choice("branch_channels", (64, 128, 64), why))
        choices.append(Choice("branch_kernels", (9, 5, 3), why))
    return choices


def _level(statistics: Statistics) -> Choice:
    median = statistics.lengths[0]
    share = f"{statistics.unknown_share:.0%} of words are new in a tenth held back"
    if statistics.task == "step":
        return Choice("level", "tokens", "each token has a label")
    if statistics.unknown_share > 0.25 and median <= 4:
        return Choice("level", "characters", f"{share}, and texts have {median} words: their letters tell more")
    if statistics.unknown_share > 0.25:
        return Choice("level", "subwords", share)
    return Choice("level", "words", share)


def _max_length(statistics: Statistics) -> tuple[int | None, str]:
    if statistics.kind == "series" or statistics.task == "step":
        return None, "every step is read"
    # Characters are four to six for each word, and texts that read by characters are short.
    words = statistics.lengths[1]
    if words > _LONG_TEXT:
        return _LONG_TEXT, f"5% of texts are longer than {words} words, and time grows with the length"
    return 2 * _LONG_TEXT, "hardly a text is longer"


def _text_epochs(statistics: Statistics, batch: int) -> int:
    rows = statistics.rows
    least = math.ceil(_LEAST_READINGS * len(statistics.class_counts) / rows)
    if rows < 2000:
        return max(10, least, math.ceil(300 * min(batch, rows) / rows))
    epochs = 10 * float(min(1.0, 6000 / rows) ** 0.45)
    # A long text teaches more each time it is read, and takes longer.
    return max(3, least, round(0.7 * epochs if statistics.lengths[0] > 50 else epochs))


def _imbalance(statistics: Statistics) -> list[Choice]:
    if statistics.bio:
        return [Choice("monitor", "span_f1", "the tags mark spans, and whole spans are what counts")]
    if statistics.task == "sequence" and statistics.imbalance > 20:
        why = f"the largest class has {statistics.imbalance:.0f} rows for each row of the smallest"
        return [Choice("class_weights", "sqrt", why), Choice("monitor", "macro_f1", why)]
    return []
