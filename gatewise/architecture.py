"""What a classifier is made of, in words that torch, ONNX and numpy all read.

It stands apart from `model.py` so that a process that serves by ONNX Runtime never imports torch.
E embedding, C channels, F features (E or C), H hidden, D directions, K classes.

The weights, by name (torch's layout; a recurrent matrix stacks its gates by rows, LSTM i, f, g, o and GRU r, z, n):

    embedding.weight                                     (vocab_size, E), text only
    ngrams.weight                                        (ngram_buckets, E), text with character n-grams
    affixes.weight                                       (affix_buckets, E), text with affixes of tokens
    pairs.weight                                         (pair_buckets, E), text with pairs of neighbouring tokens
    stem.conv.weight                                     (stem_channels, F, 2*stem_stride + 1), with a stem only
    branch.{i}.conv.weight                               (channels, inputs, kernel), with a convolutional branch only
    *.norm.weight, bias, mean, variance                  (channels,) of the stem and of each block of the branch
    recurrent.{layer}.{direction}.weight_ih_l0           (4H or 3H, inputs of the layer)
    recurrent.{layer}.{direction}.weight_hh_l0           (4H or 3H, H)
    recurrent.{layer}.{direction}.bias_ih_l0, bias_hh_l0 (4H or 3H,)
    attention.weight                                     (1, D*H), attention pooling only
    dense.{i}.weight, dense.{i}.bias                     (size, inputs), (size,); relu follows each
    output.weight, output.bias                           (K, inputs), (K,)
    wide.weight, wide.bias                               (wide_buckets, K), (K,), with a linear branch only; of a series
                                                         D * 84 * wide_thresholds features in place of the buckets
    wide.channels, wide.thresholds                       (D, 84, wide_channels), (D, 84, wide_thresholds), of a series,
                                                         D its wide_dilations
    crf.transitions, crf.start, crf.end                  (K, K), (K,), (K,), with a chain of tags only

`direction` is `left_to_right` or `right_to_left`.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["text", "series"]
Task = Literal["sequence", "step"]
Cell = Literal["lstm", "gru"]
Pooling = Literal["last", "mean", "max", "attention"]

LEFT_TO_RIGHT = "left_to_right"
RIGHT_TO_LEFT = "right_to_left"


class ModelConfig(BaseModel):
    """The shape of a `SequenceClassifier`.

    `reset_after` names the GRU convention: True multiplies the reset gate after the recurrent matrix (cuDNN, PyTorch,
    Keras by default), False before it (Cho et al. 2014). It means nothing for an LSTM.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    task: Task = "sequence"
    cell: Cell = "lstm"
    reset_after: bool = True
    vocab_size: int | None = Field(default=None, ge=2)
    embedding_dim: int | None = Field(default=None, ge=1)
    ngram_buckets: int = Field(default=0, ge=0, description="rows for hashed character n-grams of tokens; 0 is none")
    affix_buckets: int = Field(default=0, ge=0, description="rows for hashed ends and shapes of tokens; 0 is none")
    pair_buckets: int = Field(default=0, ge=0, description="rows for hashed pairs of neighbouring tokens; 0 is none")
    input_size: int | None = Field(default=None, ge=1, description="channels after encoding; series only")
    stem_stride: int = Field(default=1, ge=1, description="steps that a convolution makes one of; 1 is no stem")
    stem_channels: int = Field(default=64, ge=1)
    branch_channels: tuple[int, ...] = Field(default=(), description="of a convolutional branch; empty is none")
    branch_kernels: tuple[int, ...] = Field(default=(), description="width of each of its convolutions, odd")
    hidden_size: int = Field(default=128, ge=1)
    num_layers: int = Field(default=1, ge=1, le=8)
    bidirectional: bool = False
    pooling: tuple[Pooling, ...] = Field(default=("last",), min_length=1, description="sequence task only")
    skip: bool = Field(default=False, description="the head of a step reads the step's own features too")
    dense_sizes: tuple[int, ...] = (64,)
    crf: bool = Field(default=False, description="a step's tag depends on its neighbours' tags too")
    wide_buckets: int = Field(default=0, ge=0, description="rows for hashed n-grams of a linear branch; 0 is none")
    wide_order: int = Field(default=0, ge=0, description="tokens of its longest n-grams")
    wide_dilations: tuple[int, ...] = Field(default=(), description="of the kernels of a series' linear branch")
    wide_channels: int = Field(default=0, ge=0, description="channels that its kernels read")
    wide_thresholds: int = Field(default=0, ge=0, description="features of each kernel")
    num_classes: int = Field(ge=2)
    embedding_dropout: float = Field(default=0.0, ge=0, lt=1)
    recurrent_dropout: float = Field(default=0.0, ge=0, lt=1, description="on the outputs of each recurrent layer")
    dense_dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _input_fits_kind(self) -> Self:
        if self.kind == "text" and (self.vocab_size is None or self.embedding_dim is None):
            raise ValueError("a text model needs vocab_size and embedding_dim")
        if self.kind == "series" and self.input_size is None:
            raise ValueError("a series model needs input_size")
        of_text = (self.ngram_buckets, self.affix_buckets, self.pair_buckets, self.wide_buckets)
        if self.kind == "series" and any(of_text):
            raise ValueError("ngram_buckets, affix_buckets, pair_buckets and wide_buckets are for text")
        if self.kind == "text" and self.wide_dilations:
            raise ValueError("wide_dilations is for series")
        if len(set(self.pooling)) != len(self.pooling):
            raise ValueError("pooling names a method twice")
        return self

    @model_validator(mode="after")
    def _parts_fit_task(self) -> Self:
        of_whole = (self.stem_stride > 1, self.branch_channels, self.wide_buckets, self.wide_dilations)
        if self.task == "step" and any(of_whole):
            raise ValueError("stem_stride, branch_channels and a linear branch are for one label a sequence")
        if bool(self.wide_buckets) != bool(self.wide_order):
            raise ValueError("wide_buckets and wide_order go together")
        if not bool(self.wide_dilations) == bool(self.wide_channels) == bool(self.wide_thresholds):
            raise ValueError("wide_dilations, wide_channels and wide_thresholds go together")
        if any(dilation < 1 for dilation in self.wide_dilations) or self.wide_channels > (self.input_size or 0):
            raise ValueError("wide_dilations must be 1 or more, and wide_channels no more than input_size")
        if self.task == "sequence" and (self.skip or self.crf):
            raise ValueError("skip and crf are for a label for each step")
        if len(self.branch_kernels) != len(self.branch_channels):
            raise ValueError("branch_channels and branch_kernels need a number for each convolution")
        if any(kernel % 2 == 0 or kernel < 1 for kernel in self.branch_kernels):
            raise ValueError("branch_kernels must be odd")
        return self

    @property
    def directions(self) -> tuple[str, ...]:
        """The names of the directions that each recurrent layer runs in, in the order of their outputs."""
        return (LEFT_TO_RIGHT, RIGHT_TO_LEFT) if self.bidirectional else (LEFT_TO_RIGHT,)

    @property
    def can_stream(self) -> bool:
        """Whether a sequence can be answered as it comes: no part of the network waits for later steps."""
        waits = (self.bidirectional, self.crf, self.branch_channels, self.wide_dilations, self.stem_stride > 1)
        return not any(waits)

    @property
    def recurrent_size(self) -> int:
        """Values that the last recurrent layer gives at a timestep, D*H."""
        return self.hidden_size * len(self.directions)

    @property
    def pooled_size(self) -> int:
        """Values that enter the dense layers."""
        if self.task == "step":
            return self.recurrent_size + self.feature_size * self.skip
        return self.recurrent_size * len(self.pooling) + sum(self.branch_channels[-1:])

    @property
    def feature_size(self) -> int:
        """Values that the network reads at a timestep, E or C."""
        size = self.embedding_dim if self.kind == "text" else self.input_size
        assert size is not None
        return size

    @property
    def recurrent_input_size(self) -> int:
        """Values that enter the first recurrent layer at a timestep."""
        return self.stem_channels if self.stem_stride > 1 else self.feature_size
