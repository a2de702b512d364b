"""The network: a padded batch of sequences in, logits out, by torch's fast layers.

`cells.py` says what the layers compute; the tests hold this file to it. Each direction is a layer of its own, and the
one that reads right to left is given every sequence reversed within its own length: torch's bidirectional layers would
read the padding first, and the answer would depend on the batch.

B batch, T timesteps, F features (E of a token, or C channels), D directions, H hidden, K classes.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from gatewise.architecture import LEFT_TO_RIGHT, RIGHT_TO_LEFT, ModelConfig
from gatewise.convolution import ConvBlock, ConvBranch, silenced
from gatewise.gru import GRU


class SequenceClassifier(nn.Module):
    """Features -> stem -> recurrent layers -> pooling, and the branch beside them -> dense relu layers -> logits.

    The stem and the branch are convolutions that a configuration may have; pooling is for one label a sequence.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        if config.stem_stride > 1:
            kernel = 2 * config.stem_stride + 1
            self.stem = ConvBlock(config.feature_size, config.stem_channels, kernel, config.stem_stride)
        if config.branch_channels:
            self.branch = ConvBranch(config)
        sizes = [config.recurrent_input_size] + [config.recurrent_size] * (config.num_layers - 1)
        self.recurrent = nn.ModuleList(RecurrentLayer(config, size) for size in sizes)
        if config.task == "sequence" and "attention" in config.pooling:
            self.attention = nn.Linear(config.recurrent_size, 1, bias=False)
        widths = (config.pooled_size, *config.dense_sizes)
        self.dense = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(widths))
        self.output = nn.Linear(widths[-1], config.num_classes)
        self.embedding_dropout = LockedDropout(config.embedding_dropout)
        self.recurrent_dropout = LockedDropout(config.recurrent_dropout)
        self.dense_dropout = nn.Dropout(config.dense_dropout)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights as Keras does by default: Glorot kernels, orthogonal recurrent kernels, forget bias 1."""
        for linear in [*self.dense, self.output]:
            assert isinstance(linear, nn.Linear)
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, features: Tensor, lengths: Tensor) -> Tensor:
        """Classify a batch.

        Args:
            features: embedded tokens or encoded readings, (B, T, F), right-padded.
            lengths: real timesteps, int64 (B,), each at least 1.
        Returns:
            logits, (B, K); for the step task (B, T, K), of no meaning beyond a sequence's length.
        """
        lengths = lengths.to(features.device, non_blocking=True)
        x = self.embedding_dropout(features)
        x = self.label_steps(x, lengths) if self.config.task == "step" else self.summarize(x, lengths)
        for dense in self.dense:
            x = self.dense_dropout(torch.relu(dense(x)))
        logits: Tensor = self.output(x)
        return logits

    def label_steps(self, x: Tensor, lengths: Tensor) -> Tensor:
        """What the head reads at each step of (B, T, F), (B, T, pooled)."""
        outputs = self.recur(x, lengths)
        return torch.cat([outputs, x], dim=2) if self.config.skip else outputs

    def summarize(self, x: Tensor, lengths: Tensor) -> Tensor:
        """One vector (B, pooled) for each sequence of (B, T, F)."""
        branch = [self.branch(*_signal(x, lengths))] if self.config.branch_channels else []
        x, lengths = self.shorten(x, lengths)
        return torch.cat([self.pool(self.recur(x, lengths), lengths, _real_steps(x, lengths)), *branch], dim=1)

    def shorten(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """What the first recurrent layer reads of (B, T, F), and its lengths; with a stem, a step for each stride."""
        stride = self.config.stem_stride
        if stride == 1:
            return x, lengths
        signal, lengths, mask = _signal(x, lengths)
        mask = mask if mask is None else mask[:, ::stride]
        return self.stem(signal, mask).transpose(1, 2), (lengths + stride - 1) // stride

    def recur(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Run the recurrent layers over (B, T, inputs); outputs (B, T, D*H)."""
        steps = torch.arange(x.shape[1], device=x.device)
        backwards = torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
        for layer in self.recurrent:
            x = self.recurrent_dropout(layer(x, backwards))
        return x

    def pool(self, outputs: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """Concatenate the configured poolings of (B, T, D*H) over each sequence's real steps into (B, poolings*D*H)."""
        parts = {"last": self._last, "mean": self._mean, "max": self._max, "attention": self._attend}
        return torch.cat([parts[name](outputs, lengths, mask) for name in self.config.pooling], dim=1)

    def _last(self, outputs: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        """Each direction's own last output: at the final step from left to right, at the first from right to left."""
        rows = torch.arange(len(outputs), device=outputs.device)
        hidden = self.config.hidden_size
        return torch.cat([outputs[rows, lengths - 1, :hidden], outputs[:, 0, hidden:]], dim=1)

    def _mean(self, outputs: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        return outputs.masked_fill(~mask[..., None], 0.0).sum(dim=1) / lengths[:, None]

    def _max(self, outputs: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        return outputs.masked_fill(~mask[..., None], -torch.inf).amax(dim=1)

    def _attend(self, outputs: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        scores = self.attention(outputs)[..., 0].masked_fill(~mask, -torch.inf)
        shares = scores.softmax(dim=1)[..., None]
        attended: Tensor = (shares * outputs.masked_fill(~mask[..., None], 0.0)).sum(dim=1)
        return attended


def _signal(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """(B, T, F) as convolutions read it, (B, F, T), zero beyond each length; the lengths; the mask that they need."""
    mask = _real_steps(x, lengths)
    # Where every step is real, as in most sets of series, they need none and are twice as fast.
    needed = None if bool(mask.all()) else mask
    return silenced(x.transpose(1, 2), needed), lengths, needed


def _real_steps(x: Tensor, lengths: Tensor) -> Tensor:
    """(B, T), True at a real timestep of (B, T, ...)."""
    return torch.arange(x.shape[1], device=x.device) < lengths[:, None]


class RecurrentLayer(nn.ModuleDict):
    """One LSTM or GRU layer, in one or both directions; a module for each, under the direction's name."""

    def __init__(self, config: ModelConfig, input_size: int) -> None:
        super().__init__({direction: _recurrence(config, input_size) for direction in config.directions})

    def forward(self, x: Tensor, backwards: Tensor) -> Tensor:
        """Run the layer.

        Args:
            x: (B, T, inputs).
            backwards: int64 (B, T), the step to read at each step to go through each sequence from its own end.
        Returns:
            outputs of the directions side by side, (B, T, D*H).
        """
        outputs: Tensor = self[LEFT_TO_RIGHT](x)[0]
        if RIGHT_TO_LEFT not in self:
            return outputs
        rows = torch.arange(len(x), device=x.device)[:, None]
        reverse: Tensor = self[RIGHT_TO_LEFT](x[rows, backwards])[0]
        return torch.cat([outputs, reverse[rows, backwards]], dim=2)


class LockedDropout(nn.Module):
    """Dropout that drops the same features at every timestep of a sequence (Gal & Ghahramani 2016)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Drop features of (B, T, F) while training."""
        if not self.training or self.p == 0:
            return x
        keep = torch.empty(x.shape[0], 1, x.shape[2], dtype=x.dtype, device=x.device).bernoulli_(1 - self.p)
        return x * keep.div_(1 - self.p)


class ResetBeforeGRU(nn.Module):
    """A GRU whose reset gate multiplies the state before the recurrent matrix (Cho et al. 2014).

    torch.nn.GRU has the other convention only. The parameters have its names and layout; `bias_hh_l0` is added to the
    gates as it is, which for this convention is the same as adding it to `bias_ih_l0`.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.weight_ih_l0 = nn.Parameter(torch.empty(3 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(3 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(3 * hidden_size))
        self.bias_hh_l0 = nn.Parameter(torch.zeros(3 * hidden_size))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run (B, T, inputs) from a zero state; return the outputs (B, T, H) and the last state (B, H)."""
        size = self.hidden_size
        projected = x @ self.weight_ih_l0.T + self.bias_ih_l0 + self.bias_hh_l0
        w_gates, w_candidate = self.weight_hh_l0[: 2 * size], self.weight_hh_l0[2 * size :]
        h = x.new_zeros(len(x), size)
        outputs = []
        for step in projected.unbind(dim=1):
            r, z = torch.sigmoid(step[:, : 2 * size] + h @ w_gates.T).chunk(2, dim=1)
            n = torch.tanh(step[:, 2 * size :] + (r * h) @ w_candidate.T)
            h = (1 - z) * n + z * h
            outputs.append(h)
        return torch.stack(outputs, dim=1), h


def _recurrence(config: ModelConfig, input_size: int) -> nn.Module:
    size = config.hidden_size
    layer: nn.Module
    if config.cell == "lstm":
        layer = nn.LSTM(input_size, size, batch_first=True)
    elif config.reset_after:
        layer = GRU(input_size, size)
    else:
        layer = ResetBeforeGRU(input_size, size)
    parameters = dict(layer.named_parameters())
    nn.init.xavier_uniform_(parameters["weight_ih_l0"])
    nn.init.orthogonal_(parameters["weight_hh_l0"])
    nn.init.zeros_(parameters["bias_ih_l0"])
    nn.init.zeros_(parameters["bias_hh_l0"])
    if config.cell == "lstm":
        with torch.no_grad():
            # A cell that begins by keeping what it has learns long dependencies sooner (Jozefowicz et al. 2015).
            parameters["bias_ih_l0"][size : 2 * size] = 1.0
    return layer
