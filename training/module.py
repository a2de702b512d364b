"""The network as Lightning trains it.

B batch, T timesteps, K classes.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from gatewise.architecture import ModelConfig
from gatewise.errors import InvalidConfig
from gatewise.model import SequenceClassifier
from training.augmentation import SeriesAugmentation
from training.config import TrainingConfig
from training.crf import ChainLoss
from training.data import IGNORED, TrainingBatch
from training.embedding import Forms, TokenEmbedding
from training.lean import LeanModule
from training.metrics import classification, span_f1
from training.residual import StepScores


class Network(nn.Module):
    """What is trained: for text an embedding, the classifier that serves, and for tags maybe the chain over them.

    Args:
        steps: scores of single steps, which are added to the classifier's.
    """

    def __init__(
        self,
        config: ModelConfig,
        forms: Forms | None,
        word_dropout: float,
        labels: tuple[str, ...] = (),
        steps: StepScores | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.steps = steps
        self.embedding = TokenEmbedding(config, forms, word_dropout) if forms else None
        self.classifier = SequenceClassifier(config)
        self.chain = ChainLoss(labels) if config.crf else None

    def forward(self, inputs: Tensor, lengths: Tensor, clean: Tensor | None = None) -> Tensor:
        """Classify forms (B, T) or readings (B, T, C); logits (B, K) or (B, T, K).

        Args:
            clean: the readings as they were, where `inputs` is a variant of them.
        """
        logits: Tensor = self.classifier(self.embedding(inputs) if self.embedding else inputs, lengths)
        return logits if self.steps is None else logits + self.steps(inputs if clean is None else clean)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The weights that serve, by the names of `gatewise.architecture`."""
        own = {name: tensor.detach().cpu().numpy() for name, tensor in self.classifier.state_dict().items()}
        if self.steps:
            own = self.steps.added_to(own, self.config)
        return own | (self.embedding.fold() if self.embedding else {}) | (self.chain.weights() if self.chain else {})


class ClassifierModule(LeanModule):
    """`Network` with a loss, an optimizer and validation figures.

    Args:
        labels: K names, in the order of the logits.
        forms: what the integers of a text's rows stand for; None for series.
        augmentation: how the rows of a series are varied; None for text.
        steps: scores of single steps, whose rest the network learns; None where it learns all.
        class_weights: (K,), or None where all weigh the same.
        total_steps: optimizer steps of the whole run, which the one-cycle schedule spans.
    """

    def __init__(
        self,
        model: ModelConfig,
        config: TrainingConfig,
        *,
        labels: tuple[str, ...],
        forms: Forms | None,
        augmentation: SeriesAugmentation | None = None,
        steps: StepScores | None = None,
        class_weights: Tensor | None,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.config = config
        self.labels = labels
        self.augmentation = augmentation
        self.total_steps = total_steps
        self.model = Network(model, forms, config.word_dropout, labels, steps)
        set_update_gate_bias(self.model.classifier, config.update_gate_bias)
        self.register_buffer("class_weights", class_weights, persistent=False)
        self._loss_sum: Tensor | float = 0.0
        self._loss_count = 0
        self._valid: list[tuple[Tensor, Tensor]] = []
        self.valid_rank: tuple[float, float] = (0.0, 0.0)

    def training_step(self, batch: TrainingBatch, batch_index: int) -> Tensor:
        """Return the mean cross-entropy of a batch."""
        inputs, lengths, labels = batch
        varied = self.augmentation(inputs, lengths) if self.augmentation else inputs
        loss = self._loss(self.model(varied, lengths, inputs), labels, self.config.label_smoothing)
        # Summed on the device and read once an epoch: self.log at each step would cost 14% of it.
        self._loss_sum = self._loss_sum + loss.detach()
        self._loss_count += 1
        return loss

    def take_train_loss(self) -> Tensor:
        """The mean loss of the steps since this was asked last."""
        mean = torch.as_tensor(self._loss_sum, device=self.device) / max(self._loss_count, 1)
        self._loss_sum, self._loss_count = 0.0, 0
        return mean

    def validation_step(self, batch: TrainingBatch, batch_index: int) -> None:
        """Keep the logits of the real steps; the figures need the whole split."""
        inputs, lengths, labels = batch
        logits = self.model(inputs, lengths).float()
        if labels.dim() == 1:
            self._valid.append((logits.cpu(), labels.cpu()))
            return
        for row, target, length in zip(logits.cpu(), labels.cpu(), lengths.tolist(), strict=True):
            self._valid.append((row[:length], target[:length]))

    def on_validation_epoch_end(self) -> None:
        """Log the figures of validation; set `valid_rank`, by which epochs are compared."""
        answered, logits = self._decoded()
        # Rows whose label training never saw have no index; they count in the test score, not here.
        truth = np.concatenate([target.numpy() for _, target in self._valid])
        known = truth != IGNORED
        names = np.array(self.labels)
        metrics = classification(
            names[truth[known]].tolist(),
            names[np.concatenate(answered)[known]].tolist(),
            torch.from_numpy(np.concatenate(logits)[known]).double().softmax(dim=1).numpy(),
            self.labels,
        )
        if not math.isfinite(metrics["log_loss"]):
            raise InvalidConfig(
                f"learning_rate: with {self.config.learning_rate:g} training diverged: in epoch "
                f"{self.current_epoch + 1} the logits are not finite; give a lower one"
            )
        if self.config.monitor == "span_f1":
            metrics["span_f1"] = self._span_f1(answered)
        self._valid = []
        # Ties in a figure that counts rows go to the surer answer.
        self.valid_rank = (metrics[self.config.monitor], -metrics["log_loss"])
        self.log_dict({f"valid_{name}": value for name, value in metrics.items()}, sync_dist=True)

    def configure_optimizers(self) -> Any:
        """Adam or AdamW, fused where Lightning allows it, with the schedule of the configuration."""
        config = self.config
        # In mixed precision a fused optimizer unscales gradients itself, and Lightning will not clip them before that.
        fused = config.precision == "32-true" or not config.gradient_clip
        betas = (0.9, 0.98) if config.optimizer == "adamw" else (0.9, 0.999)
        kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
        output = list(self.model.classifier.output.parameters())
        others = [parameter for parameter in self.model.parameters() if all(parameter is not one for one in output)]
        groups: list[dict[str, Any]] = [{"params": others}, {"params": output, "eps": config.output_epsilon}]
        optimizer: Optimizer = kind(
            groups, lr=config.learning_rate, betas=betas, weight_decay=config.weight_decay, fused=fused
        )
        if config.schedule == "constant":
            return optimizer
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, self.total_steps, pct_start=0.15, cycle_momentum=False
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _loss(self, logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
        if self.model.chain:
            return self.model.chain(logits.float(), labels)  # type: ignore[no-any-return]
        return nn.functional.cross_entropy(
            logits.flatten(0, -2).float(), labels.flatten(), weight=self.class_weights, label_smoothing=smoothing
        )

    def _decoded(self) -> tuple[list[NDArray[np.int64]], list[NDArray[Any]]]:
        """Classes and logits of what validation kept, as `Predictor.decode` gives them."""
        logits = [scores.numpy() for scores, _ in self._valid]
        if self.model.chain is None:
            return [scores.argmax(axis=1) for scores in logits], logits
        chain = self.model.chain.decoder()
        return [chain.best(scores) for scores in logits], [chain.log_marginals(scores) for scores in logits]

    def _span_f1(self, answered: list[NDArray[np.int64]]) -> float:
        # A tag that training never saw stands as an O, which cannot match what it is.
        names = np.array([*self.labels, "O"])
        truth = [names[np.where(target == IGNORED, -1, target)].tolist() for _, target in self._valid]
        return span_f1(truth, [names[row].tolist() for row in answered])


def set_update_gate_bias(model: SequenceClassifier, value: float) -> None:
    """Set the initial bias of a GRU's update gates; an LSTM is left as it is."""
    if model.config.cell != "gru":
        return
    size = model.config.hidden_size
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias_ih_l0"):
                parameter[size : 2 * size] = value
