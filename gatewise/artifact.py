"""One folder that holds everything between a sequence and its prediction.

    manifest.json        what the model is, how it was made, and a checksum for each file below
    weights.safetensors  the network's weights, named as in `architecture.py`
    tokenizer.json       text models only
    golden.json          raw items with the logits that the model gave them when it was made
    model.onnx           the same network for ONNX Runtime
    report.html          how it was chosen, how good it is and where it errs; with report.json and model_card.md
    drift.json           histograms of held-out sequences, which tell later whether others come

The last two lines are of models that `gatewise train` made. Nothing in it is a pickle. K classes, T timesteps.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from gatewise.architecture import Kind, ModelConfig, Task
from gatewise.drift import DriftReference
from gatewise.errors import ArtifactCorrupt, ArtifactMissing, ArtifactTooNew
from gatewise.text import TextEncoder, TextEncoderConfig
from gatewise.timeseries import TimeSeriesEncoder, TimeSeriesEncoderConfig

SCHEMA_VERSION = 1

MANIFEST, WEIGHTS, TOKENIZER, GOLDEN, ONNX = (
    "manifest.json",
    "weights.safetensors",
    "tokenizer.json",
    "golden.json",
    "model.onnx",
)
_REQUIRED = (WEIGHTS, GOLDEN, ONNX)
REPORT, REPORT_JSON, MODEL_CARD = "report.html", "report.json", "model_card.md"
DRIFT = "drift.json"


class FileRecord(BaseModel):
    """What a file must be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: str
    size_bytes: int


class Abstaining(BaseModel):
    """Which predictions are marked as abstained.

    Attributes:
        target_precision: of the others, the share that shall be right.
        threshold: a confidence below it is abstained; None where validation supports none, and all are abstained.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    target_precision: float = Field(gt=0, lt=1)
    threshold: float | None = Field(ge=0, le=1)

    def refuses(self, confidence: float) -> bool:
        """Whether a prediction of this confidence is abstained."""
        return self.threshold is None or confidence < self.threshold


class LabelSets(BaseModel):
    """Which labels a prediction's label set holds.

    Attributes:
        coverage: the share of the sets that shall hold the true label.
        threshold: labels of at least this probability are in the set.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    coverage: float = Field(gt=0, lt=1)
    threshold: float = Field(ge=0, le=1)


class Manifest(BaseModel):
    """What the model is and how it was made.

    Attributes:
        labels: the K classes, in the order of the logits.
        temperature: logits are divided by it before the softmax; fitted on validation.
        abstaining: None where no target precision was asked for.
        label_sets: None in models that know none, such as imported ones.
        metrics: figures by split, such as {"test": {"accuracy": 0.97}}.
        training: the resolved training configuration, the candidates and the choice.
        data: what the model was trained on: source, rows of each split, fingerprint.
        golden_tolerance: largest difference of a logit that a replay may show.
        files: every other file of the folder.
        digest: SHA-256 of this manifest without this field; it names the artifact.
    """

    # JSON has no NaN: a manifest that holds one could not be read again.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    schema_version: int = SCHEMA_VERSION
    gatewise_version: str
    name: str
    created_at: str
    labels: tuple[str, ...] = Field(min_length=2)
    model: ModelConfig
    encoder: Annotated[TextEncoderConfig | TimeSeriesEncoderConfig, Field(discriminator="kind")]
    temperature: float = Field(default=1.0, gt=0)
    abstaining: Abstaining | None = None
    label_sets: LabelSets | None = None
    metrics: dict[str, dict[str, float]] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    golden_tolerance: float = 1e-4
    files: dict[str, FileRecord] = Field(default_factory=dict)
    digest: str = ""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if len(self.labels) != self.model.num_classes:
            raise ValueError(f"there are {len(self.labels)} labels and the model has {self.model.num_classes} classes")
        if self.encoder.kind != self.model.kind:
            raise ValueError(f"the encoder is for {self.encoder.kind} and the model for {self.model.kind}")
        if isinstance(self.encoder, TimeSeriesEncoderConfig) and self.encoder.input_size != self.model.input_size:
            raise ValueError(
                f"the encoder gives {self.encoder.input_size} features and the model reads {self.model.input_size}"
            )
        return self

    @property
    def kind(self) -> Kind:
        """What an item is."""
        return self.model.kind

    @property
    def task(self) -> Task:
        """What gets a label: the sequence, or each of its steps."""
        return self.model.task

    @property
    def channels(self) -> tuple[str, ...] | None:
        """Names of a series' channels; None for text."""
        return self.encoder.channels if isinstance(self.encoder, TimeSeriesEncoderConfig) else None

    @property
    def allow_missing(self) -> bool:
        """Whether a reading may be missing."""
        return isinstance(self.encoder, TimeSeriesEncoderConfig) and self.encoder.allow_missing

    @property
    def max_length(self) -> int | None:
        """Tokens or timesteps kept of a longer sequence; None where all are."""
        return self.encoder.max_length

    def sealed(self) -> Manifest:
        """This manifest with its own digest filled in."""
        return self.model_copy(update={"digest": _digest(self.model_dump(mode="json"))})


class Golden(BaseModel):
    """A raw item and the logits (K,) or (T, K) that the model gave it when it was made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    item: Any
    logits: list[Any]


def save(
    folder: Path,
    manifest: Manifest,
    *,
    weights: Mapping[str, NDArray[np.float32]],
    onnx: bytes,
    golden: list[Golden],
    tokenizer: str | None = None,
) -> Manifest:
    """Write an artifact; the folder appears whole or not at all.

    Args:
        folder: where it will be; it must not exist.
        manifest: without `files` and `digest`, which are filled in here.
    Returns:
        the manifest as written.
    Raises:
        FileExistsError: the folder is there already.
        OSError: the disk is full, or may not be written to; nothing is left behind.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; an artifact is never written over")
    contents = {
        WEIGHTS: save_safetensors({name: np.ascontiguousarray(array) for name, array in weights.items()}),
        ONNX: onnx,
        GOLDEN: orjson.dumps([pair.model_dump() for pair in golden]),
    }
    if tokenizer is not None:
        contents[TOKENIZER] = tokenizer.encode()
    return _write(folder, manifest, contents)


def restate(source: Path, folder: Path, *, files: Mapping[str, bytes] | None = None, **fields: Any) -> Manifest:
    """Write an artifact again with other manifest fields, such as its metrics, in place of what stands at `folder`.

    Args:
        files: more of them, such as its report.
    """
    manifest = verify(source)
    contents = {name: _checked(source, manifest, name) for name in manifest.files} | dict(files or {})
    manifest = manifest.model_copy(update=fields)
    return _write(folder, Manifest.model_validate(manifest.model_dump()), contents, replace=True)


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest alone.

    Raises:
        ArtifactMissing: there is no manifest.
        ArtifactTooNew: its schema_version is later than this Gatewise reads.
        ArtifactCorrupt: it is not what was written.
    """
    path = folder / MANIFEST
    data = _read(path)
    try:
        raw = orjson.loads(data)
        version = raw["schema_version"]
        if not isinstance(version, int):
            raise TypeError
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ArtifactCorrupt(f"{path}: not a Gatewise manifest; restore the folder from where it came") from None
    if version > SCHEMA_VERSION:
        raise ArtifactTooNew(
            f"{path}: schema_version {version}, and this Gatewise reads up to {SCHEMA_VERSION}; upgrade gatewise"
        )
    try:
        manifest = Manifest.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ArtifactCorrupt(f"{path}: field {place}: {first['msg']}; restore the folder") from None
    if manifest.digest != _digest(raw):
        raise ArtifactCorrupt(f"{path}: changed since it was written (its digest differs); restore the folder")
    return manifest


def verify(folder: Path) -> Manifest:
    """Check that every file of an artifact is there and is what the manifest says.

    Raises:
        ArtifactMissing, ArtifactCorrupt, ArtifactTooNew: as their names say, with the file.
    """
    manifest = read_manifest(folder)
    required = _REQUIRED + ((TOKENIZER,) if manifest.kind == "text" else ())
    for name in required:
        if name not in manifest.files:
            raise ArtifactCorrupt(f"{folder / MANIFEST}: names no {name}; restore the folder")
    for name in manifest.files:
        _checked(folder, manifest, name)
    return manifest


class Artifact:
    """An artifact on disk whose every file has been verified; parts are read when asked for."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.manifest = verify(self.folder)

    def weights(self) -> dict[str, NDArray[np.float32]]:
        """The network's weights by name."""
        try:
            return load_safetensors(_checked(self.folder, self.manifest, WEIGHTS))
        except SafetensorError as error:
            raise ArtifactCorrupt(f"{self.folder / WEIGHTS}: {error}") from None

    def onnx(self) -> bytes:
        """The network for ONNX Runtime."""
        return _checked(self.folder, self.manifest, ONNX)

    def golden(self) -> list[Golden]:
        """The raw items with their logits."""
        data = _checked(self.folder, self.manifest, GOLDEN)
        try:
            return [Golden.model_validate(pair) for pair in orjson.loads(data)]
        except (orjson.JSONDecodeError, ValidationError, TypeError) as error:
            raise ArtifactCorrupt(f"{self.folder / GOLDEN}: {error}") from None

    def encoder(self) -> TextEncoder | TimeSeriesEncoder:
        """The encoder, as it was fitted on the train split."""
        config = self.manifest.encoder
        if isinstance(config, TimeSeriesEncoderConfig):
            return TimeSeriesEncoder(config)
        data = _checked(self.folder, self.manifest, TOKENIZER)
        try:
            return TextEncoder.from_json(config, data.decode())
        except Exception as error:  # tokenizers raises bare Exception
            raise ArtifactCorrupt(f"{self.folder / TOKENIZER}: {error}") from None

    def report(self, name: str = REPORT) -> bytes | None:
        """The report, or its part of this name; None where the model was made without."""
        return _checked(self.folder, self.manifest, name) if name in self.manifest.files else None

    def drift_reference(self) -> DriftReference | None:
        """What drift is measured against; None where the model was made without."""
        if DRIFT not in self.manifest.files:
            return None
        try:
            return DriftReference.model_validate_json(_checked(self.folder, self.manifest, DRIFT))
        except ValidationError as error:
            raise ArtifactCorrupt(f"{self.folder / DRIFT}: {error}") from None


def jsonable(item: Any) -> Any:
    """A raw item as JSON holds it: arrays as lists, NaN as null."""
    if isinstance(item, np.ndarray):
        item = item.tolist()
    if isinstance(item, list | tuple):
        return [jsonable(part) for part in item]
    return None if isinstance(item, float) and math.isnan(item) else item


def _write(folder: Path, manifest: Manifest, contents: dict[str, bytes], *, replace: bool = False) -> Manifest:
    files = {name: FileRecord(sha256=_sha256(data), size_bytes=len(data)) for name, data in contents.items()}
    manifest = manifest.model_copy(update={"files": files}).sealed()
    encoded = orjson.dumps(manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        staging.chmod(0o755)
        for name, data in {**contents, MANIFEST: encoded}.items():
            _write_durably(staging / name, data)
        if replace:
            shutil.rmtree(folder, ignore_errors=True)
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return manifest


def _checked(folder: Path, manifest: Manifest, name: str) -> bytes:
    if Path(name).name != name:
        raise ArtifactCorrupt(f"{folder / MANIFEST}: {name!r} is not the name of a file in the folder")
    data, record = _read(folder / name), manifest.files[name]
    if len(data) != record.size_bytes:
        raise ArtifactCorrupt(
            f"{folder / name}: {len(data)} bytes where {record.size_bytes} were written; restore the folder"
        )
    if _sha256(data) != record.sha256:
        raise ArtifactCorrupt(
            f"{folder / name}: changed since it was written (its checksum differs); restore the folder"
        )
    return data


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise ArtifactMissing(f"{path}: not found; an artifact is the folder that `gatewise train` wrote") from None


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _digest(fields: Mapping[str, Any]) -> str:
    """Of the fields as they stand in the file, so that a field that is new in a later version changes no older one."""
    others = {name: value for name, value in fields.items() if name != "digest"}
    return hashlib.sha256(orjson.dumps(others, option=orjson.OPT_SORT_KEYS)).hexdigest()
