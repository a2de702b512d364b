"""Raw items in, predictions out: what training measures, what the command line runs and what the service serves.

B batch, T timesteps, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gatewise.artifact import Artifact, Manifest
from gatewise.batch import Encoded, collate
from gatewise.cells import run_layers
from gatewise.crf import TagChain
from gatewise.drift import DriftReference
from gatewise.engines import Engine, EngineName, open_engine
from gatewise.errors import GoldenMismatch, InvalidConfig, InvalidSequence, Loc
from gatewise.features import features_of
from gatewise.reference import stem
from gatewise.schema import Explanation, FloatArray, LayerGates, Prediction, StepPrediction

Answer = Prediction | StepPrediction
_NOT_FINITE = "its values are so large that the model's answer is not finite"


class Predictor:
    """A loaded artifact that answers.

    Attributes:
        manifest: what the model is.
        version: the store's version, or the first characters of the digest for a bare folder.
        engine: what runs the network.
    """

    def __init__(self, artifact: Artifact, engine: Engine, version: str | None = None) -> None:
        self.manifest: Manifest = artifact.manifest
        self.version = version or artifact.manifest.digest[:12]
        self.engine = engine
        self._artifact = artifact
        self._features = features_of(artifact.encoder(), artifact.manifest.model, artifact.weights())
        model = artifact.manifest.model
        self._chain = TagChain(artifact.weights(), model.num_classes) if model.crf else None
        self._labels = self.manifest.labels
        self._abstaining = self.manifest.abstaining

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        engine: EngineName = "auto",
        device: str | None = None,
        version: str | None = None,
    ) -> Predictor:
        """Open an artifact's folder, verify every file, and replay its golden items.

        Args:
            engine: `auto` is ONNX Runtime on the CPU, torch on any other device.
            device: as torch names it; None is the CPU.
            version: what to call it; the digest's first characters by default.
        Raises:
            ArtifactMissing, ArtifactCorrupt, ArtifactTooNew: the folder cannot be used.
            GoldenMismatch: the model does not answer as it did when it was made.
        """
        artifact = Artifact(path)
        predictor = cls(artifact, open_engine(artifact, engine, device), version)
        predictor.replay()
        return predictor

    @property
    def engine_name(self) -> str:
        """`onnx` or `torch`."""
        return self.engine.name

    def encode(self, item: object, loc: Loc = ()) -> Encoded:
        """Parse and encode one raw item.

        Raises:
            InvalidSequence: it breaks the input contract, with its place.
        """
        return self._features(item, loc)

    def logits(self, encoded: Sequence[NDArray[Any]]) -> list[FloatArray]:
        """Run sequences together; for each, in the order given, its logits (K,) or (T, K)."""
        most = self.engine.max_rows
        if most is None or len(encoded) <= most:
            return self._run(encoded)
        # Of one length, as nearly as may be, and of one size: the last of unequal parts would cost most for each.
        order = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        parts = -(-len(order) // most)
        results: list[Any] = [None] * len(order)
        for part in range(parts):
            indices = order[part * len(order) // parts : (part + 1) * len(order) // parts]
            for i, row in zip(indices, self._run([encoded[i] for i in indices]), strict=True):
                results[i] = row
        return results

    def _run(self, encoded: Sequence[NDArray[Any]]) -> list[FloatArray]:
        batch = collate(encoded)
        logits = self.engine.run(batch)
        if self.manifest.task == "sequence":
            return list(logits)
        return [row[:length] for row, length in zip(logits, batch.lengths, strict=True)]

    def probabilities(self, logits: NDArray[Any]) -> NDArray[np.float64]:
        """Calibrated probabilities of logits (..., K)."""
        probabilities: NDArray[np.float64] = logits.astype(np.float64)
        probabilities /= self.manifest.temperature
        probabilities -= np.maximum.reduce(probabilities, axis=-1, keepdims=True)
        np.exp(probabilities, out=probabilities)
        probabilities /= np.add.reduce(probabilities, axis=-1, keepdims=True)
        return probabilities

    def scores(self, encoded: Encoded, logits: FloatArray) -> FloatArray:
        """The whole model's logits of one item: the network's, and what a linear branch adds to them."""
        return logits if encoded.wide is None else logits + encoded.wide

    def decode(self, encoded: Encoded, logits: FloatArray) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The classes that one item's answer names, and the calibrated probabilities of all.

        Args:
            logits: the network's, (K,), or (T, K) for a per-step model.
        Returns:
            an index, or (T,) indices; probabilities of the shape of the logits. With a chain of tags the indices are
            those of the likeliest tags together, which need not be the likeliest one by one.
        """
        if self._chain is None:
            p = self.probabilities(self.scores(encoded, logits))
            return p.argmax(axis=-1), p
        return self._chain.best(logits), self.probabilities(self._chain.log_marginals(logits))

    def answer(
        self, encoded: Encoded, logits: FloatArray, *, probabilities: bool | None = None, label_set: bool | None = None
    ) -> Answer:
        """Word the network's logits of one item as a prediction.

        Args:
            probabilities: whether a per-step answer holds the probabilities of each step; no by default.
            label_set: whether the answer holds its label set; no by default.
        Raises:
            InvalidConfig: label sets are asked of a model that knows none.
        """
        classes, p = self.decode(encoded, logits)
        abstaining = self._abstaining
        if self.manifest.task == "sequence":
            shares = p.tolist()
            k = int(classes)
            return Prediction(
                label=self._labels[k],
                confidence=shares[k],
                probabilities=dict(zip(self._labels, shares, strict=True)),
                abstained=abstaining.refuses(shares[k]) if abstaining else None,
                label_set=self._label_set(k, p) if label_set else None,
            )
        confidences = p[np.arange(len(p)), classes].tolist()
        return StepPrediction(
            labels=[self._labels[k] for k in classes],
            confidences=confidences,
            tokens=encoded.tokens,
            probabilities=[dict(zip(self._labels, row, strict=True)) for row in p.tolist()] if probabilities else None,
            abstained=[abstaining.refuses(confidence) for confidence in confidences] if abstaining else None,
            label_set=[self._label_set(k, row) for k, row in zip(classes, p, strict=True)] if label_set else None,
        )

    def _label_set(self, answered: int, p: NDArray[np.float64]) -> list[str]:
        """The labels of the set for probabilities (K,), likeliest first; the answer itself is always among them."""
        sets = self.manifest.label_sets
        if sets is None:
            raise InvalidConfig("label_set: this model was made without label sets; train it again")
        held = p >= sets.threshold
        held[answered] = True
        return [self._labels[k] for k in np.argsort(-p, kind="stable") if held[k]]

    def run_each(
        self, items: Iterable[object], *, batch_size: int = 64
    ) -> list[tuple[Encoded, FloatArray] | InvalidSequence]:
        """Encode and run every item; each comes back with the network's logits, or with what is wrong with it.

        Batches hold sequences of similar length: mixing lengths costs time, and changes nothing else.
        """
        results: list[Any] = [self._encode_or_error(item, (i,)) for i, item in enumerate(items)]
        valid = [i for i, result in enumerate(results) if isinstance(result, Encoded)]
        valid.sort(key=lambda i: len(results[i].inputs))
        for start in range(0, len(valid), batch_size):
            indices = valid[start : start + batch_size]
            logits = self.logits([results[i].inputs for i in indices])
            for i, row in zip(indices, logits, strict=True):
                results[i] = (results[i], row) if np.isfinite(row).all() else InvalidSequence(_NOT_FINITE, loc=(i,))
        return results

    def predict_each(
        self,
        items: Iterable[object],
        *,
        batch_size: int = 64,
        probabilities: bool | None = None,
        label_set: bool | None = None,
    ) -> list[Answer | InvalidSequence]:
        """Answer every item: one prediction or one error for each, in their order."""
        return [
            result
            if isinstance(result, InvalidSequence)
            else self.answer(*result, probabilities=probabilities, label_set=label_set)
            for result in self.run_each(items, batch_size=batch_size)
        ]

    def predict(
        self, items: Iterable[object], *, probabilities: bool | None = None, label_set: bool | None = None
    ) -> list[Answer]:
        """Answer every item.

        Args:
            probabilities, label_set: as in `answer`.
        Raises:
            InvalidSequence: at least one is wrong; `details` has the place of each.
            InvalidConfig: label sets are asked of a model that knows none.
        """
        if isinstance(items, str):
            raise InvalidSequence("expected a list of items, got one string; put it in a list")
        answers = self.predict_each(items, probabilities=probabilities, label_set=label_set)
        errors = [answer for answer in answers if isinstance(answer, InvalidSequence)]
        if errors:
            details = [detail for error in errors for detail in error.details]
            where = f"item {errors[0].loc[0]}: {errors[0].message}"
            more = f" (and {len(errors) - 1} more items)" if len(errors) > 1 else ""
            raise InvalidSequence(where + more, loc=errors[0].loc, details=details)
        return [answer for answer in answers if not isinstance(answer, InvalidSequence)]

    def gates(self, item: object) -> Explanation:
        """Run one item through the cells of `cells.py`; every gate at every timestep, as arrays (T, H).

        A model with a strided stem has a step for every `stem_stride` timesteps.
        """
        encoded = self.encode(item)
        weights = self._artifact.weights()
        lengths = np.array([len(encoded.inputs)])
        features, lengths = stem(self.manifest.model, weights, encoded.inputs[None], lengths)
        layers = [
            LayerGates(
                layer=layer,
                direction=direction,
                gates={name: gate[0] for name, gate in run.gates._asdict().items()},
                outputs=run.outputs[0],
            )
            for layer, runs in enumerate(run_layers(self.manifest.model, weights, features, lengths))
            for direction, run in runs.items()
        ]
        return Explanation(layers=layers, tokens=encoded.tokens)

    def report(self) -> bytes | None:
        """The report as HTML; None where the model was made without."""
        return self._artifact.report()

    def drift_reference(self) -> DriftReference | None:
        """What drift is measured against; None where the model was made without."""
        return self._artifact.drift_reference()

    def replay(self) -> None:
        """Run the golden items through encoder, padding and engine, and compare their logits.

        Raises:
            GoldenMismatch: one differs by more than the manifest's tolerance.
        """
        golden = self._artifact.golden()
        results = self.run_each([pair.item for pair in golden])
        for number, (pair, result) in enumerate(zip(golden, results, strict=True)):
            if isinstance(result, InvalidSequence):
                raise GoldenMismatch(f"golden item {number} is refused: {result.message}; restore or retrain the model")
            difference = _difference(self.scores(*result), pair.logits)
            # The comparison is written so that a NaN fails it.
            if not difference <= self.manifest.golden_tolerance:
                raise GoldenMismatch(
                    f"golden item {number}: a logit differs by {difference:.2g} from when the model was made "
                    f"(tolerance {self.manifest.golden_tolerance:g}, engine {self.engine.name}); "
                    "the libraries or the machine here compute otherwise: try the other engine, or retrain here"
                )

    def _encode_or_error(self, item: object, loc: Loc) -> Encoded | InvalidSequence:
        try:
            return self.encode(item, loc)
        except InvalidSequence as error:
            return error


def _difference(logits: FloatArray, golden: list[Any]) -> float:
    """Largest difference of a logit; infinite where the golden ones are not an array of this shape."""
    try:
        expected = np.array(golden, dtype=np.float32)
    except (TypeError, ValueError):
        return np.inf
    return float(np.abs(logits - expected).max()) if logits.shape == expected.shape else np.inf
