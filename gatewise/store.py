"""Model versions and the `production` pointer, on BentoML's model store: the one file of the library that knows it.

A version is a folder `$BENTOML_HOME/models/NAME/VERSION` with the artifact's files and BentoML's `model.yaml`, so that
`bentoml models list`, `bentoml.models.get` and Bentos see it. The pointer is `$BENTOML_HOME/gatewise/NAME.json`; notes
on a version (what it was made of, what the gate said of it) are beside it, in `notes/NAME/VERSION`. An export has what
the gate said, as `gate.json`; what it was made of are paths of this machine, and stay here.

With GATEWISE_STORE a pointer is that of a shared store (`shared.py`): moves are made there, and this store is where a
machine keeps the versions that it uses.

BentoML fills a version's folder in place and lists it from the first file on; a process that dies in the middle leaves
half a version, on which its `list` then fails. Here a version is made whole elsewhere on the same disk, and one rename
shows it. Reading never imports BentoML (0.8 s): a version's name and manifest say all that is asked.
"""

from __future__ import annotations

import builtins
import difflib
import errno
import json
import logging
import os
import re
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gatewise import archive
from gatewise.durable import copy_folder, exclusive, is_held, replace_text, sync_folder
from gatewise.errors import (
    ArtifactCorrupt,
    ArtifactMissing,
    InvalidConfig,
    ModelConflict,
    ModelNotFound,
    StoreUnavailable,
)
from gatewise.production import PointerState, ProductionPointer, Promotion, Shadow
from gatewise.shadow import Comparisons
from gatewise.shared import SharedStore

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
GATE = "gate"
_GATE_FILE = "gate.json"
_BENTOML_ENTRY = "model.yaml"
_LATEST = "latest"
_BENTOML_PICKLE = "custom_objects.pkl"
_NAME = re.compile(r"[a-z0-9]([-._a-z0-9]*[a-z0-9])?")
_MAX_NAME_LENGTH = 63
_VERSION_TIME = re.compile(r"(\d{8}t\d{6})\.(\d{3})-[0-9a-f]{8}")


@dataclass(frozen=True)
class ModelVersion:
    """One stored version of a model.

    Attributes:
        version: UTC time and content, such as `20261123t084512.347-1f3a9c2e`; later versions sort after earlier ones.
        path: the artifact's folder. Read it; never write there.
        manifest: what manifest.json says, as it stands.
        changed: whether the call that returned this changed the store.
    """

    name: str
    version: str
    path: Path
    created_at: datetime
    size_bytes: int
    is_production: bool
    manifest: dict[str, Any] = field(repr=False)
    is_shadow: bool = False
    changed: bool = False

    @property
    def reference(self) -> str:
        """`name:version`."""
        return f"{self.name}:{self.version}"

    @property
    def kind(self) -> str:
        """`text` or `series`."""
        return self._of_model("kind")

    @property
    def task(self) -> str:
        """`sequence` or `step`."""
        return self._of_model("task")

    @property
    def cell(self) -> str:
        """`lstm` or `gru`."""
        return self._of_model("cell")

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics that training measured."""
        metrics = self.manifest.get("metrics")
        return metrics if isinstance(metrics, dict) else {}

    def _of_model(self, word: str) -> str:
        # A manifest of a later Gatewise may say less, or otherwise; it is listed all the same.
        model = self.manifest.get("model")
        return str(model.get(word, "")) if isinstance(model, dict) else ""


class Store:
    """The models of one BentoML home. Any number of processes may read and write it at once."""

    def __init__(self, home: str | Path | None = None, shared: str | None = None) -> None:
        """Open the store at `home`, else BENTOML_HOME, else ~/bentoml. Nothing is written before the first change.

        Args:
            shared: URL of the shared store that it follows, else GATEWISE_STORE; none where that is not set.
        """
        chosen = home if home is not None else os.environ.get("BENTOML_HOME") or "~/bentoml"
        self.home = Path(os.path.expandvars(chosen)).expanduser().absolute()
        self._models = self.home / "models"
        self._state = self.home / "gatewise"
        url = shared or os.environ.get("GATEWISE_STORE")
        self._shared = SharedStore(url) if url else None

    def add(self, folder: str | Path, name: str) -> ModelVersion:
        """Copy a finished artifact in as a new version of `name`; it is there whole, or not at all.

        Raises:
            InvalidConfig: the name is not one that BentoML takes.
            ArtifactError: the folder holds no whole artifact.
            ModelConflict: the disk is full or not writable.
        """
        check_name(name)
        source = Path(folder)
        if not (source / MANIFEST).is_file():
            raise ArtifactMissing(f"{source} holds no {MANIFEST}; give the folder of a finished artifact")
        with self._staging(f"add {name!r}") as staging:
            copy_folder(source, staging / "artifact")
            _verify(staging / "artifact")
            return self._publish(staging / "artifact", name)

    def list(self, name: str | None = None) -> builtins.list[ModelVersion]:
        """The versions of `name`, or of every model, newest first. Damaged entries are left out and logged."""
        names = [name] if name is not None else _folders(self._models)
        found = [version for each in names if _NAME.fullmatch(each) for version in self._versions(each)]
        return sorted(found, key=lambda version: (version.created_at, version.version), reverse=True)

    def get(self, reference: str) -> ModelVersion:
        """The version that `reference` means.

        Args:
            reference: `name` or `name:latest` for the newest, `name:production`, `name:version`, or the beginning of a
                version that no other shares.
        Raises:
            ModelNotFound: there is none; the message names what there is.
            ArtifactCorrupt: the version named is damaged.
        """
        name, colon, wanted = reference.partition(":")
        if wanted == "production":
            return self._production(name)
        if colon and _NAME.fullmatch(name) and _NAME.fullmatch(wanted) and (self._models / name / wanted).is_dir():
            version = self._read(name, wanted)
            if version is not None:
                return _marked(version, self._listed_pointer(name))
        versions = self.list(name)
        if not versions:
            raise ModelNotFound(self._unknown(name))
        if not colon or wanted == "latest":
            return versions[0]
        matches = [version for version in versions if wanted and version.version.startswith(wanted)]
        if len(matches) == 1:
            return matches[0]
        listed = ", ".join(version.version for version in (matches or versions)[:5])
        if matches:
            raise ModelNotFound(f"{wanted!r} begins {len(matches)} versions of {name!r}; give more of one: {listed}")
        raise ModelNotFound(f"{name!r} has no version {wanted!r}; the newest are {listed}, or say {name}:latest")

    def promote(self, reference: str, *, over: str | None = None) -> ModelVersion:
        """Make a version production. `changed` is False where it was production already and nothing was done.

        Args:
            over: the version that must be production until now.
        Raises:
            ArtifactError: a file of the version is not what was written; nothing was done.
            ModelConflict: another version than `over` is production; nothing was done.
            StoreUnavailable: the shared store cannot be reached; nothing was done.
        """
        version = self.get(reference)

        def change(state: PointerState) -> bool:
            # Looked up again: what the reference means may have moved while another process held the lock.
            nonlocal version
            version = self._promotable(reference)
            if over is not None and state.version not in (over, version.version):
                raise ModelConflict(
                    f"production of {version.name!r} has moved from {over} to {state.version}; nothing was promoted"
                )
            return state.promote(version.version)

        changed = self._move(version.name, change, mends=True)
        if not changed:
            logger.info("%s is production already; nothing changed", version.reference)
        return replace(version, is_production=True, changed=changed)

    def rollback(self, name: str) -> ModelVersion:
        """Make production what was production before; each further call goes one further back.

        Raises:
            ModelConflict: nothing was production before.
            StoreUnavailable: the shared store cannot be reached; nothing was done.
        """
        name = name.removesuffix(":production")
        if self._shared is None and not self.list(name):
            raise ModelNotFound(self._unknown(name))

        def is_stored(version: str) -> bool:
            return self._shared.has(name, version) if self._shared else self._stored(name, version) is not None

        self._move(name, lambda state: state.rollback(name, is_stored))
        return replace(self._production(name), changed=True)

    def cast_shadow(self, reference: str, sample: float) -> ModelVersion:
        """Let a version answer a share of production's requests beside it, for comparison.

        Raises:
            ModelConflict: it is production itself, or nothing is.
        """
        if not 0 < sample <= 1:
            raise InvalidConfig(f"sample: {sample:g} is no share of the requests; give more than 0 and at most 1")
        version = self._promotable(reference)
        shadow = Shadow(version=version.version, sample=sample)
        return replace(version, changed=self._move(version.name, lambda state: state.cast_shadow(shadow)))

    def end_shadow(self, name: str) -> bool:
        """Let no version shadow production; whether one did."""
        if not self.list(name):
            raise ModelNotFound(self._unknown(name))
        return self._move(name, lambda state: state.cast_shadow(None))

    def shadow(self, name: str) -> Shadow | None:
        """The version that shadows production."""
        return self._pointer(name).read().shadow

    def comparisons(self, name: str) -> Comparisons:
        """What shadows of `name` have shown on this machine."""
        if not _NAME.fullmatch(name):
            raise ModelNotFound(self._unknown(name))
        return Comparisons(self._state / "shadow" / name)

    def moves_with(self, reference: str) -> Path | None:
        """The file that changes whenever what `reference` means may have; None where that never changes."""
        name, _, wanted = reference.partition(":")
        if wanted == "production":
            return self._pointer(name).path
        return self._models / name / _LATEST if wanted in ("", "latest") else None

    @property
    def is_shared(self) -> bool:
        """Whether it follows a shared store."""
        return self._shared is not None

    @contextmanager
    def following(self, name: str) -> Iterator[None]:
        """Be the one process of this machine that asks the shared store for `name`.

        Raises:
            ModelConflict: another is.
        """
        with exclusive(self._state / f"{name}.follower.lock", timeout_seconds=0):
            yield

    def pull(self, name: str) -> bool:
        """Bring the shared store's pointer here, and before that the versions that it names; whether it had moved.

        Raises:
            StoreUnavailable: the shared store cannot be reached; the pointer here stays.
            ArtifactError: a version there is damaged; the pointer here stays.
        """
        if self._shared is None:
            return False
        # One process of a machine downloads; the others find what it brought.
        with _explained(f"pull {name!r}"), exclusive(self._state / f"{name}.pull.lock", timeout_seconds=600):
            state = self._shared.read(name)
            if state is None or state == self._pointer(name).read_or_begin():
                return False
            self._bring(name, state)
            with self._locked(name):
                # Another move may have been made from here meanwhile; the next pull brings it.
                is_newest = self._shared.read(name) == state
                if is_newest:
                    self._pointer(name).write(state)
        return is_newest

    def history(self, name: str) -> builtins.list[Promotion]:
        """Every promotion and rollback of `name`, newest first."""
        if not self.list(name):
            raise ModelNotFound(self._unknown(name))
        return self._pointer(name).read().history[::-1]

    def delete(self, reference: str) -> ModelVersion:
        """Delete one version, and say which.

        Raises:
            InvalidConfig: the reference names no version.
            ModelConflict: it is production.
        """
        if ":" not in reference:
            raise InvalidConfig(
                f"reference: {reference!r} names no version; say {reference}:VERSION to delete that one"
            )
        name = self.get(reference).name
        with self._staging(f"delete {reference!r}") as staging, self._locked(name):
            version = self.get(reference)
            state = self._pointer(name).read()
            if state.version == version.version:
                raise ModelConflict(f"{version.reference} is production; promote another version, then delete this one")
            if state.shadow and state.shadow.version == version.version:
                raise ModelConflict(
                    f"{version.reference} shadows production; end that first: "
                    f"gatewise models promote {name} --no-shadow"
                )
            # Out of sight in one step; the files go after.
            version.path.rename(staging / "deleted")
            shutil.rmtree(self._note(name, version.version, "").parent, ignore_errors=True)
            self._point_latest(name)
        return replace(version, changed=True)

    def note(self, name: str, version: str, subject: str, fields: dict[str, Any]) -> None:
        """Keep a note on a stored version, in place of an earlier one on the same subject.

        The version's own folder is sealed: its manifest has a checksum of every file.
        """
        path = self._note(name, version, subject)
        with self._locked(name):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps(fields, indent=1))

    def noted(self, name: str, version: str, subject: str) -> dict[str, Any] | None:
        """The note on a version on a subject; None where there is none."""
        try:
            fields: dict[str, Any] = json.loads(self._note(name, version, subject).read_bytes())
        except FileNotFoundError:
            return None
        return fields

    def export(self, reference: str, url: str) -> str:
        """Write a version to a folder, an archive file or a URL (see `archive.export`); return where it is.

        What the gate said of it goes with it.
        """
        version = self.get(reference)
        gate = self._note(version.name, version.version, GATE)
        with ExitStack() as held:
            held.enter_context(_explained(f"export {version.reference}"))
            folder = version.path
            if gate.exists():
                # The version's own folder is sealed.
                beside = held.enter_context(tempfile.TemporaryDirectory(prefix="gatewise-export-"))
                folder = Path(shutil.copytree(folder, Path(beside) / "artifact"))
                shutil.copyfile(gate, folder / _GATE_FILE)
            return archive.export(folder, url, name=f"{version.name}-{version.version}")

    def import_(self, url: str, name: str | None = None) -> ModelVersion:
        """Bring in what `export` wrote, under its own version, once every checksum in its manifest has been held to it.

        Args:
            url: an artifact's folder, an archive, or the URL of one.
            name: the model's name here; its own by default.
        Returns:
            the version; `changed` is False where the store held the same one already.
        Raises:
            ArtifactError: nothing is there, or it is not a whole artifact.
        """
        if name is not None:
            check_name(name)
        with self._staging(f"import {url!r}") as staging:
            archive.fetch(url, staging / "artifact")
            artifact = _artifact_root(staging / "artifact")
            own_name, version = _origin(artifact)
            (artifact / _BENTOML_ENTRY).unlink(missing_ok=True)
            gate = _take_gate(artifact)
            _verify(artifact)
            name = name or own_name
            if name is None:
                raise InvalidConfig(f"name: {url!r} does not say what the model is called; give a name")
            check_name(name)
            stored = self._stored(name, version)
            if stored is None or not _same_manifest(stored.path, artifact):
                stored = self._publish(artifact, name, version=version if stored is None else None)
        if gate is not None and self.noted(name, stored.version, GATE) is None:
            self.note(name, stored.version, GATE, gate)
        return stored

    def _publish(self, artifact: Path, name: str, version: str | None = None) -> ModelVersion:
        manifest = _read_manifest(artifact)
        with self._locked(name):
            created_at = datetime.now(UTC)
            version = version or _new_version(created_at, manifest)
            _write_bentoml_entry(artifact, name, version, _version_time(version) or created_at, manifest)
            target = self._models / name / version
            if target.exists():
                raise ModelConflict(f"{name}:{version} was added by another process at the same moment; add it again")
            target.parent.mkdir(parents=True, exist_ok=True)
            artifact.rename(target)
            sync_folder(target.parent)
            self._point_latest(name)
        published = self._read(name, version)
        assert published is not None
        return replace(published, changed=True)

    def _versions(self, name: str) -> Iterator[ModelVersion]:
        state = self._listed_pointer(name)
        for version in _folders(self._models / name):
            try:
                entry = self._read(name, version)
            except ArtifactCorrupt as error:
                logger.warning("left out of the list: %s", error)
                continue
            if entry is not None:
                yield _marked(entry, state)

    def _listed_pointer(self, name: str) -> PointerState:
        """What the pointer says; where it is damaged, nothing: versions can be named all the same."""
        try:
            return self._pointer(name).read()
        except ModelConflict as error:
            logger.warning("%s", error)
            return PointerState()

    def _read(self, name: str, version: str) -> ModelVersion | None:
        """The entry, or None where it is a whole model of BentoML's that Gatewise did not make, or is gone."""
        path = self._models / name / version
        if not (path / MANIFEST).is_file():
            if (path / _BENTOML_ENTRY).is_file() or not path.is_dir():
                return None
            raise ArtifactCorrupt(f"{path} holds no {MANIFEST}; delete the folder")
        try:
            manifest = _read_manifest(path)
            size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
            created_at = _version_time(version) or _manifest_time(manifest, path)
        except FileNotFoundError:
            return None  # deleted while it was read
        return ModelVersion(name, version, path, created_at, size, is_production=False, manifest=manifest)

    def _stored(self, name: str, version: str | None) -> ModelVersion | None:
        return next((entry for entry in self.list(name) if entry.version == version), None)

    def _production(self, name: str) -> ModelVersion:
        wanted = self._pointer(name).read().version if _NAME.fullmatch(name) else None
        found = None
        if wanted is not None:
            with suppress(ArtifactCorrupt):
                found = self._read(name, wanted)
        if found is not None:
            return replace(found, is_production=True)
        versions = self.list(name)
        if not versions:
            raise ModelNotFound(self._unknown(name))
        if wanted is None:
            raise ModelNotFound(
                f"no version of {name!r} is in production yet; promote one: "
                f"gatewise models promote {versions[0].reference}"
            )
        raise ModelNotFound(
            f"{name}:{wanted} is production, but is damaged or no longer in {self._models}; "
            f"promote another version, such as {versions[0].reference}"
        )

    def _move(self, name: str, change: Callable[[PointerState], bool], *, mends: bool = False) -> bool:
        """Change the pointer, that of the shared store where there is one; whether it changed.

        Args:
            mends: whether a damaged one is set aside, and begun anew.
        """
        pointer = self._pointer(name)
        read = pointer.read_or_begin if mends else pointer.read
        if self._shared is not None:
            changed = self._shared.move(name, read(), change)
            self.pull(name)
            return changed
        with self._locked(name):
            state = read()
            if changed := change(state):
                pointer.write(state)
        return changed

    def _promotable(self, reference: str) -> ModelVersion:
        """A version whose every file is what was written, and which is where all that follow the pointer can get it."""
        version = self.get(reference)
        _verify(version.path)
        if self._shared:
            self._shared.push(version.path, version.name, version.version)
        return version

    def _bring(self, name: str, state: PointerState) -> None:
        """Import the versions that a pointer of the shared store names, where they are not here."""
        assert self._shared is not None
        for version in [state.version, state.shadow.version if state.shadow else None]:
            if version and not (self._models / name / version).is_dir():
                url = self._shared.archive_url(name, version)
                brought = self.import_(url, name)
                if brought.version != version:
                    raise ArtifactCorrupt(f"{url} holds {brought.reference}; delete it, and promote again")

    def _unknown(self, name: str) -> str:
        names = sorted({version.name for version in self.list()})
        if not names:
            return f"there is no model {name!r}: the store at {self.home} holds none yet; train or import one"
        near = difflib.get_close_matches(name.lower(), names, n=3) or names[:5]
        return f"there is no model {name!r} in the store at {self.home}; did you mean {' or '.join(near)}?"

    def _pointer(self, name: str) -> ProductionPointer:
        return ProductionPointer(self._state / f"{name}.json")

    def _note(self, name: str, version: str, subject: str) -> Path:
        return self._state / "notes" / name / version / f"{subject}.json"

    @contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        with _explained(f"change {name!r}"), exclusive(self._state / f"{name}.lock"):
            yield

    @contextmanager
    def _staging(self, purpose: str) -> Iterator[Path]:
        """A folder on the store's own disk, gone at the end; what a killed process left there goes with it."""
        root = self._state / "staging"
        with _explained(purpose), ExitStack() as owned:
            with exclusive(root / "lock"):
                for leftover in root.iterdir():
                    if leftover.is_dir() and not is_held(leftover / "lock"):
                        shutil.rmtree(leftover, ignore_errors=True)
                folder = root / secrets.token_hex(8)
                folder.mkdir()
                owned.enter_context(exclusive(folder / "lock"))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def _point_latest(self, name: str) -> None:
        """Keep the file in which BentoML remembers the newest version."""
        folder = self._models / name
        versions = self.list(name)
        if versions:
            replace_text(folder / _LATEST, versions[0].version)
        elif not _folders(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _marked(version: ModelVersion, state: PointerState) -> ModelVersion:
    shadow = state.shadow.version if state.shadow else None
    return replace(version, is_production=version.version == state.version, is_shadow=version.version == shadow)


def resolve(model: str, *, home: str | Path | None = None) -> tuple[Path, str | None]:
    """What a MODEL argument means: an artifact's folder and no version, or a stored version's folder and its version.

    A folder that holds a manifest wins over a model of the same name; anything with a path separator is a folder. What
    is production is asked of the shared store, where one is configured; while that is away, it is what was last known.

    Raises:
        ArtifactMissing: it is a path, and no artifact is there.
        ModelNotFound: it is a name, and the store does not hold it.
    """
    folder = Path(model).expanduser()
    if is_folder(model):
        if (folder / MANIFEST).is_file():
            return folder, None
        problem = f"holds no {MANIFEST}" if folder.is_dir() else "does not exist"
        raise ArtifactMissing(f"{model} {problem}; give an artifact's folder, or the name of a stored model")
    store = Store(home)
    name, _, wanted = model.partition(":")
    if wanted == "production":
        try:
            store.pull(name)
        except StoreUnavailable as error:
            logger.warning("%s; what was production when it was last reached is taken", error.message)
    version = store.get(model)
    return version.path, version.version


def is_folder(model: str) -> bool:
    """Whether a MODEL argument means an artifact's folder, there or not, and no stored model."""
    return (Path(model).expanduser() / MANIFEST).is_file() or os.sep in model or model in {".", "..", "~"}


def check_name(name: str) -> None:
    """Raise InvalidConfig, with a name that would do, unless BentoML's store takes `name` for a model."""
    if _NAME.fullmatch(name) and len(name) <= _MAX_NAME_LENGTH:
        return
    near = re.sub(r"[^-._a-z0-9]+", "-", name.lower()).strip("-._")[:_MAX_NAME_LENGTH].strip("-._") or "model"
    raise InvalidConfig(
        f"name: {name!r} must be at most {_MAX_NAME_LENGTH} lowercase letters, digits, '-', '_' and '.', with a letter "
        f"or digit at both ends; {near!r} would do"
    )


@contextmanager
def _explained(purpose: str) -> Iterator[None]:
    """Turn what the disk says into what the user can do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelConflict(f"cannot {purpose}: the disk is full; free some space and try again") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise ModelConflict(f"cannot {purpose}: {error.filename} cannot be written") from error
        raise


def _folders(path: Path) -> builtins.list[str]:
    try:
        return sorted(entry.name for entry in path.iterdir() if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _read_manifest(artifact: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((artifact / MANIFEST).read_bytes())
    except ValueError:
        manifest = None
    if not isinstance(manifest, dict):
        raise ArtifactCorrupt(f"{artifact / MANIFEST} is damaged; delete the version, or import it again")
    return manifest


def _take_gate(artifact: Path) -> dict[str, Any] | None:
    """What the gate said of an exported version, out of its folder; None where no gate was asked."""
    path = artifact / _GATE_FILE
    try:
        gate = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        gate = None
    if not isinstance(gate, dict):
        raise ArtifactCorrupt(f"{_GATE_FILE} is damaged; delete it, or export the model again")
    path.unlink()
    return gate


def _same_manifest(stored: Path, artifact: Path) -> bool:
    # A manifest holds the checksum of every other file.
    return (stored / MANIFEST).read_bytes() == (artifact / MANIFEST).read_bytes()


def _new_version(now: datetime, manifest: dict[str, Any]) -> str:
    return f"{now:%Y%m%dt%H%M%S}.{now.microsecond // 1000:03d}-{manifest['digest'][:8]}"


def _version_time(version: str) -> datetime | None:
    match = _VERSION_TIME.fullmatch(version)
    if match is None:
        return None
    try:
        return datetime.strptime(f"{match[1]}.{match[2]}", "%Y%m%dt%H%M%S.%f").replace(tzinfo=UTC)
    except ValueError:
        return None


def _manifest_time(manifest: dict[str, Any], path: Path) -> datetime:
    """When a version was made whose name does not say so: one that BentoML named."""
    try:
        made = datetime.fromisoformat(str(manifest.get("created_at")))
    except ValueError:
        return datetime.fromtimestamp((path / MANIFEST).stat().st_mtime, UTC)
    return made if made.tzinfo else made.replace(tzinfo=UTC)


def _artifact_root(folder: Path) -> Path:
    """`folder`, or the one folder in it where an archive was packed with its folder's name."""
    inside = sorted(folder.iterdir())
    root = inside[0] if len(inside) == 1 and inside[0].is_dir() else folder
    if not (root / MANIFEST).is_file():
        raise ArtifactCorrupt(f"holds no {MANIFEST}, so it is no artifact of Gatewise")
    # Gatewise never opens it, but BentoML would unpickle it for whoever asks a model for its custom objects.
    if (root / _BENTOML_PICKLE).exists():
        raise ArtifactCorrupt(f"holds {_BENTOML_PICKLE}, a pickle, which can run any code; it is refused")
    return root


def _origin(artifact: Path) -> tuple[str | None, str | None]:
    """The name and version that an exported artifact had, where it still says so and they are ones of ours."""
    try:
        lines = (artifact / _BENTOML_ENTRY).read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        lines = []
    entry = dict(line.split(": ", 1) for line in lines if line.startswith(("name: ", "version: ")) and ": " in line)
    name = entry.get("name", "").strip("'\"") or str(_read_manifest(artifact).get("name") or "")
    version = entry.get("version", "").strip("'\"")
    return name or None, version if _version_time(version) else None


def _verify(artifact: Path) -> None:
    from gatewise.artifact import verify

    verify(artifact)


def _write_bentoml_entry(
    artifact: Path, name: str, version: str, created_at: datetime, manifest: dict[str, Any]
) -> None:
    """Write the `model.yaml` by which BentoML knows a model.

    `bentoml.models.create` would write it too, but only into the folder that everyone sees, and it reports each save to
    BentoML's makers.
    """
    with warnings.catch_warnings():
        # BentoML 1.4 uses a deprecated spelling of another library while it is imported.
        warnings.simplefilter("ignore", DeprecationWarning)
        from bentoml import Tag
        from bentoml._internal.models.model import ModelInfo, ModelOptions
        from bentoml.models import ModelContext

    from gatewise import __version__

    model = manifest.get("model", {})
    labels = manifest.get("labels")
    info = ModelInfo(
        tag=Tag(name, version),
        module="gatewise",
        labels={word: str(model[word]) for word in ("kind", "task", "cell") if word in model},
        options=ModelOptions(),
        metadata=_plain(
            {
                "metrics": manifest.get("metrics"),
                "data": manifest.get("data"),
                "classes": len(labels) if isinstance(labels, builtins.list) else None,
                "digest": manifest.get("digest"),
            }
        ),
        context=ModelContext(framework_name="gatewise", framework_versions={"gatewise": __version__}),
        signatures={},
        api_version="v1",
        creation_time=created_at,
    )
    # Nobody sees the folder yet, so that the file may be written in place; what matters is that it reaches the disk.
    with (artifact / _BENTOML_ENTRY).open("w", encoding="utf-8") as file:
        info.dump(file)
        file.flush()
        os.fsync(file.fileno())


def _plain(value: Any) -> Any:
    """`value` without the nulls, which BentoML's metadata does not take."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items() if each is not None}
    if isinstance(value, builtins.list):
        return [_plain(each) for each in value if each is not None]
    return value
