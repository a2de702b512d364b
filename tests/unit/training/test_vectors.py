"""Files of word vectors, written here number by number, and what is said of wrong ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from gatewise.errors import InvalidData
from training.vectors import Vectors, open_vectors, read_vectors

WORDS = {"the": [1.0, -2.0, 0.5], "cat": [0.25, 0.0, 3.0], "Paris": [-1.0, 1.0, 1e-3], "paris": [9.0, 9.0, 9.0]}


def lines(words: dict[str, list[float]] = WORDS, separator: str = " ", end: str = "\n") -> str:
    return "".join(separator.join([word, *map(str, vector)]) + end for word, vector in words.items())


def write(path: Path, content: str | bytes) -> Path:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_safetensors(path: Path, metadata: dict[str, str] | None = None, **tensors: Any) -> Path:
    save_file({name: torch.tensor(value) for name, value in tensors.items()}, path, metadata)
    return path


def as_lists(vectors: dict[str, Any]) -> dict[str, list[float]]:
    return {word: [round(float(x), 6) for x in vector] for word, vector in vectors.items()}


FORMS: dict[str, Any] = {
    "glove": lambda folder: write(folder / "v.txt", lines()),
    "glove, gzipped": lambda folder: write(folder / "v.txt.gz", lines()),
    "fasttext": lambda folder: write(folder / "v.vec", f"{len(WORDS)} 3\n{lines(end=' ' + chr(10))}"),
    "fasttext, gzipped": lambda folder: write(folder / "v.vec.gz", f"{len(WORDS)} 3\n{lines()}"),
    "lines end as on Windows": lambda folder: write(folder / "v.txt", lines(end="\r\n")),
    "tabs": lambda folder: write(folder / "v.tsv", lines(separator="\t")),
    "byte order mark and blank lines": lambda folder: write(folder / "v.txt", f"\ufeff{lines()}\n\n"),
    "safetensors with metadata": lambda folder: write_safetensors(
        folder / "v.safetensors", {"words": json.dumps(list(WORDS))}, embedding=list(WORDS.values())
    ),
    "safetensors beside a list": lambda folder: (
        write(folder / "v.txt", "\n".join(WORDS) + "\n"),
        write_safetensors(folder / "v.safetensors", vectors=list(WORDS.values()), counts=[1, 2]),
    )[1],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_vectors_that_were_written(tmp_path: Path, form: str) -> None:
    path = FORMS[form](tmp_path)
    found = read_vectors(path, ["cat", "dog", "Paris"], frequent=1)
    assert as_lists(found.wanted) == {"cat": WORDS["cat"], "Paris": WORDS["Paris"]}
    assert as_lists(found.frequent) == {"the": WORDS["the"]}
    assert (found.dim, found.total, found.source) == (3, 4, str(path))
    assert {vector.dtype for vector in found.wanted.values()} == {np.dtype(np.float32)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_safetensors_of_other_precisions_are_read_as_float32(tmp_path: Path, dtype: torch.dtype) -> None:
    table = torch.tensor([[1.0, 2.0], [0.5, -4.0]], dtype=dtype)
    save_file({"table": table}, tmp_path / "v.safetensors", {"words": '["a", "b"]'})
    assert as_lists(read_vectors(tmp_path / "v.safetensors", ["b"]).wanted) == {"b": [0.5, -4.0]}


def test_a_word_takes_its_own_spelling_then_its_lower_case_then_other_capitals(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", lines({"USA": [1, 0], "Usa": [2, 0], "usa": [3, 0], "us": [4, 0], "US": [5, 0]}))
    asked = ["USA", "uSA", "us", "Us"]
    assert as_lists(read_vectors(path, asked).wanted) == {"USA": [1, 0], "uSA": [3, 0], "us": [4, 0], "Us": [4, 0]}
    capitals_alone = write(tmp_path / "c.txt", lines({"OSLO": [1, 0], "Oslo": [2, 0]}))
    assert as_lists(read_vectors(capitals_alone, ["oslo"]).wanted) == {"oslo": [1, 0]}


def test_of_a_word_that_stands_twice_the_first_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", "a 1 2\nb 3 4\na 5 6\n")
    assert as_lists(read_vectors(path, ["a"]).wanted) == {"a": [1, 2]}


def test_words_may_hold_spaces_and_be_numbers(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", "the 1 2 3\n. . . 4 5 6\n2000 7 8 9\nat name@domain.com 1 1 1\n")
    found = read_vectors(path, [". . .", "2000", "at name@domain.com"])
    assert as_lists(found.wanted) == {". . .": [4, 5, 6], "2000": [7, 8, 9], "at name@domain.com": [1, 1, 1]}


def test_the_most_frequent_words_are_the_first_that_a_text_can_have(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", lines({"The": [1, 0], "n't": [2, 0], "of": [3, 0], "the": [4, 0], "to": [5, 0]}))

    def spelled(word: str) -> str | None:
        return word.lower() if word.isalpha() else None

    found = read_vectors(path, ["to"], frequent=2, spelled=spelled)
    assert as_lists(found.frequent) == {"the": [1, 0], "of": [3, 0]}
    assert read_vectors(path, ["to"], frequent=0).frequent == {}


def test_numbers_of_words_that_nobody_wants_are_never_parsed(tmp_path: Path) -> None:
    path = write(tmp_path / "v.txt", "a 1 2\nb ? ?\n")
    assert list(read_vectors(path, ["a"]).wanted) == ["a"]


def read_all(path: Path) -> Vectors:
    return read_vectors(path, ["the", "cat"], frequent=10)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("the 1 2 3\ncat 1 2\n", "row 2: has 2 numbers where the first line has 3"),
        ("the 1 2 3\ndog 1 2 3\n\ncat 1 2 3 4\n", "row 4: has 4 numbers where the first line has 3"),
        ("2 3\nthe 1 2 3\ncat 1 2 3 4\n", "row 3: has 4 numbers"),
        ("the 1 2 3\ncat 1 x 3\n", "row 2: 'x' is not a number"),
        ("the 1 2 3\ncat 1 nan 3\n", "row 2: holds a number that is not finite"),
        ("text,label\nhello,yes\n", "row 1: is no file of word vectors: a word and its numbers are expected"),
        ("the cat sat\non the mat\n", "there is 'the cat sat'"),
        ('{"the": [1, 2]}', "is no file of word vectors"),
        ("", "is no file of word vectors"),
        ("5 300\n", "is no file of word vectors"),
        (b"PK\x03\x04rest", "is a zip archive. Unpack it"),
        (b"\xba\x16\x4f\x2f rest", "is a fastText .bin model. Give the .vec file"),
        (b"2 3\nthe \x00\x00\x80?\x00\x00\x00\x00\n", "is a binary word2vec file. Save it as text"),
        (b"PAR1....", "is no file of word vectors. Give GloVe or fastText vectors"),
    ],
)
def test_a_wrong_file_is_named_with_its_line_and_the_mend(tmp_path: Path, content: Any, told: str) -> None:
    path = write(tmp_path / "v.txt", content)
    with pytest.raises(InvalidData) as error:
        read_all(path)
    assert error.value.message.startswith(str(path))
    assert told in error.value.message


def test_a_file_that_is_cut_off_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(lines({f"w{i}": [i, i / 7] for i in range(3000)}).encode())
    path = tmp_path / "v.txt.gz"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidData, match="the gzip stream is cut off or damaged"):
        read_all(path)
    with pytest.raises(InvalidData, match="there is no such file"):
        read_all(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("tensors", "metadata", "told"),
    [
        ({"a": [[1.0, 2.0]]}, {}, "does not say which words its rows are"),
        ({"a": [[1.0, 2.0]]}, {"words": '["a", "b"]'}, "its tensor 'a' has 1 rows, and there are 2 words"),
        ({"a": [[1.0, 2.0]]}, {"words": "a b"}, 'its metadata "words" is no JSON list'),
        ({"a": [1.0, 2.0]}, {"words": '["a"]'}, "its tensors are a (2,)"),
        ({"a": [[1.0]], "b": [[2.0]]}, {"words": '["a"]'}, "must hold one tensor of shape (words, dim)"),
        ({"a": [[1.0, float("inf")]]}, {"words": '["the"]'}, "row 1: holds a number that is not finite"),
    ],
)
def test_safetensors_that_are_no_vectors_are_named(tmp_path: Path, tensors: Any, metadata: Any, told: str) -> None:
    path = write_safetensors(tmp_path / "v.safetensors", metadata, **tensors)
    with pytest.raises(InvalidData) as error:
        read_all(path)
    assert told in error.value.message


def test_a_file_that_only_calls_itself_safetensors_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "v.safetensors", lines())
    with pytest.raises(InvalidData, match="cannot be read as safetensors"):
        open_vectors(path)
