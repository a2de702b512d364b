"""A trained candidate to an artifact: calibrated, with golden items, ready to be loaded and measured.

N rows (or steps), K classes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import gatewise
from gatewise import artifact
from gatewise.architecture import ModelConfig
from gatewise.artifact import Golden, Manifest, jsonable
from gatewise.batch import collate
from gatewise.features import features_of
from gatewise.text import TextEncoder
from gatewise.torch_engine import TorchEngine
from training.calibration import fit_temperature
from training.data import IGNORED, EncodedDataset
from training.dataset import Dataset
from training.onnx_graph import build
from training.preparing import Encoder

_GOLDEN_ITEMS = 8
_BATCH = 64


@dataclass(frozen=True)
class Packer:
    """What the artifacts of one job share.

    Attributes:
        valid, encoded_valid: the validation split, for the temperature and the golden items.
        data: the manifest's account of the data.
    """

    name: str
    created_at: str
    labels: tuple[str, ...]
    encoder: Encoder
    valid: Dataset
    encoded_valid: EncodedDataset
    data: dict[str, Any]

    def pack(self, folder: Path, model: ModelConfig, weights: dict[str, NDArray[np.float32]]) -> Path:
        """Write a candidate's artifact to `folder`, in place of what a killed job may have left there."""
        shutil.rmtree(folder, ignore_errors=True)
        logits = self._logits(model, weights)
        manifest = Manifest(
            gatewise_version=gatewise.__version__,
            name=self.name,
            created_at=self.created_at,
            labels=self.labels,
            model=model,
            encoder=self.encoder.config,
            temperature=_temperature(logits, self.encoded_valid),
            data=self.data,
        )
        artifact.save(
            folder,
            manifest,
            weights=weights,
            onnx=build(model, weights),
            golden=[Golden(item=jsonable(self.valid.items[i]), logits=logits[i].tolist()) for i in self._golden_rows()],
            tokenizer=self.encoder.to_json() if isinstance(self.encoder, TextEncoder) else None,
        )
        return folder

    def _logits(self, model: ModelConfig, weights: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Logits of each validation row, (K,) or (T, K), by torch on the features that serve."""
        engine = TorchEngine(model, weights, "cpu")
        features = features_of(self.encoder, model, weights)
        order = np.argsort(self.encoded_valid.lengths, kind="stable")
        results: dict[int, NDArray[np.float32]] = {}
        for start in range(0, len(order), _BATCH):
            indices = order[start : start + _BATCH]
            batch = collate([features(self.valid.items[i], ()).inputs for i in indices])
            for i, length, row in zip(indices, batch.lengths, engine.run(batch), strict=True):
                results[int(i)] = row[:length] if model.task == "step" else row
        return [results[i] for i in range(len(order))]

    def _golden_rows(self) -> list[int]:
        """Rows from the shortest to the longest."""
        order = np.argsort(self.encoded_valid.lengths, kind="stable")
        places = np.linspace(0, len(order) - 1, min(_GOLDEN_ITEMS, len(order))).round().astype(int)
        return [int(i) for i in order[np.unique(places)]]


def _temperature(logits: list[NDArray[np.float32]], rows: EncodedDataset) -> float:
    truth = np.concatenate([np.atleast_1d(label) for label in rows.labels])
    known = truth != IGNORED
    if not known.any():
        return 1.0
    return fit_temperature(np.concatenate([np.atleast_2d(row) for row in logits])[known], truth[known])
