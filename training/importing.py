"""A Keras file to a registered model.

K classes.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

import gatewise
from gatewise import artifact
from gatewise.architecture import ModelConfig
from gatewise.artifact import Golden, Manifest, jsonable
from gatewise.batch import collate
from gatewise.errors import InvalidConfig
from gatewise.features import Features, features_of
from gatewise.store import ModelVersion, Store
from gatewise.text import PADDING, UNKNOWN, TextEncoder, TextEncoderConfig
from gatewise.timeseries import TimeSeriesEncoder, TimeSeriesEncoderConfig
from gatewise.torch_engine import TorchEngine
from training.job import default_name
from training.keras_import import read_keras
from training.onnx_graph import build

_GOLDEN_LENGTHS = (1, 2, 7, 30)


def import_keras_file(
    path: str | Path,
    *,
    name: str | None = None,
    labels: tuple[str, ...] | None = None,
    channels: tuple[str, ...] | None = None,
    vocabulary: str | Path | None = None,
) -> ModelVersion:
    """Register a `.keras` model; it answers with Keras's own probabilities.

    Args:
        labels: K names in the order of the outputs; 0, 1, ... by default, for the file does not tell them.
        channels: names of a series' channels; 0, 1, ... by default.
        vocabulary: a file with a token a line in the order of the ids, for a model with an Embedding.
    Raises:
        UnsupportedModel: the file has a part that cannot be stated exactly.
        InvalidConfig: labels, channels or vocabulary do not fit the model.
    """
    keras = read_keras(path)
    config = keras.config
    labels = labels or keras.class_names or tuple(map(str, range(config.num_classes)))
    if len(labels) != config.num_classes:
        raise InvalidConfig(f"--labels: {len(labels)} names for {config.num_classes} classes")
    if len(set(labels)) != len(labels):
        raise InvalidConfig("--labels: a name stands twice")
    encoder = _text_encoder(config, vocabulary) if config.kind == "text" else _identity(config, channels)
    manifest = Manifest(
        gatewise_version=gatewise.__version__,
        name=name or default_name(str(path)),
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=labels,
        model=config,
        encoder=encoder.config,
        training={"imported_from": Path(path).name},
    )
    engine = TorchEngine(config, keras.weights, "cpu")
    features = features_of(encoder, config, keras.weights)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "artifact"
        artifact.save(
            target,
            manifest,
            weights=keras.weights,
            onnx=build(config, keras.weights),
            golden=[_golden(item, features, engine) for item in _items(config, encoder)],
            tokenizer=encoder.to_json() if isinstance(encoder, TextEncoder) else None,
        )
        return Store().add(target, manifest.name)


def _identity(config: ModelConfig, channels: tuple[str, ...] | None) -> TimeSeriesEncoder:
    """Readings as they are: whatever scaling the Keras model was trained with is its user's, before it."""
    C = config.feature_size
    channels = channels or tuple(map(str, range(C)))
    if len(channels) != C:
        raise InvalidConfig(f"--channels: {len(channels)} names for {C} channels")
    return TimeSeriesEncoder(TimeSeriesEncoderConfig(channels=channels, mean=(0.0,) * C, scale=(1.0,) * C))


def _text_encoder(config: ModelConfig, vocabulary: str | Path | None) -> TextEncoder:
    if vocabulary is None:
        raise InvalidConfig(
            "--vocabulary: the model takes token ids, and a .keras file does not hold the words; give a file with a "
            "token a line in the order of the ids, such as TextVectorization.get_vocabulary() returns"
        )
    try:
        words = Path(vocabulary).read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"--vocabulary: {vocabulary} cannot be read as UTF-8 text: {error}") from None
    words = words[:-1] if words[-1] == "" else words
    if len(words) > (config.vocab_size or 0):
        raise InvalidConfig(f"--vocabulary: {len(words)} tokens for an Embedding of {config.vocab_size}")
    # Keras's own first two entries, an empty one for padding and [UNK], stand where ours do.
    words = [PADDING, UNKNOWN, *words[2:]]
    if len(set(words)) != len(words):
        raise InvalidConfig("--vocabulary: a token stands twice")
    encoder_config = TextEncoderConfig(level="words" if config.task == "sequence" else "tokens")
    blank = TextEncoder.fit([], encoder_config)
    state = blank.tokenizer.to_str()
    tokenizer = Tokenizer.from_str(state)
    tokenizer.model = type(tokenizer.model)({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN)
    return TextEncoder(encoder_config, tokenizer)


def _items(config: ModelConfig, encoder: TextEncoder | TimeSeriesEncoder) -> list[object]:
    """Golden items: standard normal readings, or words of the vocabulary."""
    rng = np.random.default_rng(0)
    if isinstance(encoder, TimeSeriesEncoder):
        return [rng.standard_normal((T, config.feature_size)).astype(np.float32) for T in _GOLDEN_LENGTHS]
    words = sorted(set(encoder.tokenizer.get_vocab()) - {PADDING, UNKNOWN}) or ["unknown"]
    drawn = [rng.choice(words, size=T).tolist() for T in _GOLDEN_LENGTHS]
    return drawn if config.task == "step" else [" ".join(tokens) for tokens in drawn]


def _golden(item: object, features: Features, engine: TorchEngine) -> Golden:
    logits = engine.run(collate([features(item, ()).inputs]))[0]
    return Golden(item=jsonable(item), logits=logits.tolist())
