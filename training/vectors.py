"""Read word vectors that were trained elsewhere: GloVe and fastText text, plain or .gz, and safetensors.

A file may hold millions of words; only those that the job has a use for are kept, so memory does not grow with it.

    text          a word and its numbers on each line; a first line "count dim", as fastText writes it, is passed over
    safetensors   one two-dimensional tensor (words, dim), and the words: a JSON list in the metadata under "words", or
                  a line each in a .txt file of the same name beside it

N words kept, E numbers of a vector.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from gatewise.errors import InvalidData
from training.files import failures_named, head, open_bytes, text_lines

Vector = NDArray[np.float32]

_FORMS = "Give GloVe or fastText vectors as text (.txt, .vec, plain or .gz), or safetensors"
_ZIP, _FASTTEXT_BIN, _PARQUET = b"PK\x03\x04", b"\xba\x16\x4f\x2f", b"PAR1"
# Rows of a safetensors file that are looked at together.
_BLOCK = 8_192


@dataclass(frozen=True)
class Vectors:
    """What was taken of a file.

    Attributes:
        wanted: vectors (E,) of the words that were asked for, where the file has them.
        frequent: vectors (E,) of the file's first words that were not asked for, in its order; such files begin with
            the most frequent words.
        total: words of the file.
    """

    source: str
    dim: int
    total: int
    wanted: dict[str, Vector] = field(default_factory=dict)
    frequent: dict[str, Vector] = field(default_factory=dict)


def read_vectors(
    path: str | Path,
    wanted: Iterable[str],
    *,
    frequent: int = 0,
    spelled: Callable[[str], str | None] = lambda word: word,
) -> Vectors:
    """Read the vectors of the wanted words, and of the file's most frequent other words.

    A wanted word takes the vector of its own spelling, else of its lower case, else of the first spelling that differs
    from it in capitals alone.

    Args:
        frequent: the most words to keep that were not asked for.
        spelled: a word of the file as the model's texts would have it; None where no text can have it as one token.
    Raises:
        InvalidData: the file is no such file, or a line of it is wrong.
    """
    file = open_vectors(path)
    shelf = _Shelf(wanted)
    extra: dict[str, Vector] = {}
    total = 0
    for word, vector in file.rows():
        total += 1
        is_wanted = shelf.offer(word, vector)
        if not is_wanted and len(extra) < frequent:
            name = spelled(word)
            if name is not None and name not in shelf and name not in extra:
                extra[name] = vector()
    if not total:
        raise InvalidData("holds no words", path=file.path, mend=_FORMS)
    return Vectors(str(path), file.dim, total, shelf.found(), extra)


class _Shelf:
    """The wanted words, each with the best match so far."""

    def __init__(self, wanted: Iterable[str]) -> None:
        self._found: dict[str, tuple[int, Vector | None]] = dict.fromkeys(wanted, (3, None))
        self._by_lower: dict[str, list[str]] = {}
        for word in self._found:
            self._by_lower.setdefault(word.lower(), []).append(word)

    def __contains__(self, word: str) -> bool:
        return word in self._found

    def offer(self, word: str, vector: Callable[[], Vector]) -> bool:
        """Take a word of the file for every wanted one that it serves better; return whether it serves any."""
        group = self._by_lower.get(word.lower(), ())
        for name in group:
            rank = 0 if name == word else 1 if word == name.lower() else 2
            if rank < self._found[name][0]:
                self._found[name] = (rank, vector())
        return bool(group)

    def found(self) -> dict[str, Vector]:
        """Words with a vector, in the order in which they were asked for."""
        return {word: vector for word, (_, vector) in self._found.items() if vector is not None}


# --- files

# A word, and what makes its vector: most rows of a file are passed over, and their numbers never parsed.
Row = tuple[str, Callable[[], Vector]]


@dataclass(frozen=True)
class VectorFile:
    """An open file of vectors."""

    path: Path
    dim: int
    rows: Callable[[], Iterator[Row]]


def open_vectors(path: str | Path) -> VectorFile:
    """Look at a file's beginning.

    Raises:
        InvalidData: it is no file of word vectors.
    """
    path = Path(path)
    start = head(path, 8)
    if path.name.endswith(".safetensors"):
        return _open_safetensors(path)
    if start.startswith(_ZIP):
        raise InvalidData("is a zip archive", path=path, mend="Unpack it, and give one of the files in it")
    if start.startswith(_FASTTEXT_BIN):
        raise InvalidData("is a fastText .bin model", path=path, mend="Give the .vec file that stands beside it")
    if start.startswith(_PARQUET) or b"\0" in start:
        raise InvalidData("is no file of word vectors", path=path, mend=_FORMS)
    return _open_text(path)


def _open_text(path: Path) -> VectorFile:
    lines = _lines(path)
    _, first = next(lines, (0, b""))
    has_header = _is_header(first)
    row, line = next(lines, (0, b"")) if has_header else (1, first)
    pieces = line.split()
    dim = int(first.split()[1]) if has_header else len(pieces) - 1
    if has_header and b"\0" in line:
        raise InvalidData("is a binary word2vec file", path=path, mend="Save it as text: word2vec's option -binary 0")
    if dim < 2 or not _are_numbers(pieces[-min(dim, len(pieces) - 1) :]):
        shown = ascii(line[:60].decode("utf-8", "replace").strip())
        problem = f"is no file of word vectors: a word and its numbers are expected, and there is {shown}"
        raise InvalidData(problem, path=path, row=max(row, 1), mend=_FORMS)
    return VectorFile(path, dim, lambda: _text_rows(path, dim, has_header=has_header))


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines that are not blank, with their numbers from 1."""
    with failures_named(path), open_bytes(path) as file:
        for row, line in enumerate(file, 1):
            if not line.isspace():
                yield row, line.removeprefix(b"\xef\xbb\xbf") if row == 1 else line


def _text_rows(path: Path, dim: int, *, has_header: bool) -> Iterator[Row]:
    for row, line in _lines(path):
        if has_header and row == 1:
            continue
        word, numbers = _divide(path, row, line, dim)

        def vector(row: int = row, numbers: bytes = numbers) -> Vector:
            return _parse(path, row, numbers)

        yield word.decode("utf-8", "replace"), vector


def _divide(path: Path, row: int, line: bytes, dim: int) -> tuple[bytes, bytes]:
    line = line.rstrip()
    if line.count(b" ") == dim:
        word, _, numbers = line.partition(b" ")
        return word, numbers
    # Tabs, doubled spaces, or a word that has spaces itself, as a few of GloVe's have.
    pieces = line.split()
    found = len(pieces) - 1
    if found < dim or (found > dim and _are_numbers(pieces[1:-dim])):
        problem = f"has {found} numbers where the first line has {dim}"
        raise InvalidData(problem, path=path, row=row, mend="Copy the file again; it may be cut off or mixed up")
    return b" ".join(pieces[:-dim]), b" ".join(pieces[-dim:])


def _parse(path: Path, row: int, numbers: bytes) -> Vector:
    pieces = numbers.split()
    try:
        vector = np.array(pieces, dtype=np.float32)
    except ValueError:
        wrong = next(piece for piece in pieces if not _are_numbers([piece]))
        problem = f"{wrong.decode('utf-8', 'replace')!a} is not a number"
        raise InvalidData(problem, path=path, row=row, mend="Copy the file again") from None
    return _finite(vector, path, row)


def _finite(vector: Vector, path: Path, row: int) -> Vector:
    if not np.isfinite(vector).all():
        raise InvalidData("holds a number that is not finite", path=path, row=row, mend="Leave the word out")
    return vector


def _is_header(line: bytes) -> bool:
    pieces = line.split()
    return len(pieces) == 2 and all(piece.isdigit() for piece in pieces)


def _are_numbers(pieces: list[bytes]) -> bool:
    try:
        for piece in pieces:
            float(piece)
    except ValueError:
        return False
    return bool(pieces)


# --- safetensors


def _open_safetensors(path: Path) -> VectorFile:
    name, (count, dim), metadata = _tensor(path)
    words = _words(path, metadata)
    if len(words) != count:
        problem = f"its tensor {name!r} has {count} rows, and there are {len(words)} words"
        raise InvalidData(problem, path=path, mend="Give a word for each row, in the same order")
    return VectorFile(path, dim, lambda: _tensor_rows(path, name, words))


def _tensor(path: Path) -> tuple[str, tuple[int, int], dict[str, str]]:
    try:
        with failures_named(path), safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InvalidData(f"cannot be read as safetensors ({error})", path=path, mend=_FORMS) from None
    tables = [(name, shape) for name, shape in shapes.items() if len(shape) == 2]
    if len(tables) != 1:
        shown = ", ".join(f"{name} {shape}" for name, shape in shapes.items()) or "none"
        problem = f"must hold one tensor of shape (words, dim); its tensors are {shown}"
        raise InvalidData(problem, path=path, mend="Save the vectors alone")
    name, (count, dim) = tables[0]
    return name, (count, dim), metadata


def _words(path: Path, metadata: dict[str, str]) -> list[str]:
    beside = path.with_suffix(".txt")
    if "words" in metadata:
        try:
            words = json.loads(metadata["words"])
        except json.JSONDecodeError:
            words = None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InvalidData('its metadata "words" is no JSON list of texts', path=path, mend="Save it as one")
        return words
    if not beside.is_file():
        mend = f'Save them as a JSON list in its metadata under "words", or a line each in {beside.name} beside it'
        raise InvalidData("does not say which words its rows are", path=path, mend=mend)
    return [line.rstrip("\r\n") for line in text_lines(beside, None)]


def _tensor_rows(path: Path, name: str, words: list[str]) -> Iterator[Row]:
    with failures_named(path), safe_open(path, framework="pt") as file:
        table = file.get_slice(name)
        for start in range(0, len(words), _BLOCK):
            block = table[start : start + _BLOCK].to(torch.float32).numpy()
            for place, word in enumerate(words[start : start + _BLOCK]):

                def vector(row: Vector = block[place], place: int = start + place) -> Vector:
                    # A copy: the block is not to live as long as one of its rows does.
                    return _finite(row.copy(), path, place + 1)

                yield word, vector
