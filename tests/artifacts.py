"""Small whole artifacts of every shape, with logits that the numpy reference computes.

torch is not imported here, so that a process without it can be tested.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from gatewise import artifact, reference
from gatewise.architecture import ModelConfig
from gatewise.artifact import Golden, Manifest, jsonable
from gatewise.text import TextEncoder, TextEncoderConfig, TokenIds
from gatewise.timeseries import TimeSeriesEncoder, TimeSeriesEncoderConfig

Weights = dict[str, np.ndarray]
EMBEDDING = ("embedding.weight", "ngrams.weight", "affixes.weight", "pairs.weight")
# Beside the network: what reads its features, what is added to its logits, and what reads them.
WIDE = ("wide.weight", "wide.bias", "wide.channels", "wide.thresholds")
NOT_THE_NETWORKS = (*EMBEDDING, *WIDE, "crf.transitions", "crf.start", "crf.end")
ALL_POOLINGS = ("max", "last", "attention", "mean")
CELLS = {
    "lstm": {"cell": "lstm"},
    "gru": {"cell": "gru"},
    "gru_reset_before": {"cell": "gru", "reset_after": False},
}
HEADS: dict[str, dict[str, Any]] = {
    "last": {"pooling": ("last",)},
    "mean": {"pooling": ("mean",)},
    "max": {"pooling": ("max",)},
    "attention": {"pooling": ("attention",)},
    "all": {"pooling": ALL_POOLINGS},
    "step": {"task": "step"},
    "stem": {"pooling": ALL_POOLINGS, "stem_stride": 3, "stem_channels": 6},
    "branch": {"pooling": ("last",), "branch_channels": (6, 4), "branch_kernels": (5, 3)},
    "stem_branch": {
        "pooling": ("mean", "last"),
        "stem_stride": 4,
        "stem_channels": 5,
        "branch_channels": (3, 6, 4),
        "branch_kernels": (9, 1, 3),
    },
    "skip": {"task": "step", "skip": True},
    "chain": {"task": "step", "skip": True, "crf": True},
}
PER_STEP = tuple(head for head, fields in HEADS.items() if fields.get("task") == "step")
TEXTS = (
    "the moon is far away",
    "how far is the moon ?",
    "the cat sat on the mat , the dog did not",
    "a dog",
    "far",
    "is the cat on the moon or is the dog on the mat",
)
SERIES_ENCODER = TimeSeriesEncoderConfig(
    channels=("price", "volume"), mean=(1.0, -2.0), scale=(2.0, 0.5), allow_missing=True, max_length=24
)


def config_of(kind: str = "series", cell: str = "lstm", head: str = "last", **fields: Any) -> ModelConfig:
    """A network of few units; `cell` and `head` are keys of CELLS and HEADS."""
    inputs = {"vocab_size": 11, "embedding_dim": 3} if kind == "text" else {"input_size": 3}
    shape = {"kind": kind, "hidden_size": 4, "dense_sizes": (5,), "num_classes": 3}
    return ModelConfig.model_validate({**shape, **inputs, **CELLS[cell], **HEADS[head], **fields})


def weights_of(config: ModelConfig, seed: int = 0) -> Weights:
    """Random weights by the names and shapes that `gatewise.architecture` writes down."""
    random = np.random.default_rng(seed)
    weights = {name: random.normal(scale=0.5, size=shape).astype(np.float32) for name, shape in _shapes(config)}
    # A variance is above nothing, a kernel reads a channel or does not, and sums are compared with whole numbers.
    kinds: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "norm.variance": lambda array: 0.5 + array**2,
        "wide.channels": lambda array: (array > 0).astype(np.float32),
        "wide.thresholds": lambda array: np.rint(40_000 * array),
    }
    ends = {name: next((kinds[end] for end in kinds if name.endswith(end)), None) for name in weights}
    return {name: end(weights[name]) if end else weights[name] for name, end in ends.items()}


def classifier_weights(weights: Weights) -> Weights:
    """The weights of the network alone."""
    return {name: array for name, array in weights.items() if name not in NOT_THE_NETWORKS}


def inputs_of(config: ModelConfig, length: int, seed: int = 0) -> np.ndarray:
    """One sequence of random features."""
    random = np.random.default_rng((seed, length))
    return random.normal(size=(length, config.feature_size)).astype(np.float32)


def embedded(config: ModelConfig, weights: Weights, text: TokenIds) -> np.ndarray:
    """The features (T, E) of an encoded text, in float64, token by token as the artifact's format says."""
    spelled, previous, rows = dict(text.unknown), 0, []
    for position, current in enumerate(text.ids.tolist()):
        vector = weights["embedding.weight"][current].astype(np.float64)
        if config.ngram_buckets and position in spelled:
            places = [crc32(piece.encode()) % config.ngram_buckets for piece in pieces(spelled[position])]
            vector += sum(weights["ngrams.weight"][place].astype(np.float64) for place in places) / len(places)
        if config.affix_buckets and position in spelled:
            for piece in ends(spelled[position]):
                vector += weights["affixes.weight"][crc32(piece.encode()) % config.affix_buckets]
        if config.pair_buckets:
            place = (1_000_003 * previous + 8_191 * current) % (2**31 - 1) % config.pair_buckets
            vector += weights["pairs.weight"][place]
        rows.append(vector)
        previous = current
    return np.stack(rows)


def pieces(token: str) -> list[str]:
    """The different character n-grams of a token; a token of more than 40 characters is its two ends of 20."""
    marked = "<" + (token if len(token) <= 40 else token[:20] + token[len(token) - 20 :]) + ">"
    found: list[str] = []
    for start in range(len(marked)):
        for end in (start + 3, start + 4, start + 5):
            if end <= len(marked) and marked[start:end] not in found:
                found.append(marked[start:end])
    return found or [marked]


def ends(token: str) -> list[str]:
    """What tells a token's kind, each with its number: how it begins, how it ends, the whole, and its shape."""
    start, end = token[:40].lower(), token[max(0, len(token) - 4) :].lower()
    found = [start[:1], start[:2], start[:3]]
    found += [end[max(0, len(end) - size) :] for size in (1, 2, 3, 4)]
    shape = ""
    for character in token[:40]:
        kind = (
            *("X" for _ in range(character.isupper())),
            *("x" for _ in range(character.isalpha())),
            *("d" for _ in range(character.isnumeric())),
            character,
        )[0]
        # Two of a kind in a row stand for any number of them.
        shape += "" if shape.endswith(kind * 2) else kind
    return [f"{number}{piece}" for number, piece in enumerate([*found, start, shape])]


def crc32(data: bytes) -> int:
    """CRC-32 of ISO 3309, bit by bit: the polynomial 0x04C11DB7, reflected."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def ngrams_rows(ids: list[int], order: int, buckets: int) -> list[int]:
    """Distinct rows of the linear branch's table for a text's n-grams, one n-gram after another, in exact integers."""
    found = set()
    for size in range(1, order + 1):
        for start in range(len(ids) - size + 1):
            value = ids[start] % (2**31 - 1)
            for place in range(1, size):
                value = (value * 1_000_003 + ids[start + place] * 8_191 + place + 1) % (2**31 - 1)
            found.add(value * 40_503 % (2**31 - 1) % buckets)
    return sorted(found)


def linear_scores(config: ModelConfig, weights: Weights, text: TokenIds) -> np.ndarray:
    """What the linear branch adds to the logits (K,), in float64: its rows' sum over the root of their number."""
    ids = text.ids if text.cut_from is None else text.cut_from
    rows = ngrams_rows(ids.tolist(), config.wide_order, config.wide_buckets)
    total = sum(weights["wide.weight"][row].astype(np.float64) for row in rows)
    scores: np.ndarray = total / len(rows) ** 0.5 + weights["wide.bias"]
    return scores


def kernel_shares(config: ModelConfig, weights: Weights, inputs: np.ndarray) -> np.ndarray:
    """What the fixed kernels tell of one series (T, F), one kernel after another, in exact integers: (D * 84 * Q,)."""
    steps = len(inputs)
    readings = [[round(float(np.float32(4096) * np.float32(max(-32.0, min(32.0, x))))) for x in row] for row in inputs]
    shares = []
    for d, dilation in enumerate(config.wide_dilations):
        for k, heavy in enumerate(itertools.combinations(range(9), 3)):
            read = [c for c in range(config.wide_channels) if weights["wide.channels"][d, k, c]]
            sums = []
            for middle in range(steps):
                seen = [(place, middle + (place - 4) * dilation) for place in range(9)]
                # Beyond both ends there is the mean, which is zero.
                real = [(2 if place in heavy else -1, readings[step]) for place, step in seen if 0 <= step < steps]
                sums.append(sum(weight * sum(row[c] for c in read) for weight, row in real))
            shares += [sum(s > bound for s in sums) / steps for bound in weights["wide.thresholds"][d, k]]
    return np.array(shares)


def kernel_scores(config: ModelConfig, weights: Weights, inputs: np.ndarray) -> np.ndarray:
    """What the linear branch of a series adds to the logits (K,), in float64."""
    shares = kernel_shares(config, weights, inputs)
    scores: np.ndarray = shares @ weights["wide.weight"].astype(np.float64) + weights["wide.bias"]
    return scores


def block_by_hand(weights: Weights, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
    """One sequence alone, (T, F) -> (ceil(T / stride), S): each output added up from the steps that its kernel sees."""
    kernel = weights[f"{name}.conv.weight"]
    half = kernel.shape[2] // 2
    outputs = []
    for middle in range(0, len(x), stride):
        total = np.zeros(len(kernel))
        for k in range(2 * half + 1):
            step = middle + k - half
            if 0 <= step < len(x):
                total += kernel[:, :, k] @ x[step]
        weight, bias, mean, variance = (
            weights[f"{name}.norm.{part}"] for part in ("weight", "bias", "mean", "variance")
        )
        outputs.append(np.maximum(weight * (total - mean) / np.sqrt(variance + 1e-5) + bias, 0))
    return np.array(outputs)


def tag_paths(weights: Weights, logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every way to tag T steps, (K^T, T), with the score of each as a chain of tags adds it up, in float64."""
    T, K = logits.shape
    paths = np.array(list(itertools.product(range(K), repeat=T)))
    scores = weights["crf.start"].astype(np.float64)[paths[:, 0]] + weights["crf.end"][paths[:, -1]]
    for t in range(T):
        scores += logits[t].astype(np.float64)[paths[:, t]]
        if t:
            scores += weights["crf.transitions"][paths[:, t - 1], paths[:, t]]
    return paths, scores


def chain_marginals(weights: Weights, logits: np.ndarray) -> np.ndarray:
    """The probability of each tag at each step (T, K), summed over every way to tag all of them."""
    paths, scores = tag_paths(weights, logits)
    shares = np.exp(scores - scores.max())
    marginals = np.stack([np.bincount(paths[:, t], shares, logits.shape[1]) for t in range(logits.shape[0])])
    summed: np.ndarray = marginals / shares.sum()
    return summed


def likeliest_tags(weights: Weights, logits: np.ndarray) -> list[int]:
    """The best of every way to tag the steps."""
    paths, scores = tag_paths(weights, logits)
    best: list[int] = paths[scores.argmax()].tolist()
    return best


def expected_logits(config: ModelConfig, weights: Weights, inputs: np.ndarray) -> np.ndarray:
    """The reference's logits of the features of one sequence alone, in float64."""
    double = {name: array.astype(np.float64) for name, array in weights.items()}
    logits: np.ndarray = reference.classify(config, double, inputs[None], np.array([len(inputs)]))[0]
    return logits


@dataclass(frozen=True)
class Made:
    """An artifact with what it was made of."""

    folder: Path
    manifest: Manifest
    weights: Weights
    encoder: TextEncoder | TimeSeriesEncoder
    items: list[Any]

    @property
    def config(self) -> ModelConfig:
        return self.manifest.model

    def features(self, item: Any) -> np.ndarray:
        """What the network reads of a raw item."""
        if isinstance(self.encoder, TextEncoder):
            return embedded(self.config, self.weights, self.encoder.encode(item))
        return self.encoder.encode(item).inputs

    def logits(self, item: Any) -> np.ndarray:
        """The reference's logits of a raw item, the linear branch's scores among them."""
        features = self.features(item)
        logits = expected_logits(self.config, self.weights, features)
        if self.config.wide_dilations:
            return logits + kernel_scores(self.config, self.weights, features)
        if not self.config.wide_buckets:
            return logits
        assert isinstance(self.encoder, TextEncoder)
        return logits + linear_scores(self.config, self.weights, self.encoder.encode(item))

    def classes(self, item: Any) -> list[int]:
        """What the answer names, of a sequence or of each step."""
        logits = self.logits(item)
        if self.config.crf:
            return likeliest_tags(self.weights, logits)
        named: list[int] = np.atleast_1d(logits.argmax(axis=-1)).tolist()
        return named

    def probabilities(self, item: Any) -> np.ndarray:
        """The softmax of logits over temperature, written out; of a chain of tags, of the logarithmic marginals."""
        logits = self.logits(item)
        if self.config.crf:
            logits = np.log(chain_marginals(self.weights, logits))
        odds = np.exp(logits / self.manifest.temperature)
        probabilities: np.ndarray = odds / odds.sum(axis=-1, keepdims=True)
        return probabilities


def make_text(
    folder: Path, *, level: str = "words", head: str = "all", max_length: int | None = 12, **fields: Any
) -> Made:
    """A text artifact; at the level "tokens" its every token gets a label."""
    per_step = head in PER_STEP
    encoder_config = TextEncoderConfig.model_validate(
        {"level": "tokens" if per_step else level, "max_length": None if per_step else max_length}
    )
    items: list[Any] = [text.split() for text in TEXTS] if per_step else list(TEXTS)
    if head == "chain":
        # Of more steps there are too many ways to tag them all.
        items = [tokens[:9] for tokens in items]
    encoder = TextEncoder.fit(items, encoder_config, min_count=1)
    config = config_of("text", head=head, vocab_size=encoder.vocab_size, **{"bidirectional": True, **fields})
    return _make(folder, config, encoder, items)


def make_series(folder: Path, *, encoder: TimeSeriesEncoderConfig = SERIES_ENCODER, **fields: Any) -> Made:
    """A series artifact of two channels, missing readings allowed."""
    random = np.random.default_rng(5)
    items = [random.normal(size=(length, len(encoder.channels))).round(2) for length in (3, 1, 12, 30, 7)]
    if encoder.allow_missing:
        items[2][4, 1] = np.nan
    config = config_of("series", input_size=encoder.input_size, **{"cell": "gru", **fields})
    return _make(folder, config, TimeSeriesEncoder(encoder), [jsonable(item) for item in items])


def reseal(folder: Path, **fields: Any) -> None:
    """Make the manifest true of the files beside it again, as one who knew the format could."""
    path = folder / "manifest.json"
    manifest = {**orjson.loads(path.read_bytes()), **fields}
    for name, record in manifest["files"].items():
        if (folder / name).is_file():
            data = (folder / name).read_bytes()
            record.update(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    unsigned = {name: value for name, value in manifest.items() if name != "digest"}
    manifest["digest"] = hashlib.sha256(orjson.dumps(unsigned, option=orjson.OPT_SORT_KEYS)).hexdigest()
    path.write_bytes(orjson.dumps(manifest))


def _make(folder: Path, config: ModelConfig, encoder: TextEncoder | TimeSeriesEncoder, items: list[Any]) -> Made:
    from training.onnx_graph import build

    weights = weights_of(config)
    manifest = Manifest(
        gatewise_version="0.1.0",
        name="tiny",
        created_at="2026-11-23T08:45:12+00:00",
        labels=("down", "flat", "up"),
        model=config,
        encoder=encoder.config,
        temperature=1.7,
        metrics={"test": {"accuracy": 0.75}},
        data={"source": "tiny.csv", "rows": {"train": 6}},
    )
    made = Made(folder, manifest, weights, encoder, items)
    written = artifact.save(
        folder,
        manifest,
        weights=weights,
        onnx=build(config, weights),
        golden=[Golden(item=item, logits=made.logits(item).astype(np.float32).tolist()) for item in items],
        tokenizer=encoder.to_json() if isinstance(encoder, TextEncoder) else None,
    )
    return Made(folder, written, weights, encoder, items)


def _shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    gates = {"lstm": 4, "gru": 3}[config.cell] * config.hidden_size
    directions = ("left_to_right", "right_to_left") if config.bidirectional else ("left_to_right",)
    both = config.hidden_size * len(directions)
    size = config.input_size
    if config.vocab_size is not None and config.embedding_dim is not None:
        yield "embedding.weight", (config.vocab_size, config.embedding_dim)
        if config.ngram_buckets:
            yield "ngrams.weight", (config.ngram_buckets, config.embedding_dim)
        if config.affix_buckets:
            yield "affixes.weight", (config.affix_buckets, config.embedding_dim)
        if config.pair_buckets:
            yield "pairs.weight", (config.pair_buckets, config.embedding_dim)
        size = config.embedding_dim
    assert size is not None
    features = size
    if config.stem_stride > 1:
        yield from _block("stem", size, config.stem_channels, 2 * config.stem_stride + 1)
        size = config.stem_channels
    for i, (units, kernel) in enumerate(zip(config.branch_channels, config.branch_kernels, strict=True)):
        yield from _block(f"branch.{i}", config.branch_channels[i - 1] if i else features, units, kernel)
    for layer in range(config.num_layers):
        for direction in directions:
            prefix = f"recurrent.{layer}.{direction}"
            yield f"{prefix}.weight_ih_l0", (gates, size)
            yield f"{prefix}.weight_hh_l0", (gates, config.hidden_size)
            yield f"{prefix}.bias_ih_l0", (gates,)
            yield f"{prefix}.bias_hh_l0", (gates,)
        size = both
    if config.task == "sequence":
        if "attention" in config.pooling:
            yield "attention.weight", (1, both)
        size = both * len(config.pooling) + (config.branch_channels[-1] if config.branch_channels else 0)
    elif config.skip:
        size = both + features
    for i, units in enumerate(config.dense_sizes):
        yield f"dense.{i}.weight", (units, size)
        yield f"dense.{i}.bias", (units,)
        size = units
    yield "output.weight", (config.num_classes, size)
    yield "output.bias", (config.num_classes,)
    if config.wide_buckets:
        yield "wide.weight", (config.wide_buckets, config.num_classes)
        yield "wide.bias", (config.num_classes,)
    if config.wide_dilations:
        kernels = (len(config.wide_dilations), 84)
        yield "wide.channels", (*kernels, config.wide_channels)
        yield "wide.thresholds", (*kernels, config.wide_thresholds)
        yield "wide.weight", (kernels[0] * kernels[1] * config.wide_thresholds, config.num_classes)
        yield "wide.bias", (config.num_classes,)
    if config.crf:
        yield "crf.transitions", (config.num_classes, config.num_classes)
        yield "crf.start", (config.num_classes,)
        yield "crf.end", (config.num_classes,)


def _block(name: str, inputs: int, outputs: int, kernel: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.conv.weight", (outputs, inputs, kernel)
    for part in ("weight", "bias", "mean", "variance"):
        yield f"{name}.norm.{part}", (outputs,)
