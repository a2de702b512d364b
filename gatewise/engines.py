"""Batch -> logits. ONNX Runtime serves on a CPU; torch (`torch_engine.py`) on a GPU. Tests hold them to each other.

B batch, T timesteps, K classes.
"""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from gatewise.artifact import Artifact
from gatewise.batch import Batch
from gatewise.errors import ArtifactCorrupt, InvalidConfig

EngineName = Literal["auto", "onnx", "torch"]


class Engine(Protocol):
    """Runs a padded batch.

    Attributes:
        max_rows: more sequences than this are faster in several batches; None where one batch is always best.
    """

    name: str
    device: str
    max_rows: int | None

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Return logits, (B, K), or (B, T, K) for a per-step model."""
        ...


class OnnxEngine:
    """ONNX Runtime on one CPU thread: a worker a core is faster than threads that share one."""

    name = "onnx"
    device = "cpu"
    # Its matrix kernels take six rows for one pass over the weights, on AVX2 and on AVX-512, and the gates of six
    # sequences stay in a core's cache where those of thirty go through memory.
    max_rows: int | None = 6

    def __init__(self, graph: bytes) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the library's own exceptions have no common root
            raise ArtifactCorrupt(f"model.onnx cannot be loaded: {error}") from None

    def run(self, batch: Batch) -> NDArray[np.float32]:
        """Return logits, (B, K), or (B, T, K) for a per-step model."""
        feed = {"inputs": batch.inputs, "lengths": batch.lengths.astype(np.int32)}
        logits: NDArray[np.float32] = self._session.run(["logits"], feed)[0]
        return logits


def open_engine(artifact: Artifact, name: EngineName = "auto", device: str | None = None) -> Engine:
    """Open the engine asked for; `auto` is torch where a device other than the CPU is named, else ONNX Runtime.

    Raises:
        InvalidConfig: the combination does not exist.
        MissingDependency: torch is asked for and not installed.
    """
    if name == "auto":
        name = "onnx" if device in (None, "cpu") else "torch"
    if name == "onnx":
        if device not in (None, "cpu"):
            raise InvalidConfig(f"device: the onnx engine runs on the CPU, not on {device!r}; use engine torch")
        return OnnxEngine(artifact.onnx())
    if name == "torch":
        from gatewise.torch_engine import TorchEngine

        return TorchEngine(artifact.manifest.model, artifact.weights(), device or "cpu")
    raise InvalidConfig(f"engine: {name!r} is none of auto, onnx, torch")
