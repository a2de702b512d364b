"""Whatever is wrong with a file is named by file, row and column, with a mend."""

from __future__ import annotations

import contextlib
import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gatewise.errors import InvalidData
from training.readers import ReadOptions, read

STEP = ReadOptions(task="step")
LONG = ReadOptions(group_by="g", order_by="t")
TS = "@univariate true\n@classLabel true a b\n@data\n"

# name, content, options, row, column, a part of the message
BROKEN: list[tuple[str, str | bytes, ReadOptions, int | None, str | int | None, str]] = [
    ("a.csv", "", ReadOptions(), None, None, "is empty"),
    ("a.csv", "\n \n", ReadOptions(), None, None, "is empty"),
    ("a.csv", "text,label\n", ReadOptions(), None, None, "no rows"),
    ("a.jsonl", "\n", ReadOptions(), None, None, "is empty"),
    ("a.json", "[]", ReadOptions(), None, None, "is empty"),
    ("a.parquet", b"", ReadOptions(), None, None, "is empty"),
    ("a.npz", b"", ReadOptions(), None, None, "is empty"),
    ("a.ts", TS, ReadOptions(), None, None, "no series"),
    (
        "a.csv",
        "text,label\na,x\ncafé,y\n".encode("latin-1"),
        ReadOptions(),
        3,
        None,
        "0xe9, byte 4 of the line, is not UTF-8",
    ),
    ("a.csv", "text,label\na,x\n".encode("utf-16-le"), ReadOptions(), 1, None, "--encoding utf-16-le"),
    ("a.csv", "text,label\na\0b,x\n", ReadOptions(), 2, None, "NUL"),
    ("a.csv", b"PK\x03\x04 spreadsheet", ReadOptions(), None, None, "spreadsheet"),
    ("a.csv", "text,label\na,x\nb, c,y\n", ReadOptions(), 3, None, "3 cells where the header has 2"),
    ("a.csv", 'text,label\na,x\n"b,y\nc,x\n', ReadOptions(), 3, None, "never closes"),
    ("a.csv", 'text,label\n"a "b" c",x\n', ReadOptions(), 2, None, "inside a quoted cell"),
    ("a.csv", 'text,label\n"a,x\n"b",y\n', ReadOptions(), 2, None, "runs on to line 3"),
    ("a.csv", "text,text\na,x\n", ReadOptions(), 1, "text", "stands twice"),
    ("a.csv", "text,label\na,x\nb,\n", ReadOptions(), 3, "label", "label is empty"),
    ("a.csv", "text,label\n" + f"a,{'x' * 201}\n", ReadOptions(), 2, "label", "swapped"),
    ("a.csv", "a,b,c\n1,2,x\n", ReadOptions(), None, None, "a (number), b (number), c (text)"),
    ("a.csv", "text,label\na,x\n", ReadOptions(label="y"), None, None, "there is no column 'y'"),
    ("a.csv", "ham,hello you\nham,how are you\nspam,win\n", ReadOptions(), None, None, "looks like data"),
    ("a.csv", "text,label\na b,x\n", ReadOptions(kind="series", sequence="text"), 2, "text", "null"),
    ("a.csv", 'x,y\n"[1,2]",a\n"[1,""2""]",b\n', ReadOptions(), 3, "x", "step 1 expected a number, got a string"),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "a"\n', ReadOptions(), 2, None, "is not JSON"),
    ("a.jsonl", '{"text": "a", "label": 1}\n\n{"text": "a"}\n', ReadOptions(), 3, "label", "no key 'label'"),
    ("a.jsonl", '{"text": "a", "label": 1}\n[1]\n', ReadOptions(), 2, None, "not an object"),
    (
        "a.jsonl",
        '{"text": "a", "label": 1}\n{"text": null, "label": 1}\n',
        ReadOptions(),
        2,
        "text",
        "expected a string",
    ),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "label": null}\n', ReadOptions(), 2, "label", "missing"),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "\\ud800", "label": 1}\n', ReadOptions(), 2, "text", "surrogate"),
    ("a.jsonl", '{"x": [1], "y": 1}\n{"x": [], "y": 1}\n', ReadOptions(), 2, "x", "no timesteps"),
    (
        "a.jsonl",
        '{"x": [[1,2]], "y": 1}\n{"x": [[1,2],[3]], "y": 1}\n',
        ReadOptions(),
        2,
        "x",
        "expected 2 channels, got 1",
    ),
    ("a.jsonl", '{"x": [1,2], "y": 1}\n{"x": [1,Infinity], "y": 1}\n', ReadOptions(), 2, "x", "step 1 is infinite"),
    ("a.jsonl", '{"x": [1,2], "y": 1}\n{"x": [1e39], "y": 1}\n', ReadOptions(), 2, "x", "32-bit"),
    ("a.jsonl", '{"x": [1,2], "y": 1}\n{"x": [true], "y": 1}\n', ReadOptions(), 2, "x", "boolean"),
    (
        "a.jsonl",
        '{"tokens": ["a"], "tags": ["X"]}\n{"tokens": ["a","b"], "tags": ["X"]}\n',
        STEP,
        2,
        "tags",
        "1 labels for 2",
    ),
    ("a.jsonl", '{"tokens": ["a"], "tags": ["X"]}\n{"tokens": [], "tags": []}\n', STEP, 2, "tokens", "no tokens"),
    (
        "a.jsonl",
        '{"tokens": ["a"], "tags": ["X"]}\n{"tokens": ["a"], "tags": [""]}\n',
        STEP,
        2,
        "tags",
        "label is empty",
    ),
    (
        "a.jsonl",
        '{"x": [1,2], "y": [1,2]}\n{"x": [1,2], "y": [1]}\n',
        ReadOptions(),
        2,
        "y",
        "1 labels for 2 timesteps",
    ),
    ("a.json", '[{"text": "a", "label": 1}, {"text": "b"}]', ReadOptions(), 2, "label", "no key"),
    ("a.csv", "g,t,v,y\n1,1,5,a\n1,2,oops,a\n", LONG, None, None, "no column of numbers"),
    ("a.csv", "g,t,v,y\n1,1,5,a\n1,2,inf,a\n", LONG, 3, "v", "infinite"),
    ("a.csv", "g,t,v,y\n1,1,5,a\n,2,5,a\n", LONG, 3, "g", "is empty"),
    ("a.csv", "g,t,v,y\n1,1,5,a\n1,,5,a\n", LONG, 3, "t", "is empty"),
    ("a.csv", "g,t,v,y\n1,2/11/2015 9:00,5,a\n1,3/1/2015 9:00,5,a\n", LONG, 2, "t", "not a time"),
    ("a.csv", "g,t,v,y\n1,2015-01-01,5,a\n1,later,5,a\n", LONG, 3, "t", "not a time"),
    ("a.csv", "g,t,v,y\n1,1,5,a\n1,2,5,b\n", LONG.model_copy(update={"task": "sequence"}), 2, "y", "label changes"),
    ("a.ts", "@univariate true\n1,2:a\n", ReadOptions(), 2, None, "no @data"),
    ("a.ts", "@timeStamps true\n@data\n", ReadOptions(), 1, None, "timestamps"),
    ("a.ts", TS + "1,2:a\n1,2:c\n", ReadOptions(), 5, None, "'c' is not one"),
    ("a.ts", TS + "1,2:3,4:a\n", ReadOptions(), 4, None, "2 channels where 1"),
    ("a.ts", TS.replace("@univariate true", "@dimensions 2") + "1,2:3:a\n", ReadOptions(), 4, 1, "1 readings where"),
    ("a.ts", TS + "1,two:a\n", ReadOptions(), 4, 0, "'two' is not a number"),
    ("a.ts", TS + "1,inf:a\n", ReadOptions(), 4, "series", "infinite"),
    ("a.ts", TS + ":a\n", ReadOptions(), 4, "series", "no timesteps"),
    ("a.ts", TS + "1:?\n", ReadOptions(), 4, "label", "label is empty"),
    ("a.ts", TS.encode() + b"1,2:\xff\n", ReadOptions(), 4, "label", "lone surrogate"),
    ("a.ts", TS.replace(" a b", " " + "a" * 300), ReadOptions(), 2, "label", "300 characters"),
    ("a.parquet", b"PAR1 and then nothing", ReadOptions(), None, None, "not a whole Parquet"),
    ("a.npz", b"PK\x03\x04 and then nothing", ReadOptions(), None, None, "not a .npz"),
    ("a.npz", b"hello", ReadOptions(), None, None, "not a .npz file"),
    ("a.xlsx", b"\x01\x02", ReadOptions(), None, None, "no format"),
]


@pytest.mark.parametrize(("name", "content", "options", "row", "column", "part"), BROKEN)
def test_what_is_wrong_is_named_with_its_place_and_a_mend(
    tmp_path: Path,
    name: str,
    content: str | bytes,
    options: ReadOptions,
    row: int | None,
    column: str | int | None,
    part: str,
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InvalidData) as caught:
        read(path, options)
    error = caught.value
    assert part in error.message
    assert (error.row, error.column) == (row, column)
    assert str(path) in error.message
    if "is empty" not in part:
        assert error.mend or "no rows" in part


def test_a_number_of_channels_that_changes_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", X=np.zeros((2, 3)), y=np.zeros(3))
    with pytest.raises(InvalidData, match="X has 2, y has 3"):
        read(tmp_path / "a.npz")


def test_pickled_arrays_are_never_loaded(tmp_path: Path) -> None:
    ragged = np.empty(2, dtype=object)
    ragged[:] = [[1], [2, 3]]
    np.savez(tmp_path / "a.npz", X=ragged, y=np.zeros(2))
    with pytest.raises(InvalidData, match=r"never loaded.*values and lengths") as refused:
        read(tmp_path / "a.npz")
    assert "allow_pickle" not in str(refused.value)


WHOLE = {
    "a.csv": b'text,label\nhello,a\n"x, y",b\n',
    "a.tsv": b'text\tlabel\nhello\ta\n"x\ty"\tb\n',
    "a.jsonl": b'{"x": [[1, 2], [null, 3.5]], "y": 1}\n{"x": [[4, 5]], "y": 2}\n',
    "a.json": b'[{"tokens": ["a", "b"], "tags": ["X", "Y"]}]',
    "a.ts": b"@univariate false\n@dimensions 2\n@classLabel true a b\n@data\n1,2:3,4:a\n5:6:b\n",
}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 80), st.integers(0, 3), st.binary(max_size=3))
def test_a_damaged_file_is_read_or_refused_in_words(tmp_path: Path, name: str, at: int, cut: int, put: bytes) -> None:
    whole = WHOLE[name]
    path = tmp_path / name
    path.write_bytes(whole[:at] + put + whole[at + cut :])
    with contextlib.suppress(InvalidData):
        assert len(read(path)) >= 1


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"text,label\n" + bytes(np.random.default_rng(0).integers(97, 120, 9000, dtype=np.uint8)))
    path = tmp_path / "a.csv.gz"
    path.write_bytes(whole[:-2000])
    with pytest.raises(InvalidData, match="cut off or damaged"):
        read(path)


def test_a_name_that_says_gzip_wrongly_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv.gz").write_text("text,label\na,b\n")
    with pytest.raises(InvalidData, match="is not gzip"):
        read(tmp_path / "a.csv.gz")


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text("text,label\na,b\n")
    with pytest.raises(InvalidData, match=r"Near it there is questions\.csv"):
        read(tmp_path / "question.csv")
    with pytest.raises(InvalidData, match="there is no folder"):
        read(tmp_path / "no" / "question.csv")
    with pytest.raises(InvalidData, match="is a folder"):
        read(tmp_path)


def test_a_channel_with_a_wrong_cell_is_not_left_out_unsaid(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text(
        "id,t,a,b,label\n" + "".join(f"{i // 4},{i},{'abc' if i == 5 else i},{i},{i % 2}\n" for i in range(12))
    )
    with pytest.raises(InvalidData, match="'abc' is not a number, and most of this column are") as caught:
        read(path, ReadOptions(group_by="id", order_by="t", label="label"))
    assert (caught.value.row, caught.value.column) == (7, "a")
    named = read(path, ReadOptions(group_by="id", order_by="t", label="label", channels=("b",)))
    assert named.channels == ("b",)


def test_a_column_that_is_named_twice_is_told() -> None:
    with pytest.raises(ValueError, match="column 'text' is named twice"):
        ReadOptions(sequence="text", label="text")
