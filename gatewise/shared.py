"""A store that many machines share, on any URL that fsspec opens: s3://, gs://, file://.

    URL/NAME/VERSION.tar.gz         a version, written once
    URL/NAME/moves/00000042.json    the pointer after its 42nd move; the highest number is what holds

No file is ever written over, and of two publishers who make the same move's file one fails and moves again from what
the other left: nothing can be lost or half there, without a lock. S3 and Google's storage make a new file or refuse in
one step; where a protocol cannot, only one publisher may move a model's pointer at a time.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gatewise import archive
from gatewise.durable import sync_folder
from gatewise.errors import ArtifactCorrupt, GatewiseError, InvalidConfig, StoreUnavailable
from gatewise.production import PointerState

_MOVE = re.compile(r"(\d{8})\.json")
_MOST_ATTEMPTS = 100


class SharedStore:
    """The shared store at a URL.

    Raises (each of its methods):
        StoreUnavailable: it cannot be reached, or not be written.
        MissingDependency: the URL's protocol needs a package that is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        if "://" not in self.url:
            raise InvalidConfig(f"GATEWISE_STORE: {url!r} is no URL; a folder is file:///an/absolute/path")

    def archive_url(self, name: str, version: str) -> str:
        """Where a version is, or would be."""
        return f"{self.url}/{name}/{version}.tar.gz"

    def has(self, name: str, version: str) -> bool:
        """Whether it holds a version."""
        with self._reached() as (files, root):
            files.invalidate_cache()
            return bool(files.exists(f"{root}/{name}/{version}.tar.gz"))

    def push(self, folder: Path, name: str, version: str) -> None:
        """Write a version, where it is not there yet; another who writes the same one writes the same bytes."""
        if not self.has(name, version):
            with self._reached():
                archive.export(folder, self.archive_url(name, version), name=version)

    def read(self, name: str) -> PointerState | None:
        """What the pointer says; None before its first move.

        Raises:
            ArtifactCorrupt: its last move is damaged.
        """
        with self._reached() as (files, root):
            number = self._newest(files, f"{root}/{name}/moves")
            return self._read(files, f"{root}/{name}/moves", number) if number else None

    def move(self, name: str, begin: PointerState, change: Callable[[PointerState], bool]) -> bool:
        """Change the pointer; whether it changed.

        Args:
            begin: what it says before its first move.
            change: called again with what another publisher left, where that one was first.
        """
        with self._reached() as (files, root):
            folder = f"{root}/{name}/moves"
            for _ in range(_MOST_ATTEMPTS):
                number = self._newest(files, folder)
                state = self._read(files, folder, number) if number else begin.model_copy(deep=True)
                if not change(state):
                    return False
                try:
                    _create(files, f"{folder}/{number + 1:08d}.json", state.to_json().encode())
                except FileExistsError:
                    continue
                return True
        raise StoreUnavailable(f"others move {name!r} in {self.url} without a pause; try again")

    @staticmethod
    def _newest(files: Any, folder: str) -> int:
        files.invalidate_cache()
        try:
            names = files.ls(folder, detail=False)
        except FileNotFoundError:
            return 0
        found = (_MOVE.fullmatch(name.rpartition("/")[2]) for name in names)
        return max((int(match[1]) for match in found if match), default=0)

    @staticmethod
    def _read(files: Any, folder: str, number: int) -> PointerState:
        path = f"{folder}/{number:08d}.json"
        try:
            return PointerState.model_validate_json(files.cat_file(path))
        except ValidationError:
            raise ArtifactCorrupt(f"{path} is damaged; delete it, and promote again") from None

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """The file system and the path of the URL on it; whatever its library raises is said in one way."""
        try:
            yield archive.filesystem(self.url)
        except GatewiseError:
            raise
        except Exception as error:  # each protocol's library has a tree of its own
            raise StoreUnavailable(f"GATEWISE_STORE: {self.url} cannot be used now: {error!r}") from error


def _create(files: Any, path: str, data: bytes) -> None:
    """Write a file that is not there; raise FileExistsError where it is."""
    if "file" not in files.protocol:
        files.pipe_file(path, data, mode="create")
        return
    # fsspec looks first and writes then; a link is made or refused in one step, with all of its bytes.
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(target.parent)
