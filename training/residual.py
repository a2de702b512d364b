"""What a step's own readings tell of its label, fitted before a network that then learns what they leave open.

A series of a week is seven days, however many its steps are, and a network learns them by heart. A logistic regression
of a single step cannot. Its scores are added to the network's in training, and become the weights by which the head
reads the step's own features (`skip`) when the model is saved, so that nothing new is served.

B batch, T timesteps, F features, K classes.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gatewise.architecture import ModelConfig
from training.data import IGNORED, EncodedDataset
from training.linear import fit_linear

Weights = dict[str, NDArray[np.float32]]

# Of standardized features; steps are many, and features few.
_STRENGTH = 1.0
# More steps of the same series tell a regression little, and cost as much as the network.
_MOST_STEPS = 200_000


class StepScores(nn.Module):
    """A linear classifier of single steps, which training leaves as it is.

    Args:
        weight, bias: (K, F) and (K,).
    """

    def __init__(self, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", torch.from_numpy(weight))
        self.register_buffer("bias", torch.from_numpy(bias))

    def forward(self, features: Tensor) -> Tensor:
        """Score (B, T, F) as (B, T, K)."""
        return nn.functional.linear(features, self.weight, self.bias)

    def added_to(self, weights: Weights, model: ModelConfig) -> Weights:
        """The weights of a network whose logits have these scores in them; its shape is `with_skip`'s."""
        steps, bias = (tensor.cpu().numpy() for tensor in (self.weight, self.bias))
        output = weights["output.weight"]
        if model.skip:
            read = output.shape[1] - steps.shape[1]
            output = np.hstack([output[:, :read], output[:, read:] + steps])
        else:
            output = np.hstack([output, steps])
        return weights | {"output.weight": output, "output.bias": weights["output.bias"] + bias}


def fit_step_scores(train: EncodedDataset, num_classes: int, seed: int) -> StepScores:
    """Fit a logistic regression to the single steps of the train rows."""
    features, truth = np.concatenate(train.inputs), np.concatenate(train.labels)
    known = np.flatnonzero(truth != IGNORED)
    known = known[np.linspace(0, len(known) - 1, min(len(known), _MOST_STEPS)).astype(int)]
    weight, bias = fit_linear(features[known], truth[known], num_classes, _STRENGTH, seed)
    return StepScores(np.ascontiguousarray(weight.T, dtype=np.float32), bias)


def with_skip(model: ModelConfig) -> ModelConfig:
    """The network that serves: its head reads the step's own features too."""
    return model.model_copy(update={"skip": True})
