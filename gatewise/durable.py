"""Files that are whole after a crash and right with two writers.

A lock lasts as long as the process that holds it, so that a killed writer never blocks the next.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gatewise.errors import ArtifactCorrupt, ModelConflict


@contextmanager
def exclusive(path: Path, *, timeout_seconds: float = 30.0) -> Iterator[None]:
    """Hold the lock file at `path`, which stays: deleting it would let two writers lock two files of one name.

    Raises:
        ModelConflict: another process holds it for longer than `timeout_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + timeout_seconds
    with path.open("a") as file:
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise ModelConflict(
                    f"another process has held {path} for {timeout_seconds:g} s; try again when it ends"
                )
            time.sleep(0.005)
        yield


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock file at `path`."""
    try:
        with path.open("r") as file:
            return not _try_lock(file.fileno())
    except FileNotFoundError:
        return False


def replace_text(path: Path, text: str) -> None:
    """Make `text` the whole content of `path` at once; a reader sees the old text or the new. One writer at a time."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def copy_folder(source: Path, target: Path) -> None:
    """Copy a folder of plain files; on return they are on the disk, not only in its cache.

    Raises:
        ArtifactCorrupt: the folder holds a link or something else that is not a plain file.
    """
    target.mkdir()
    for entry in sorted(source.iterdir()):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise ArtifactCorrupt(f"{entry} is not a plain file; an artifact holds plain files and folders only")
        if entry.is_dir():
            copy_folder(entry, target / entry.name)
        else:
            shutil.copyfile(entry, target / entry.name)
            _sync(target / entry.name, os.O_RDWR)
    sync_folder(target)


def sync_folder(path: Path) -> None:
    """Put a folder's list of names on the disk: a rename is not durable before that."""
    _sync(path, os.O_RDONLY | os.O_DIRECTORY)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
