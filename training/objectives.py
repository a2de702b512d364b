"""What a network can learn of sequences without labels: to go on with a text, to fill gaps in a series.

B batch, T timesteps, E embedding, C channels, F features, H hidden, D directions, N predictions, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gatewise.architecture import LEFT_TO_RIGHT
from gatewise.model import RecurrentLayer
from gatewise.text import UNKNOWN_ID
from training.module import Network

# Words that stand for all others where a vocabulary is much larger: a softmax over all costs more than the network.
_SAMPLED = 512
# Share of the steps of a series that are hidden, in gaps of this share of its length.
_HIDDEN, _GAP = 0.3, 0.125
_SHORTEST_GAP = 2


class Loss(NamedTuple):
    """A sum over predictions, and how many they are, so that batches can be added up."""

    total: Tensor
    predictions: Tensor


class LanguageModel(nn.Module):
    """Each direction predicts the token that it reads next, from what it has read.

    The outputs are tied to the word table (Press & Wolf 2017). Pairs of neighbours are left out: read from right to
    left they would tell the answer. So would the layers above the first where there are two directions: each reads what
    the other has seen, and only the first layer is taught.

    In training the sum over a large vocabulary is estimated from words drawn by their frequency, each weighed by how
    rarely it is drawn (Bengio & Senecal 2003); measuring takes all.

    Args:
        counts: how often each id of the vocabulary is met, (V,).
    """

    def __init__(self, network: Network, counts: Tensor) -> None:
        super().__init__()
        assert network.embedding is not None
        self.network = network
        config = network.classifier.config
        self.depth = 1 if config.bidirectional else config.num_layers
        self.projections = nn.ModuleDict(
            {name: nn.Linear(config.hidden_size, config.feature_size) for name in config.directions}
        )
        # Padding and the unknown token, the first ids, are no answers.
        frequency = counts[UNKNOWN_ID + 1 :].double() + 1
        self.bias = nn.Parameter(torch.zeros(len(frequency)))
        self.frequency: Tensor
        self.register_buffer("frequency", frequency / frequency.sum(), persistent=False)

    def forward(self, forms: Tensor, lengths: Tensor) -> Loss:
        """Return the summed negative log-likelihood of the known tokens of (B, T), in nats, over the directions."""
        embedding, classifier = self.network.embedding, self.network.classifier
        assert embedding is not None
        ids = forms.masked_fill(forms >= embedding.vocab_size, UNKNOWN_ID)
        features, _ = embedding.tokens(forms)
        features = classifier.embedding_dropout(features)
        steps = torch.arange(forms.shape[1], device=forms.device)
        backwards = reading_backwards(steps, lengths)
        rows = torch.arange(len(forms), device=forms.device)[:, None]
        words = embedding.words.table()[UNKNOWN_ID + 1 :]
        losses = []
        for name in self.projections:
            order = steps.expand_as(forms) if name == LEFT_TO_RIGHT else backwards
            losses.append(self._direction(name, features[rows, order], ids[rows, order], lengths, words))
        totals, counts = zip(*losses, strict=True)
        return Loss(torch.stack(totals).sum(), torch.stack(counts).sum())

    def _direction(self, name: str, x: Tensor, ids: Tensor, lengths: Tensor, words: Tensor) -> Loss:
        """Read x (B, T, E) in the order in which it stands, and predict ids (B, T) one step ahead."""
        classifier = self.network.classifier
        for layer in list(classifier.recurrent)[: self.depth]:
            assert isinstance(layer, RecurrentLayer)
            x = classifier.recurrent_dropout(layer[name](x)[0])
        targets = ids[:, 1:]
        chosen = (torch.arange(1, ids.shape[1], device=ids.device) < lengths[:, None]) & (targets > UNKNOWN_ID)
        queries = self.projections[name](x[:, :-1][chosen]).float()
        answers = targets[chosen] - UNKNOWN_ID - 1
        is_sampled = self.training and len(words) > 2 * _SAMPLED
        total = self._estimated(queries, answers, words) if is_sampled else self._exact(queries, answers, words)
        return Loss(total, chosen.sum())

    def _exact(self, queries: Tensor, answers: Tensor, words: Tensor) -> Tensor:
        """Summed negative log-likelihood of answers (N,) to queries (N, E)."""
        return nn.functional.cross_entropy(queries @ words.T + self.bias, answers, reduction="sum")

    def _estimated(self, queries: Tensor, answers: Tensor, words: Tensor) -> Tensor:
        """The same, from the right words and a sample that all queries share."""
        drawn = torch.multinomial(self.frequency, _SAMPLED, replacement=True)
        weights = -torch.log(_SAMPLED * self.frequency[drawn]).float()
        others = queries @ words[drawn].T + self.bias[drawn] + weights
        others = others.masked_fill(answers[:, None] == drawn, -torch.inf)
        right = (queries * words[answers]).sum(dim=1) + self.bias[answers]
        return (torch.cat([right[:, None], others], dim=1).logsumexp(dim=1) - right).sum()


class MaskedReconstruction(nn.Module):
    """Gaps in a series are filled in from what stands around them (Zerveas et al. 2021).

    Args:
        channels: C; the first C features are the standardized readings.
        has_missing: whether the last C features say which readings are missing; those are not asked for.
    """

    def __init__(self, network: Network, channels: int, *, has_missing: bool) -> None:
        super().__init__()
        self.network = network
        self.channels, self.has_missing = channels, has_missing
        config = network.classifier.config
        self.depth = config.num_layers
        self.stride = config.stem_stride
        self.output = nn.Linear(config.recurrent_size, self.stride * channels)

    def forward(self, features: Tensor, lengths: Tensor, generator: torch.Generator | None = None) -> Loss:
        """Return the summed squared error of the hidden readings of (B, T, F), in squared standard deviations.

        Args:
            generator: of the gaps; torch's own if None.
        """
        classifier = self.network.classifier
        C = self.channels
        steps = torch.arange(features.shape[1], device=features.device)
        hidden = gaps(lengths, features.shape[1], generator)
        x = classifier.embedding_dropout(self._without(features, hidden))
        answers = self.output(classifier.recur(*classifier.shorten(x, lengths))).float()
        # Each step after a strided stem answers for as many timesteps as it was made of.
        answers = answers.view(len(x), -1, C)[:, : len(steps)]
        asked = (hidden & (steps < lengths[:, None]))[..., None].expand(-1, -1, C)
        if self.has_missing:
            asked = asked & (features[..., -C:] == 0)
        errors = (answers - features[..., :C]) ** 2
        return Loss(errors[asked].sum(), asked.sum())

    def _without(self, features: Tensor, hidden: Tensor) -> Tensor:
        """Hide steps (B, T) of (B, T, F); of the differences also the next step, which would tell them."""
        C = self.channels
        kept = features.masked_fill(hidden[..., None], 0.0)
        end = features.shape[2] - C * self.has_missing
        if end == C:
            return kept
        after = hidden | nn.functional.pad(hidden[:, :-1], (1, 0))
        differences = kept[..., C:end].masked_fill(after[..., None], 0.0)
        return torch.cat([kept[..., :C], differences, kept[..., end:]], dim=2)


def gaps(lengths: Tensor, longest: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw the hidden steps of a batch, (B, T): three tenths of them, in gaps of an eighth of its longest row."""
    gap = max(_SHORTEST_GAP, round(_GAP * longest))
    # A step is seen where no gap begins at it or at one of the gap - 1 steps before it.
    rate = 1 - (1 - _HIDDEN) ** (1 / gap)
    size = (len(lengths), longest + gap - 1)
    device = lengths.device if generator is None else generator.device
    begins = torch.rand(size, generator=generator, device=device) < rate
    hidden = nn.functional.max_pool1d(begins[:, None].float(), gap, stride=1)[:, 0] > 0
    return hidden.to(lengths.device)


def reading_backwards(steps: Tensor, lengths: Tensor) -> Tensor:
    """The step to read at each step (T,) to go through each sequence from its own end, (B, T)."""
    return torch.where(steps < lengths[:, None], lengths[:, None] - 1 - steps, steps)
