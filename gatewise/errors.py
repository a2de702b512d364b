"""Every error that Gatewise raises on purpose.

    GatewiseError
    ├── InvalidSequence        an item to predict breaks the model's input contract
    ├── InvalidData            a training or scoring file cannot be read as labelled sequences
    ├── InvalidConfig          a setting, flag or configuration file is wrong
    ├── ShapeMismatch          an array does not have the shape that the weights expect
    ├── ArtifactError          an artifact cannot be used
    │   ├── ArtifactMissing    the folder or one of its files is not there
    │   ├── ArtifactCorrupt    a file's content is not what the manifest says
    │   ├── ArtifactTooNew     a later Gatewise wrote it
    │   └── GoldenMismatch     the loaded model does not answer as it did when it was made
    ├── ModelNotFound          the store holds no such model or version
    ├── ModelConflict          the store's state does not allow the change asked for
    ├── StoreUnavailable       the shared store cannot be reached or written
    ├── FeedbackConflict       other feedback was stored under the same key
    ├── DatabaseUnavailable    the database is locked, full, not there or cannot be reached
    │   └── DatabaseTooNew     a later Gatewise has changed its schema
    ├── UnsupportedModel       an imported model has a part that Gatewise cannot state exactly
    └── MissingDependency      an optional package is needed and not installed

`code` is stable: it is what the HTTP body and programs read. The message is for people and may change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

Loc = tuple[str | int, ...]


class Detail(TypedDict):
    """One place and what is wrong there."""

    loc: list[str | int]
    message: str


class GatewiseError(Exception):
    """The root: catch this to catch every error that Gatewise raises on purpose."""

    code = "error"

    def __init__(self, message: str, *, details: Sequence[Detail] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = list(details)


class InvalidSequence(GatewiseError):
    """An item breaks the model's input contract; `loc` is the place inside it, such as (3, 17)."""

    code = "invalid_sequence"

    def __init__(self, message: str, *, loc: Loc = (), details: Sequence[Detail] = ()) -> None:
        super().__init__(message, details=details or [{"loc": list(loc), "message": message}])
        self.loc = loc


class InvalidData(GatewiseError):
    """A file cannot be read as labelled sequences; the message names file, row, column and mend."""

    code = "invalid_data"

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        row: int | None = None,
        column: str | int | None = None,
        mend: str | None = None,
    ) -> None:
        """Args:
        problem: what is wrong, as a clause without a full stop.
        path: the file.
        row: the line of the file for line formats (the header is line 1), else the record, counted from 1.
        column: the column's name, or its index from 0 where it has none.
        mend: what the user can do, as an imperative.
        """
        place = [str(path)] if path is not None else []
        place += [f"row {row}"] if row is not None else []
        place += [f"column {column!r}"] if column is not None else []
        message = f"{', '.join(place)}: {problem}" if place else problem
        super().__init__(f"{message}. {mend}" if mend else message)
        self.path, self.row, self.column, self.mend = path, row, column, mend


class InvalidConfig(GatewiseError):
    """A setting is wrong; the message begins with its name."""

    code = "invalid_config"


class ShapeMismatch(GatewiseError):
    """An array does not have the shape that the weights expect."""

    code = "shape_mismatch"


class ArtifactError(GatewiseError):
    """An artifact cannot be used."""

    code = "artifact_error"


class ArtifactMissing(ArtifactError):
    """The artifact's folder, or a file that its manifest names, is not there."""

    code = "artifact_missing"


class ArtifactCorrupt(ArtifactError):
    """A file's content is not what the manifest says."""

    code = "artifact_corrupt"


class ArtifactTooNew(ArtifactError):
    """The artifact's schema_version is later than this Gatewise reads."""

    code = "artifact_too_new"


class GoldenMismatch(ArtifactError):
    """The loaded model does not give its golden items the logits that it gave them when it was made."""

    code = "golden_mismatch"


class ModelNotFound(GatewiseError):
    """The store holds no such model or version."""

    code = "model_not_found"


class ModelConflict(GatewiseError):
    """The store's state does not allow the change asked for."""

    code = "model_conflict"


class StoreUnavailable(GatewiseError):
    """The shared store cannot be reached or written; what this machine holds is as it was."""

    code = "store_unavailable"


class FeedbackConflict(GatewiseError):
    """Other feedback was stored under the same key."""

    code = "feedback_conflict"


class DatabaseUnavailable(GatewiseError):
    """The database is locked, full, not there or cannot be reached; what was asked of it has not been done."""

    code = "database_unavailable"


class DatabaseTooNew(DatabaseUnavailable):
    """A later Gatewise has changed the database's schema."""

    code = "database_too_new"


class UnsupportedModel(GatewiseError):
    """An imported model has a part that Gatewise cannot state exactly."""

    code = "unsupported_model"


class MissingDependency(GatewiseError):
    """An optional package is needed and not installed; the message gives the command that installs it."""

    code = "missing_dependency"
