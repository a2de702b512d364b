"""From a path to bytes and lines, and from a folder to its files; every failure names the file and the mend."""

from __future__ import annotations

import codecs
import difflib
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, cast

from gatewise.errors import InvalidData

Format = Literal["csv", "tsv", "json", "jsonl", "parquet", "ts", "npz"]
Role = Literal["train", "valid", "test"]

EXTENSIONS: dict[str, Format] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".ts": "ts",
    ".npz": "npz",
}
READABLE = "Give CSV, TSV, JSONL, JSON, Parquet, .ts or .npz, plain or .gz"
_GZIP, _ZIP, _PARQUET = b"\x1f\x8b", b"PK\x03\x04", b"PAR1"
_ROLES: dict[str, Role] = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}


def require_file(path: Path) -> None:
    """Raise InvalidData, with the nearest names there are, unless `path` is a file."""
    if path.is_dir():
        raise InvalidData("is a folder where a file is needed", path=path, mend="Give the path of one file in it")
    if path.is_file():
        return
    if not path.parent.is_dir():
        raise InvalidData(f"there is no folder {path.parent}", path=path, mend="Check the path")
    names = [entry.name for entry in path.parent.iterdir()]
    near = difflib.get_close_matches(path.name, names, n=3, cutoff=0.4)
    mend = f"Near it there is {', '.join(near)}" if near else "Check the path"
    raise InvalidData("there is no such file", path=path, mend=mend)


@contextmanager
def failures_named(path: Path) -> Iterator[None]:
    """Turn the errors of the disk and of gzip into InvalidData."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InvalidData(f"the gzip stream is cut off or damaged ({error})", path=path, mend="Copy it again") from None
    except OSError as error:
        raise InvalidData(f"cannot be read ({error.strerror or error})", path=path) from None


def head(path: Path, size: int = 65536) -> bytes:
    """Return the first bytes of the file's content, decompressed."""
    with failures_named(path), open_bytes(path) as file:
        return file.read(size)


def open_bytes(path: Path) -> BinaryIO:
    """Open the file's content, decompressing gzip by what the bytes are and not by the name."""
    require_file(path)
    with failures_named(path), path.open("rb") as file:
        start = file.read(2)
    if start == _GZIP:
        return cast(BinaryIO, gzip.open(path, "rb"))
    if path.suffix.lower() == ".gz" and start:
        raise InvalidData("is named .gz and is not gzip", path=path, mend="Take .gz off its name, or compress it")
    return path.open("rb")


def find_format(path: Path) -> Format:
    """Decide how the file is written: by its extension, else by its content."""
    require_file(path)
    found = EXTENSIONS.get(extension(path))
    if found is None:
        found = _format_of_content(head(path))
    if found is None:
        raise InvalidData("is in no format that is read here", path=path, mend=READABLE)
    return found


def extension(path: Path) -> str:
    """Return the lower-case extension beneath any .gz."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def _format_of_content(start: bytes) -> Format | None:
    if start.startswith(_PARQUET):
        return "parquet"
    if start.startswith(_ZIP):
        return "npz" if b".npy" in start[:200] else None
    text = start.decode("utf-16" if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig", "replace")
    if "\0" in text:
        return None
    text = text.lstrip()
    if text[:1] in ("{", "["):
        return "json"
    if re.search(r"^@(problemname|classlabel|data|timestamps|univariate)\b", text, re.IGNORECASE | re.MULTILINE):
        return "ts"
    line = text.split("\n", 1)[0]
    return "tsv" if "\t" in line else "csv" if "," in line else None


def text_lines(path: Path, encoding: str | None, *, is_tolerant: bool = False) -> Iterator[str]:
    """Yield the file's lines with their ends, decoded.

    Args:
        encoding: None for UTF-8, or UTF-16 where a byte order mark says so.
        is_tolerant: let undecodable bytes through as lone surrogates, for formats whose comments nobody checks.
    Raises:
        InvalidData: bytes that the encoding does not know, NUL characters, a damaged file; with the line.
    """
    start = head(path, 4)
    if start.startswith(_ZIP):
        raise InvalidData("is a zip archive or a spreadsheet, not text", path=path, mend="Save it as CSV in UTF-8")
    name = _encoding_of(start, encoding)
    errors = "surrogateescape" if is_tolerant and name == "utf-8-sig" else "strict"
    row = 0
    with failures_named(path), io.TextIOWrapper(open_bytes(path), name, errors=errors, newline="") as file:
        try:
            for row, line in enumerate(file, 1):
                if "\0" in line:
                    raise _nul(path, row)
                yield line
        except UnicodeDecodeError:
            raise _undecodable(path, name) from None


def _encoding_of(start: bytes, encoding: str | None) -> str:
    if encoding is None and start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    return "utf-8-sig" if encoding is None or codecs.lookup(encoding).name == "utf-8" else encoding


def _nul(path: Path, row: int) -> InvalidData:
    mend = "Save the file as UTF-8 text; if it is UTF-16 without its mark, give --encoding utf-16-le"
    return InvalidData("holds a NUL character", path=path, row=row, mend=mend)


def _undecodable(path: Path, encoding: str) -> InvalidData:
    """Find the first bytes that `encoding` does not know; only a file that failed is read a second time."""
    decoder = codecs.getincrementaldecoder(encoding)()
    row, mend = 1, "Save the file as UTF-8, or give its encoding, such as --encoding cp1252 or --encoding latin-1"
    with open_bytes(path) as file:
        for line in file:
            try:
                row += decoder.decode(line).count("\n")
            except UnicodeDecodeError as error:
                byte, place = error.object[error.start], error.start + 1
                called = "UTF-8" if encoding == "utf-8-sig" else encoding
                problem = f"byte 0x{byte:02x}, byte {place} of the line, is not {called}"
                return InvalidData(problem, path=path, row=row, mend=mend)
    return InvalidData(f"ends inside a character of {encoding}", path=path, row=row, mend=mend)


@dataclass(frozen=True)
class Files:
    """The files of one data set; None where a folder has no such file or a single file was given."""

    train: Path
    valid: Path | None
    test: Path | None


def find_files(data: str | Path, *, valid: str | Path | None, test: str | Path | None) -> Files:
    """Return the files that `data`, a file or a folder, stands for; `valid` and `test` win over what a folder holds."""
    path = Path(data)
    given_valid, given_test = (Path(p) if p is not None else None for p in (valid, test))
    for file in (given_valid, given_test):
        if file is not None:
            require_file(file)
    if not path.is_dir():
        require_file(path)
        return Files(path, given_valid, given_test)
    roles = _roles(path)
    train = _only(path, roles["train"], "Give one of them as the data instead of the folder")
    if train is None:
        names = ", ".join(sorted(entry.name for entry in path.iterdir())[:12])
        mend = "Name the training file train.csv (or .tsv, .jsonl, .parquet, .ts, .npz), or give the file itself"
        problem = f"the folder holds no training file, only {names}" if names else "the folder is empty"
        raise InvalidData(problem, path=path, mend=mend)
    return Files(
        train,
        given_valid or _only(path, roles["valid"], "Say which with --valid"),
        given_test or _only(path, roles["test"], "Say which with --test"),
    )


def _roles(folder: Path) -> dict[Role, list[Path]]:
    roles: dict[Role, list[Path]] = {"train": [], "valid": [], "test": []}
    readable = [
        file for file in sorted(folder.iterdir()) if file.is_file() and extension(file) in {*EXTENSIONS, ".txt"}
    ]
    for file in readable:
        words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+", file.name.split(".")[0])
        found = {_ROLES[word.lower()] for word in words if word.lower() in _ROLES}
        if len(found) == 1:
            roles[found.pop()].append(file)
    if len(readable) == 1 and not any(roles.values()):
        roles["train"] = readable
    return roles


def _only(folder: Path, files: list[Path], mend: str) -> Path | None:
    if len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise InvalidData(f"several files of the folder could be meant: {names}", path=folder, mend=mend)
    return files[0] if files else None
