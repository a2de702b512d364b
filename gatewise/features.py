"""Raw items to what the network reads, text and series alike: (T, F) float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from gatewise.architecture import ModelConfig
from gatewise.batch import Encoded
from gatewise.embedding import TokenEmbedder
from gatewise.errors import Loc
from gatewise.kernels import KernelBranch
from gatewise.schema import FloatArray
from gatewise.text import TextEncoder
from gatewise.timeseries import TimeSeriesEncoder
from gatewise.wide import WideBranch

Features = Callable[[object, Loc], Encoded]


def features_of(
    encoder: TextEncoder | TimeSeriesEncoder, config: ModelConfig, weights: Mapping[str, FloatArray]
) -> Features:
    """Return the function from a raw item and its place to its features; it raises InvalidSequence."""
    if isinstance(encoder, TimeSeriesEncoder):
        return _of_series(encoder, config, weights)
    embedder = TokenEmbedder(config, weights)
    branch = WideBranch(config, weights) if config.wide_buckets else None

    def embed(item: object, loc: Loc = ()) -> Encoded:
        text = encoder.encode(item, loc)
        wide = branch.logits(text.whole) if branch else None
        return Encoded(embedder.embed(text.ids, text.unknown), text.tokens, text.truncated, wide, len(text.unknown))

    return embed


def _of_series(encoder: TimeSeriesEncoder, config: ModelConfig, weights: Mapping[str, FloatArray]) -> Features:
    if not config.wide_dilations:
        return encoder.encode
    branch = KernelBranch(config, weights)

    def encode(item: object, loc: Loc = ()) -> Encoded:
        encoded = encoder.encode(item, loc)
        return replace(encoded, wide=branch.logits(encoded.inputs))

    return encode
