"""BentoML's own adaptive batching, and torch."""

import bentoml
import numpy as np
import torch
from numpy.typing import NDArray
from torch_model import load


@bentoml.service(metrics={"enabled": True}, logging={"access": {"enabled": False}})
class Peer:
    def __init__(self) -> None:
        self.model = load()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=10_000)
    def predict(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return self.model(torch.from_numpy(np.asarray(inputs, dtype=np.float32))).numpy()
