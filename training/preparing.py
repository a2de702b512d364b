"""Splits to what a network takes: labels in order, a fitted encoder, encoded rows.

T timesteps, F features, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import ValidationError

from gatewise.architecture import Cell, ModelConfig
from gatewise.artifact import jsonable
from gatewise.errors import InvalidConfig, InvalidData, InvalidSequence
from gatewise.text import TextEncoder, TextEncoderConfig
from gatewise.timeseries import TimeSeriesEncoder
from training.answers import refused
from training.augmentation import SeriesAugmentation
from training.config import DECIDING, TrainingConfig
from training.data import IGNORED, EncodedDataset
from training.dataset import Dataset
from training.embedding import Forms
from training.splits import Splits
from training.word_tables import PretrainedRows

Encoder = TextEncoder | TimeSeriesEncoder


def label_order(train: Dataset) -> tuple[str, ...]:
    """The K labels of the train split; numbers by value, others by name.

    Raises:
        InvalidData: there is one class alone.
    """
    assert train.labels is not None
    labels = set(train.labels if train.task == "sequence" else chain.from_iterable(train.labels))
    if len(labels) < 2:
        raise InvalidData(
            f"every row has the label {next(iter(labels))!r}",
            path=train.source,
            mend="Give rows of at least two classes",
        )
    if all(label.lstrip("-").isdecimal() for label in labels):
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    return tuple(sorted(labels))


def check_valid(valid: Dataset, labels: tuple[str, ...]) -> None:
    """Raise InvalidData where no label of the validation split stands in train: nothing can be measured on it."""
    known = frozenset(labels)
    if not any(row & known for row in valid.label_sets()):
        raise InvalidData(
            f"none of its labels stands in train, which has {', '.join(map(repr, labels[:10]))}",
            path=valid.source,
            mend="Give rows of the same classes, or name the label column",
        )


def fit_encoder(train: Dataset, config: TrainingConfig, unlabelled: Sequence[Any] = ()) -> Encoder:
    """Fit the encoder that the configuration asks for on the train split, and on unlabelled items if there are any."""
    items = [*train.items, *unlabelled]
    if train.kind == "text":
        encoder_config = TextEncoderConfig(
            level=config.level, lowercase=config.lowercase, max_length=config.max_length, keep=config.keep
        )
        return TextEncoder.fit(items, encoder_config, vocab_size=config.vocab_size, min_count=config.min_count)
    assert train.channels is not None
    assert config.keep != "head_tail"
    return TimeSeriesEncoder.fit(
        items,
        train.channels,
        differences=config.differences,
        max_length=config.max_length,
        keep=config.keep,
    )


def make_forms(encoder: Encoder, config: TrainingConfig, pretrained: PretrainedRows | None = None) -> Forms | None:
    """The numbering of a text job's spellings; None for series."""
    if not isinstance(encoder, TextEncoder):
        return None
    return Forms(encoder.words(), config.ngram_buckets, config.affix_buckets, pretrained)


def make_augmentation(encoder: Encoder, config: TrainingConfig) -> SeriesAugmentation | None:
    """How a job's series are varied in training; None for texts."""
    return SeriesAugmentation(config, encoder.config) if isinstance(encoder, TimeSeriesEncoder) else None


def model_config(config: TrainingConfig, encoder: Encoder, cell: Cell, num_classes: int, data: Dataset) -> ModelConfig:
    """The network of a configuration, for what the encoder gives and the labels ask.

    Raises:
        InvalidConfig: parts were asked for that do not go together, or not with this task.
    """
    shared = config.model_dump(include=ModelConfig.model_fields.keys() & TrainingConfig.model_fields.keys())
    if isinstance(encoder, TextEncoder):
        shared["vocab_size"] = encoder.vocab_size
    else:
        shared |= {"vocab_size": None, "embedding_dim": None, "input_size": encoder.config.input_size}
    try:
        return ModelConfig(**shared, kind=data.kind, task=data.task, cell=cell, num_classes=num_classes)
    except ValidationError as error:
        raise InvalidConfig(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def encode(data: Dataset, encoder: Encoder, labels: tuple[str, ...], forms: Forms | None) -> EncodedDataset:
    """Encode every row; a label that training never saw becomes one that no loss counts.

    Raises:
        InvalidData: a row breaks the model's input contract, such as a reading missing where none was in train.
    """
    assert data.labels is not None
    index = {label: k for k, label in enumerate(labels)}
    inputs = encode_items(data, encoder, forms)
    if data.task == "sequence":
        return EncodedDataset(inputs, [index.get(label, IGNORED) for label in data.labels])
    return EncodedDataset(inputs, [np.array([index.get(label, IGNORED) for label in row]) for row in data.labels])


def encode_items(data: Dataset, encoder: Encoder, forms: Forms | None, *, grows: bool = True) -> list[NDArray[Any]]:
    """Encode every row without its label.

    Args:
        grows: whether spellings that are new get a form of their own.
    Raises:
        InvalidData: a row breaks the model's input contract.
    """
    try:
        if isinstance(encoder, TimeSeriesEncoder):
            return encoder.encode_many(data.items)
        assert forms is not None
        return [forms.number(text, grows=grows) for text in encoder.encode_each(data.items)]
    except InvalidSequence as error:
        raise refused(data, int(error.loc[0]), error) from None


def cut(rows: EncodedDataset, window: int) -> EncodedDataset:
    """Cut per-step rows that are longer than `window` steps into consecutive pieces."""
    if int(rows.lengths.max()) <= window or not isinstance(rows.labels[0], np.ndarray):
        return rows
    starts = [(i, start) for i, length in enumerate(rows.lengths) for start in range(0, length, window)]

    def pieces(values: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        return [values[i][start : start + window] for i, start in starts]

    return EncodedDataset(pieces(rows.inputs), pieces(rows.labels))


def fingerprint(
    config: TrainingConfig,
    splits: Splits,
    unlabelled: Sequence[Any] = (),
    pretrained: PretrainedRows | None = None,
) -> str:
    """SHA-256 of the configuration, every item and label and every vector: equal fingerprints train equal models."""
    settings = config.model_dump(mode="json", exclude=set(DECIDING))
    digest = hashlib.sha256(orjson.dumps(settings, option=orjson.OPT_SORT_KEYS))
    for part in (splits.train, splits.valid, splits.test):
        digest.update(orjson.dumps([len(part), part.channels] if part else None))
        if part is None:
            continue
        for item, label in zip(part.items, part.labels or (), strict=True):
            digest.update(_bytes(item))
            digest.update(orjson.dumps(label))
    for item in unlabelled:
        digest.update(_bytes(item))
    if pretrained:
        digest.update(pretrained.known.tobytes() + pretrained.rows.tobytes())
    return digest.hexdigest()


def _bytes(item: Any) -> bytes:
    return item.tobytes() if isinstance(item, np.ndarray) else orjson.dumps(jsonable(item))
