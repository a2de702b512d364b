"""A trained candidate to an artifact: calibrated, with golden items, ready to be loaded and measured.

N rows (or steps), K classes.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import gatewise
from gatewise import artifact
from gatewise.architecture import ModelConfig
from gatewise.artifact import Golden, Manifest, jsonable
from gatewise.batch import collate
from gatewise.crf import TagChain
from gatewise.features import features_of
from gatewise.text import TextEncoder
from gatewise.torch_engine import TorchEngine
from training.blending import Blend, LinearBranch, blend
from training.calibration import fit_temperature
from training.callbacks import Say
from training.data import IGNORED, EncodedDataset
from training.dataset import Dataset
from training.onnx_graph import build
from training.preparing import Encoder

Weights = dict[str, NDArray[np.float32]]

_GOLDEN_ITEMS = 8
# Engines add up in another order: of logits in the hundreds float32 leaves that share uncertain.
_TOLERANCE, _SHARE_OF_LOGITS = 1e-4, 1e-6
_BATCH = 64


class Fitted(NamedTuple):
    """What is fitted on validation, beside a candidate's weights.

    Attributes:
        temperature: as in the manifest.
        blend: how the linear branch joined the network; None where the job has none.
    """

    temperature: float
    blend: Blend | None

    @property
    def share(self) -> float:
        """The factor of the linear branch's scores; 0 without one."""
        return self.blend.share if self.blend else 0.0


@dataclass(frozen=True)
class Packer:
    """What the artifacts of one job share.

    Attributes:
        valid, encoded_valid: the validation split, for the temperature and the golden items.
        data: the manifest's account of the data.
        always_wide: a linear branch is kept though it be of no use.
    """

    name: str
    created_at: str
    labels: tuple[str, ...]
    encoder: Encoder
    valid: Dataset
    encoded_valid: EncodedDataset
    data: dict[str, Any]
    always_wide: bool = False
    say: Say = print

    def pack(
        self,
        folder: Path,
        model: ModelConfig,
        weights: Weights,
        wide: LinearBranch | None = None,
        fitted: Fitted | None = None,
    ) -> Fitted:
        """Write a candidate's artifact to `folder`, in place of what a killed job may have left there.

        Args:
            wide: a linear branch that may join the network.
            fitted: what an earlier candidate fitted, where this one was trained on the validation rows too.
        """
        shutil.rmtree(folder, ignore_errors=True)
        logits = self._logits(model, weights)
        if wide:
            branch = wide.logits(self.valid, self.encoder)
            blended = (fitted and fitted.blend) or self._blend(model, np.stack(logits), branch, wide.expected_share)
            model, weights = _joined(model, weights, wide, blended.share)
            logits = [*(np.stack(logits) + np.float32(blended.share) * branch)]
        else:
            blended = None
        if fitted is None:
            fitted = Fitted(_temperature(_decoded(model, weights, logits), self.encoded_valid), blended)
        golden = [Golden(item=jsonable(self.valid.items[i]), logits=logits[i].tolist()) for i in self._golden_rows()]
        manifest = Manifest(
            gatewise_version=gatewise.__version__,
            name=self.name,
            created_at=self.created_at,
            labels=self.labels,
            model=model,
            encoder=self.encoder.config,
            temperature=fitted.temperature,
            data=self.data,
            golden_tolerance=max(
                _TOLERANCE, _SHARE_OF_LOGITS * max(float(np.abs(pair.logits).max()) for pair in golden)
            ),
        )
        artifact.save(
            folder,
            manifest,
            weights=weights,
            onnx=build(model, weights),
            golden=golden,
            tokenizer=self.encoder.to_json() if isinstance(self.encoder, TextEncoder) else None,
        )
        return fitted

    def _blend(
        self, model: ModelConfig, logits: NDArray[np.float32], branch: NDArray[np.float32], expected_share: float | None
    ) -> Blend:
        truth = np.array(self.encoded_valid.labels)
        known = truth != IGNORED
        blended = blend(
            logits[known], branch[known], truth[known], always=self.always_wide, expected_share=expected_share
        )
        self.say(f"{model.cell.upper()}: {blended.in_words()}")
        return blended

    def _logits(self, model: ModelConfig, weights: Weights) -> list[NDArray[np.float32]]:
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


def _joined(model: ModelConfig, weights: Weights, wide: LinearBranch, share: float) -> tuple[ModelConfig, Weights]:
    """Add a linear branch to a network, with this factor."""
    if not share:
        return model, weights
    return model.model_copy(update=wide.parts()), weights | wide.weights(share)


def _decoded(model: ModelConfig, weights: Weights, logits: list[NDArray[np.float32]]) -> list[NDArray[Any]]:
    """What the temperature divides: the logits, or where tags form a chain their logarithmic marginals."""
    if not model.crf:
        return [*logits]
    chain = TagChain(weights, model.num_classes)
    return [chain.log_marginals(row) for row in logits]


def _temperature(logits: list[NDArray[Any]], rows: EncodedDataset) -> float:
    truth = np.concatenate([np.atleast_1d(label) for label in rows.labels])
    known = truth != IGNORED
    if not known.any():
        return 1.0
    return fit_temperature(np.concatenate([np.atleast_2d(row) for row in logits])[known], truth[known])
