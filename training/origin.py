"""The files that a version was made of, by which a retraining finds the same rows again.

They are noted beside the version in the store and not in it: its manifest is shown by the service, and folders are
private; nor would they be there on another machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gatewise.errors import InvalidData
from gatewise.store import ModelVersion, Store
from training.files import find_files, require_file
from training.readers import ReadOptions
from training.splits import Splits, read_splits

SUBJECT = "origin"


@dataclass(frozen=True)
class Source:
    """Labelled files, and how they were read and divided.

    Attributes:
        data, valid, test: absolute paths, as of `read_splits`.
        reading: of `ReadOptions`.
        checksums: SHA-256 of each file.
    """

    data: str
    valid: str | None
    test: str | None
    reading: dict[str, Any]
    seed: int
    checksums: dict[str, str]

    @classmethod
    def of(cls, data: str, valid: str | None, test: str | None, reading: ReadOptions, seed: int) -> Source:
        """The files as they are now."""
        found = find_files(data, valid=valid, test=test)
        files = [file for file in (found.train, found.valid, found.test) if file is not None]
        paths = (_absolute(data), valid and _absolute(valid), test and _absolute(test))
        return cls(*paths, reading.model_dump(mode="json"), seed, {_absolute(file): _sha256(file) for file in files})

    def read(self) -> Splits:
        """The splits that were made of them.

        Raises:
            InvalidData: a file has moved or changed, or is wrong.
        """
        check(self.checksums)
        reading = ReadOptions.model_validate(self.reading)
        return read_splits(self.data, valid=self.valid, test=self.test, options=reading, seed=self.seed)


@dataclass(frozen=True)
class Origin:
    """What a version was made of.

    Attributes:
        training: of the train and validation rows, without the feedback.
        testing: of the test rows; the same, unless a retraining was given another base.
        embeddings, unlabelled: absolute paths.
        more: SHA-256 of these two.
        feedback: of the feedback that was learnt from, as `retrain` hashes it; None where there was none.
    """

    training: Source
    testing: Source
    embeddings: str | None = None
    unlabelled: str | None = None
    more: Mapping[str, str] | None = None
    feedback: str | None = None

    @classmethod
    def of(cls, source: Source, embeddings: str | None, unlabelled: str | None) -> Origin:
        """Of a training without feedback."""
        given = [Path(file) for file in (embeddings, unlabelled) if file]
        for file in given:
            require_file(file)
        more = {_absolute(file): _sha256(file) for file in given}
        return cls(
            source,
            source,
            embeddings=embeddings and _absolute(embeddings),
            unlabelled=unlabelled and _absolute(unlabelled),
            more=more,
        )

    def on(self, base: Source) -> Origin:
        """The same test rows, with other ones to train on."""
        return replace(self, training=base)

    def note(self, name: str, version: str) -> None:
        """Keep it beside the version."""
        Store().note(name, version, SUBJECT, asdict(self))


def origin_of(version: ModelVersion) -> Origin | None:
    """What a stored version was made of; None where it was imported, or made on another machine."""
    fields = Store().noted(version.name, version.version, SUBJECT)
    if fields is None:
        return None
    sources = {name: Source(**fields[name]) for name in ("training", "testing")}
    return Origin(**{**fields, **sources})


def check(checksums: Mapping[str, str]) -> None:
    """Raise InvalidData, with the mend, unless each file is what it was."""
    for path, sha256 in checksums.items():
        mend = "Put back the file that the model in production was trained on, or name another with --base DATA"
        if not Path(path).is_file():
            raise InvalidData("the base data is no longer there", path=path, mend=mend)
        if _sha256(Path(path)) != sha256:
            raise InvalidData("the base data has changed since (its checksum differs)", path=path, mend=mend)


def _absolute(path: str | Path) -> str:
    return str(Path(path).expanduser().absolute())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
