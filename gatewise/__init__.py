"""Gatewise: small, fast classifiers for text and time series, made of LSTM and GRU gates.

model = gatewise.load("questions:production")
model.predict(["How far is the moon ?"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gatewise.engines import EngineName
    from gatewise.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["load"]


def load(model: str, *, engine: EngineName = "auto", device: str | None = None) -> Predictor:
    """Load a model: `name` (its newest version), `name:version`, `name:production`, or an artifact's folder.

    Args:
        engine: `auto` is ONNX Runtime on the CPU, torch on any other device.
        device: as torch names it; None is the CPU.
    Raises:
        ModelNotFound: the store has no such model.
        ArtifactError: what is there cannot be used.
    """
    from gatewise.predictor import Predictor
    from gatewise.store import resolve

    path, version = resolve(model)
    return Predictor.load(path, engine=engine, device=device, version=version)
