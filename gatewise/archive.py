"""An artifact's folder as one file, and back: packed the same every time, unpacked as if a stranger had packed it."""

from __future__ import annotations

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from gatewise.durable import copy_folder, sync_folder
from gatewise.errors import ArtifactCorrupt, ArtifactMissing, InvalidConfig, MissingDependency, ModelConflict

# BentoML's own suffix is a tar of xz, which `bentoml models import` reads.
_TAR_FORMATS = {".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz", ".bentomodel": "xz", ".tar": ""}
SUFFIXES = (*_TAR_FORMATS, ".zip")

# Far above any artifact, far below what fills a disk: a small archive may claim to unpack to anything.
MAX_FILES = 10_000
MAX_BYTES = 8 << 30
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


def export(folder: Path, url: str, *, name: str) -> str:
    """Write `folder` to a folder path, an archive file or a URL of one, whole or not at all; return where it is.

    Args:
        url: a local path, or any URL that fsspec opens. One that ends in an archive suffix becomes that archive; a URL
            that ends in "/" gets `name` and .tar.gz appended.
    Raises:
        InvalidConfig: the target is a folder with files in it, or a remote URL without an archive suffix.
        MissingDependency: the URL's protocol needs a package that is not installed.
    """
    local = _local_path(url)
    if local is None:
        return _upload(folder, f"{url}{name}.tar.gz" if url.endswith("/") else url)
    if local.name.endswith(SUFFIXES):
        local.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=local.parent, prefix=".gatewise-export-") as beside:
            packed = pack(folder, Path(beside) / local.name)
            packed.replace(local)
    else:
        _export_folder(folder, local)
    return str(local)


def fetch(url: str, folder: Path) -> None:
    """Bring what `export` wrote into `folder`, which is made.

    Raises:
        ArtifactMissing: nothing is there.
        ArtifactCorrupt: it is no archive, or holds what an artifact must not.
        MissingDependency: the URL's protocol needs a package that is not installed.
    """
    local = _local_path(url)
    if local is None:
        with _downloaded(url, folder.parent) as archive:
            unpack(archive, folder)
    elif local.is_dir():
        copy_folder(local, folder)
    elif local.is_file():
        unpack(local, folder)
    else:
        raise ArtifactMissing(
            f"{local} does not exist; give an artifact's folder or an archive ({', '.join(SUFFIXES)})"
        )


def pack(folder: Path, archive: Path) -> Path:
    """Write the files of `folder` as the archive that the name of `archive` says; same files, same bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
            for path in files:
                _zip_file(target, path, path.relative_to(folder).as_posix())
    else:
        with _open_tar(archive) as tar:
            for path in files:
                tar.add(path, path.relative_to(folder).as_posix(), filter=_anonymous)
    with archive.open("rb+") as file:
        os.fsync(file.fileno())
    return archive


def unpack(archive: Path, folder: Path) -> None:
    """Unpack plain files and folders into `folder`, which is made; anything else in the archive is refused.

    Raises:
        ArtifactCorrupt: an absolute path, "..", a link, a device, a name twice, too many files or bytes, or no archive.
    """
    folder.mkdir()
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as source:
                _write_members(_zip_members(source), folder)
        else:
            with tarfile.open(archive, "r:*") as tar:
                _write_members(_tar_members(tar), folder)
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError) as error:
        raise ArtifactCorrupt(f"{archive.name} is not a whole archive ({error}); export the model again") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise ArtifactCorrupt(f"the archive holds one name as a file and as a folder: {error.filename}") from None


def _write_members(members: Iterator[tuple[str, int, IO[bytes] | None]], folder: Path) -> None:
    total = 0
    for count, (name, size, content) in enumerate(members, 1):
        total += size
        if count > MAX_FILES or total > MAX_BYTES:
            raise ArtifactCorrupt(f"the archive holds more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB")
        target = folder.joinpath(*_safe_parts(name))
        if content is None:
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            raise ArtifactCorrupt(f"the archive holds {name!r} twice")
        with target.open("xb") as file:
            # No further than the size that was counted above, whatever the stream goes on to give.
            shutil.copyfileobj(_Limited(content, size, name), file)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)


class _Limited:
    """Reads `content` and refuses to give more than `size` bytes."""

    def __init__(self, content: IO[bytes], size: int, name: str) -> None:
        self._content, self._left, self._name = content, size, name

    def read(self, count: int = -1, /) -> bytes:
        data = self._content.read(count)
        self._left -= len(data)
        if self._left < 0:
            raise ArtifactCorrupt(f"{self._name!r} is longer than the archive says")
        return data


def _safe_parts(name: str) -> tuple[str, ...]:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or ":" in name or "\0" in name:
        raise ArtifactCorrupt(f"the archive would write outside its folder, to {name!r}; do not trust it")
    return path.parts


def _zip_members(source: zipfile.ZipFile) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    for info in source.infolist():
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or info.flag_bits & 1:
            raise ArtifactCorrupt(f"{info.filename!r} is a link, a device or encrypted; an artifact holds plain files")
        if info.is_dir():
            yield info.filename, 0, None
        else:
            with source.open(info) as content:
                yield info.filename, info.file_size, content


def _tar_members(source: tarfile.TarFile) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    for info in source:
        if not (info.isfile() or info.isdir()):
            raise ArtifactCorrupt(f"{info.name!r} is a link or a device; an artifact holds plain files")
        yield info.name, info.size, source.extractfile(info)


def _zip_file(target: zipfile.ZipFile, path: Path, name: str) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o644) << 16
    with path.open("rb") as content, target.open(info, "w", force_zip64=True) as file:
        shutil.copyfileobj(content, file)


@contextmanager
def _open_tar(archive: Path) -> Iterator[tarfile.TarFile]:
    suffix = next((suffix for suffix in _TAR_FORMATS if archive.name.endswith(suffix)), None)
    if suffix is None:
        raise InvalidConfig(f"{archive.name!r} names no archive format; end it in one of {', '.join(SUFFIXES)}")
    compression = _TAR_FORMATS[suffix]
    with archive.open("wb") as file:
        if compression == "gz":
            # gzip writes the time of day and the file's name unless told what to write.
            with (
                gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w") as tar,
            ):
                yield tar
        elif compression == "xz":
            with tarfile.open(fileobj=file, mode="w:xz") as tar:
                yield tar
        else:
            with tarfile.open(fileobj=file, mode="w") as tar:
                yield tar


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    info.mtime = 0
    info.mode = 0o644
    return info


def _export_folder(folder: Path, target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise InvalidConfig(f"{target} exists already; give an empty or new folder, or a name ending in .tar.gz")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".gatewise-export-") as beside:
        copy_folder(folder, Path(beside) / target.name)
        (Path(beside) / target.name).replace(target)


def _local_path(url: str) -> Path | None:
    if url.startswith(("file://", "local://")):
        return Path(url.partition("://")[2])
    return None if "://" in url or "::" in url else Path(url).expanduser()


def filesystem(url: str) -> tuple[Any, str]:
    """What opens a URL, and the path there.

    Raises:
        InvalidConfig: there is no such protocol.
        MissingDependency: it needs a package that is not installed.
    """
    import fsspec

    try:
        files, path = fsspec.url_to_fs(url)
    except ImportError as error:
        raise MissingDependency(f"{url} cannot be opened: {error}") from None
    except ValueError as error:
        raise InvalidConfig(f"url: {url!r} cannot be opened: {error}") from None
    return files, path


def _upload(folder: Path, url: str) -> str:
    if not url.endswith(SUFFIXES):
        raise InvalidConfig(f"url: {url!r} must end in one of {', '.join(SUFFIXES)}, or in '/' for a name of ours")
    files, path = filesystem(url)
    with tempfile.TemporaryDirectory(prefix="gatewise-export-") as temporary:
        packed = pack(folder, Path(temporary) / url.rpartition("/")[2])
        try:
            files.put_file(str(packed), path)
        except PermissionError as error:
            raise ModelConflict(f"{url} cannot be written: {error}") from None
    return url


@contextmanager
def _downloaded(url: str, beside: Path) -> Iterator[Path]:
    files, path = filesystem(url)
    with tempfile.TemporaryDirectory(dir=beside, prefix="download-") as temporary:
        archive = Path(temporary) / url.rpartition("/")[2]
        try:
            files.get_file(path, str(archive))
        except FileNotFoundError:
            raise ArtifactMissing(f"{url} does not exist") from None
        except PermissionError as error:
            raise ModelConflict(f"{url} cannot be read: {error}") from None
        yield archive
