"""The torch engine: the network that was trained, on any device that torch has; it alone needs torch to serve."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from gatewise.architecture import ModelConfig
from gatewise.batch import Batch
from gatewise.crf import crf_names
from gatewise.embedding import embedding_names
from gatewise.errors import ArtifactCorrupt, InvalidConfig, MissingDependency
from gatewise.wide import wide_names

try:
    import torch

    from gatewise.model import SequenceClassifier
except ModuleNotFoundError as error:  # pragma: no cover - the test environment has torch
    raise MissingDependency(f"the torch engine needs {error.name}: pip install 'gatewise[training]'") from None


def sees_gpu() -> bool:
    """Whether there is a CUDA device, without taking any of its memory."""
    return torch.cuda.is_available()


def check_device(device: str) -> None:
    """Raise InvalidConfig where there is no such device, without taking any of its memory."""
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InvalidConfig(f"device: {device!r}: {str(error).splitlines()[0]}") from None
    if kind == "cuda" and not sees_gpu():
        raise InvalidConfig(f"device: {device!r} cannot be used: torch sees no CUDA device here")


class TorchEngine:
    """Runs `SequenceClassifier` in float32."""

    name = "torch"
    max_rows: int | None = None

    def __init__(self, config: ModelConfig, weights: Mapping[str, NDArray[np.float32]], device: str) -> None:
        try:
            target = torch.device(device)
            torch.empty(0, device=target)
        except (RuntimeError, AssertionError) as error:
            raise InvalidConfig(f"device: {device!r} cannot be used: {error}") from None
        self.device = str(target)
        self._model = SequenceClassifier(config)
        try:
            others = {*embedding_names(), *crf_names(), *wide_names()}
            own = {name: array for name, array in weights.items() if name not in others}
            self._model.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in own.items()})
        except RuntimeError as error:
            raise ArtifactCorrupt(f"the weights do not fit the model: {error}") from None
        self._model.to(target).eval()

    @torch.inference_mode()
    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Return logits, (B, K), or (B, T, K) for a per-step model."""
        inputs = torch.from_numpy(batch.inputs)
        if self.device != "cpu":
            # Only a copy from pinned memory goes on beside what the device computes.
            inputs = inputs.pin_memory().to(self.device, non_blocking=True)
        logits: NDArray[np.float32] = self._model(inputs, torch.from_numpy(batch.lengths)).cpu().numpy()
        return logits
