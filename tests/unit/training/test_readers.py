"""Every format and layout, read and compared with values written by hand or by other libraries."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gatewise.errors import InvalidData
from training.readers import ReadOptions, read, stream

SMS = 'text,label\nhello there,ham\n"win, now",spam\n'


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def lines(*records: Any) -> str:
    return "".join(json.dumps(record) + "\n" for record in records)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt", "unnamed"])
def test_a_csv_is_read_by_extension_or_content(tmp_path: Path, name: str) -> None:
    dataset = read(write(tmp_path, name, SMS))
    assert (dataset.kind, dataset.task) == ("text", "sequence")
    assert dataset.items == ["hello there", "win, now"]
    assert dataset.labels == ["ham", "spam"]
    assert dataset.rows.tolist() == [2, 3]


def test_rows_are_the_lines_where_items_begin(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", '\ntext,label\n"one\ntwo",a\n\nthree,b\n')
    dataset = read(path)
    assert dataset.items == ["one\ntwo", "three"]
    assert dataset.rows.tolist() == [3, 6]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_in_a_csv_is_found(tmp_path: Path, delimiter: str) -> None:
    path = write(tmp_path, "a.csv", f"text{delimiter}label\nx, y{delimiter}a\nz{delimiter}b\n")
    assert read(path).items == ["x, y", "z"]


def test_a_tsv_written_without_quoting_keeps_its_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"Great" film\tpos\n"unclosed\tneg\n"closed"\tneg\n')
    assert read(path).items == ['"Great" film', '"unclosed', '"closed"']


def test_a_tsv_written_with_quoting_loses_its_quotes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tsv", 'text\tlabel\n"a ""b""\tc"\tpos\n"two\nlines"\tneg\n')
    assert read(path).items == ['a "b"\tc', "two\nlines"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(tmp_path: Path, encoding: str) -> None:
    dataset = read(write(tmp_path, "a.csv", "text,label\nné,a\nお,b\n".encode(encoding)))
    assert dataset.items == ["né", "お"]


def test_a_given_encoding_is_used(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\ncafé,a\nthé,b\n".encode("cp1252"))
    assert read(path, ReadOptions(encoding="cp1252")).items == ["café", "thé"]


def test_a_cell_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    long = "word " * 2_000_000
    assert read(write(tmp_path, "a.csv", f"text,label\n{long},a\nshort,b\n")).items[0] == long


def test_an_empty_text_is_an_item(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", 'text,label\n,a\n"",b\n')).items == ["", ""]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz", "unnamed"])
def test_json_lines_are_read_by_any_name(tmp_path: Path, name: str) -> None:
    dataset = read(write(tmp_path, name, lines({"text": "a b", "label": True}, {"text": "", "label": 3.0})))
    assert dataset.items == ["a b", ""]
    assert dataset.labels == ["true", "3"]
    assert dataset.rows.tolist() == [1, 2]


@pytest.mark.parametrize("indent", [None, 2])
def test_a_json_array_of_objects_is_read(tmp_path: Path, indent: int | None) -> None:
    records = [{"text": "a", "label": 1}, {"text": "b", "label": 2}]
    dataset = read(write(tmp_path, "a.json", json.dumps(records, indent=indent)))
    assert (dataset.items, dataset.labels) == (["a", "b"], ["1", "2"])


def test_series_of_unequal_length_with_gaps_are_read_from_jsonl(tmp_path: Path) -> None:
    text = '{"x": [[1, 2], [null, 4]], "y": 1}\n{"x": [[NaN, 6]], "y": 2}\n'
    dataset = read(write(tmp_path, "a.jsonl", text))
    assert dataset.kind == "series"
    assert dataset.channels == ("0", "1")
    assert dataset.items[0].dtype == np.float32
    np.testing.assert_array_equal(dataset.items[0], [[1, 2], [np.nan, 4]])
    np.testing.assert_array_equal(dataset.items[1], [[np.nan, 6]])


def test_a_series_in_a_csv_cell_is_read_as_json_or_as_python_prints_it(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'series,label\n"[1, 2.5]",a\n"[3.0, nan]",b\n"[None]",b\n')
    items = read(path).items
    np.testing.assert_array_equal(items[0], [[1], [2.5]])
    np.testing.assert_array_equal(items[1], [[3], [np.nan]])
    np.testing.assert_array_equal(items[2], [[np.nan]])


def test_tokens_in_a_csv_cell_are_read(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", 'tokens,tags\n"[\'a\', ""b\'s""]","[\'X\', \'Y\']"\n"[""c""]","[""X""]"\n')
    dataset = read(path)
    assert dataset.task == "step"
    assert dataset.items == [["a", "b's"], ["c"]]
    assert dataset.labels == [["X", "Y"], ["X"]]


def test_text_with_a_bracket_stays_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", "text,label\n[1],a\n[laughs] no,b\n")).items == ["[1]", "[laughs] no"]


SNIPS = lines(
    {"text": "play jazz", "tokens": ["play", "jazz"], "tags": ["O", "B-genre"], "label": "Play"},
    {"text": "rain ?", "tokens": ["rain", "?"], "tags": ["O", "O"], "label": "Weather"},
)


def test_a_file_with_labels_and_tags_is_read_by_its_labels(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "a.jsonl", SNIPS))
    assert (dataset.items, dataset.labels) == (["play jazz", "rain ?"], ["Play", "Weather"])


@pytest.mark.parametrize("options", [ReadOptions(task="step"), ReadOptions(label="tags")])
def test_tags_are_read_where_the_task_or_the_label_says_so(tmp_path: Path, options: ReadOptions) -> None:
    dataset = read(write(tmp_path, "a.jsonl", SNIPS), options)
    assert dataset.items == [["play", "jazz"], ["rain", "?"]]
    assert dataset.labels == [["O", "B-genre"], ["O", "O"]]


def test_tokens_under_one_label_are_joined_to_a_text(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.jsonl", SNIPS), ReadOptions(sequence="tokens")).items == ["play jazz", "rain ?"]


def test_text_and_tags_split_at_white_space_on_request(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "a.csv", "text,tags\na b,X Y\nc,X\n"), ReadOptions(task="step"))
    assert (dataset.items, dataset.labels) == ([["a", "b"], ["c"]], [["X", "Y"], ["X"]])


def test_parquet_lists_nulls_and_numbers_are_read(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    series = [[[1.0, 2.0], [3.0, None]], [[5.0, 6.0]], [[7.0, 8.0], [9.0, 10.0], [11.0, 12.0]]]
    pq.write_table(pa.table({"series": series, "label": [1.0, 2.0, 1.0]}), path)
    dataset = read(path)
    assert dataset.labels == ["1", "2", "1"]
    np.testing.assert_array_equal(dataset.items[0], [[1, 2], [3, np.nan]])
    np.testing.assert_array_equal(dataset.items[2], [[7, 8], [9, 10], [11, 12]])
    write(tmp_path, "b.parquet.gz", path.read_bytes())
    assert read(tmp_path / "b.parquet.gz").labels == dataset.labels


def test_parquet_tokens_and_steps_are_read(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({"tokens": [["a", "b"], ["c"]], "ner_tags": [[0, 1], [0]]}), tmp_path / "a.parquet")
    dataset = read(tmp_path / "a.parquet")
    assert (dataset.items, dataset.labels) == ([["a", "b"], ["c"]], [["0", "1"], ["0"]])


def test_a_list_column_for_each_channel_is_stacked(tmp_path: Path) -> None:
    text = lines({"ax": [1, 2], "ay": [3, None], "label": "a"}, {"ax": [5], "ay": [6], "label": "b"})
    dataset = read(write(tmp_path, "a.jsonl", text), ReadOptions(channels=("ay", "ax")))
    assert dataset.channels == ("ay", "ax")
    np.testing.assert_array_equal(dataset.items[0], [[3, 1], [np.nan, 2]])


TS = """# a comment
@problemName Two
@timestamps FALSE
@Missing true
@univariate false
@Dimensions 2
@classLabel true 1.0 2.0

@data
1,2,?:4,5,6:1.0
# in between
7:8:2.0
"""


def test_a_ts_file_with_gaps_and_unequal_lengths_is_read(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "a.ts", TS))
    assert dataset.labels == ["1", "2"]
    assert dataset.rows.tolist() == [10, 12]
    np.testing.assert_array_equal(dataset.items[0], [[1, 4], [2, 5], [np.nan, 6]])
    np.testing.assert_array_equal(dataset.items[1], [[7, 8]])


def test_a_ts_comment_may_hold_any_bytes(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ts", b"# Pierre-Fran\xe7ois\n" + TS.encode())
    assert len(read(path)) == 2


def test_an_unlabelled_ts_file_is_read_where_no_label_is_asked(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ts", "@univariate true\n@classLabel false\n@data\n1,2\n3\n")
    dataset = read(path, labelled=False)
    assert dataset.labels is None
    np.testing.assert_array_equal(dataset.items[0], [[1], [2]])
    with pytest.raises(InvalidData, match="--label"):
        read(path)


def test_the_ts_reader_agrees_with_aeon(tmp_path: Path) -> None:
    pytest.importorskip("aeon")
    from aeon.datasets import load_from_ts_file

    rng = np.random.default_rng(0)
    cases = rng.normal(size=(7, 3, 5)).round(4)
    body = "".join(":".join(",".join(map(str, ch)) for ch in case) + f":{i % 2}\n" for i, case in enumerate(cases))
    header = "@problemName a\n@timestamps false\n@missing false\n@univariate false\n@dimensions 3\n@equalLength true\n"
    path = write(tmp_path, "a.ts", f"{header}@seriesLength 5\n@classLabel true 0 1\n@data\n{body}")
    theirs, labels = load_from_ts_file(str(path))
    ours = read(path)
    np.testing.assert_allclose(np.stack(ours.items), theirs.transpose(0, 2, 1), rtol=1e-6)
    assert ours.labels == [str(label) for label in labels]


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


def test_npz_arrays_of_every_shape_are_read(tmp_path: Path) -> None:
    X = np.arange(12, dtype=np.uint8).reshape(2, 3, 2)
    dataset = read(npz(tmp_path, X=X, y=np.array([3, 4])))
    np.testing.assert_array_equal(dataset.items[1], X[1])
    assert (dataset.labels, dataset.channels) == (["3", "4"], ("0", "1"))
    assert read(npz(tmp_path, x=X[:, :, 0], y=np.array(["a", "b"]))).items[1].tolist() == [[6], [8], [10]]
    cut = read(npz(tmp_path, X=X, lengths=np.array([3, 1]), y=np.array([[1, 2, 1], [2, 0, 0]])))
    assert (cut.task, cut.labels) == ("step", [["1", "2", "1"], ["2"]])
    assert cut.items[1].tolist() == [[6, 7]]
    ragged = read(npz(tmp_path, values=np.arange(5.0), lengths=np.array([2, 3]), y=np.array([0, 1])))
    assert [item[:, 0].tolist() for item in ragged.items] == [[0, 1], [2, 3, 4]]


LONG = """run,time,a,b,note,label
2,10,1,,x,on
1,2,3,4,x,off
2,9,5,6,x,on
1,1,7,8,x,off
"""


def test_long_format_sorts_numbers_and_gives_each_group_its_constant_label(tmp_path: Path) -> None:
    options = ReadOptions(group_by="run", order_by="time")
    dataset = read(write(tmp_path, "a.csv", LONG), options)
    assert (dataset.task, dataset.labels, dataset.channels) == ("sequence", ["on", "off"], ("a", "b"))
    np.testing.assert_array_equal(dataset.items[0], [[5, 6], [1, np.nan]])
    np.testing.assert_array_equal(dataset.items[1], [[7, 8], [3, 4]])
    assert dataset.rows.tolist() == [2, 3]
    steps = read(write(tmp_path, "a.csv", LONG), options.model_copy(update={"task": "step", "channels": ("b",)}))
    assert steps.labels == [["on", "on"], ["off", "off"]]
    np.testing.assert_array_equal(steps.items[0], [[6], [np.nan]])


def test_long_format_without_groups_is_one_sequence_sorted_by_time(tmp_path: Path) -> None:
    text = '"date","v","y"\n"1","2015-02-04 10:00:00",2,1\n"2","2015-02-04 9:00",9,0\n'.replace(" 9:", " 09:")
    dataset = read(write(tmp_path, "a.csv", text), ReadOptions(order_by="date"))
    assert (dataset.task, dataset.labels, dataset.channels) == ("step", [["0", "1"]], ("v",))
    assert dataset.items[0].tolist() == [[9], [2]]


def test_times_of_different_zones_sort_by_what_they_mean(tmp_path: Path) -> None:
    text = "t,v,y\n2020-01-01T10:00:00+05:00,1,a\n2020-01-01T06:00:00Z,2,b\n2020-01-01T00:00:00-04:00,3,a\n"
    assert read(write(tmp_path, "a.csv", text), ReadOptions(order_by="t")).items[0][:, 0].tolist() == [3, 1, 2]


def test_equal_order_values_keep_the_order_of_the_file(tmp_path: Path) -> None:
    text = "t,v,y\n1,5,a\n0,6,b\n1,7,b\n"
    assert read(write(tmp_path, "a.csv", text), ReadOptions(order_by="t")).items[0][:, 0].tolist() == [6, 5, 7]


def test_a_token_for_each_row_gives_token_lists(tmp_path: Path) -> None:
    text = "sent,token,tag\n1,The,DET\n1,end,NOUN\n2,Go,VERB\n"
    dataset = read(write(tmp_path, "a.csv", text), ReadOptions(group_by="sent"))
    assert (dataset.kind, dataset.task) == ("text", "step")
    assert (dataset.items, dataset.labels) == ([["The", "end"], ["Go"]], [["DET", "NOUN"], ["VERB"]])


def test_group_by_on_whole_texts_is_for_dividing(tmp_path: Path) -> None:
    text = "text,user,label\nhello there,u1,a\nwell now,u2,b\n"
    dataset = read(write(tmp_path, "a.csv", text), ReadOptions(group_by="user"))
    assert (dataset.items, dataset.groups) == (["hello there", "well now"], ["u1", "u2"])


def test_wide_columns_are_timesteps_only_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "label,0,1,2\na,1,2,3\nb,4,,\nb,,5,6\n")
    with pytest.raises(InvalidData, match="--kind series"):
        read(path)
    dataset = read(path, ReadOptions(kind="series"))
    assert [len(item) for item in dataset.items] == [3, 1, 3]
    np.testing.assert_array_equal(dataset.items[2], [[np.nan], [5], [6]])
    again = read(path, ReadOptions(kind="series", channels=dataset.channels), labelled=False)
    np.testing.assert_array_equal(again.items[2], dataset.items[2])


@pytest.mark.parametrize(
    ("header", "row", "sequence", "label"),
    [
        ("Sentence,Category", "a b,x", "a b", "x"),
        ("text,label,fine_label", "a b,x,y", "a b", "x"),
        (",text,label", "0,a b,x", "a b", "x"),
        ("headline,label", "a b,x", "a b", "x"),
        ("text,topic", "a b,x", "a b", "x"),
        ("id,utterance,intent", "7,a b,x", "a b", "x"),
    ],
)
def test_columns_are_found_by_their_names(tmp_path: Path, header: str, row: str, sequence: str, label: str) -> None:
    dataset = read(write(tmp_path, "a.csv", f"{header}\n{row}\n"))
    assert (dataset.items, dataset.labels) == ([sequence], [label])


def test_two_columns_of_unknown_names_are_told_apart_where_it_is_clear(tmp_path: Path) -> None:
    body = "".join(f"some longer headline {i},{'ab'[i % 2]}\n" for i in range(8))
    dataset = read(write(tmp_path, "a.csv", f"headline,topic\n{body}"))
    assert dataset.labels == ["a", "b"] * 4


def test_a_single_column_of_texts_is_read_without_labels(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.csv", "whatever\none\ntwo\n"), labelled=False).items == ["one", "two"]


def test_labels_of_a_file_to_predict_are_left_alone(tmp_path: Path) -> None:
    dataset = read(write(tmp_path, "a.csv", "text,label\na,\nb,\n"), labelled=False)
    assert (dataset.items, dataset.labels) == (["a", "b"], None)


def test_numbers_are_texts_only_on_request(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "text,label\n12,a\n13,b\n")
    with pytest.raises(InvalidData, match="--kind text"):
        read(path)
    assert read(path, ReadOptions(kind="text")).items == ["12", "13"]


def test_labels_are_the_same_text_in_every_format(tmp_path: Path) -> None:
    text = '{"text": "a", "label": 1}\n{"text": "a", "label": 1.0}\n{"text": "a", "label": " 1.0 "}\n'
    assert set(read(write(tmp_path, "a.jsonl", text)).labels or ()) == {"1"}
    assert read(write(tmp_path, "a.csv", "text,label\na, 1\nb,1.0\n")).labels == ["1", "1"]


@pytest.mark.parametrize(
    "options", [{"encoding": "no-such"}, {"channels": ()}, {"sequence": "a", "label": "a"}, {"x": 1}]
)
def test_options_that_cannot_be_meant_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReadOptions(**options)


@pytest.mark.parametrize("rows", [1, 7, 1024, 5000])
def test_stream_gives_what_read_gives(tmp_path: Path, rows: int) -> None:
    path = write(tmp_path, "a.csv", "text,label\n" + "".join(f"t{i},{i % 3}\n" for i in range(2500)))
    whole, parts = read(path), list(stream(path, labelled=True, rows=rows))
    assert all(len(part) == rows for part in parts[:-1])
    assert [item for part in parts for item in part.items] == whole.items
    assert [label for part in parts for label in part.labels or ()] == whole.labels
    assert np.concatenate([part.rows for part in parts]).tolist() == whole.rows.tolist()


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=8))
def test_any_texts_survive_csv_tsv_and_jsonl(tmp_path: Path, texts: list[str]) -> None:
    options = ReadOptions(kind="text")
    for name, delimiter in (("a.csv", ","), ("a.tsv", "\t")):
        buffer = io.StringIO(newline="")
        writer = csv.writer(buffer, delimiter=delimiter, quoting=csv.QUOTE_NONNUMERIC)
        writer.writerows([["text", "label"], *([text, "a"] for text in texts)])
        assert read(write(tmp_path, name, buffer.getvalue()), options).items == texts
    path = write(tmp_path, "a.jsonl", lines(*({"text": text, "label": "a"} for text in texts)))
    assert read(path, options).items == texts


READING = st.one_of(st.none(), st.floats(width=32, allow_nan=False, allow_infinity=False))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(st.tuples(READING, READING), min_size=1, max_size=5), min_size=1, max_size=5))
def test_any_series_survive_jsonl(tmp_path: Path, series: list[list[tuple[float | None, float | None]]]) -> None:
    path = write(tmp_path, "a.jsonl", lines(*({"series": item, "label": "a"} for item in series)))
    options = ReadOptions(kind="series")
    for item, expected in zip(read(path, options).items, series, strict=True):
        np.testing.assert_array_equal(item, np.array(expected, dtype=np.float32))


def test_a_file_to_predict_is_read_by_the_columns_of_the_train_file(tmp_path: Path) -> None:
    path = tmp_path / "new.csv"
    path.write_text("text,remark\na,b\nc,d\n")
    like = {"sequence": "remark", "label": "verdict"}
    assert [piece.items for piece in stream(path, labelled=False, like=like)] == [["b", "d"]]
    # What is said wins, and a name that the file lacks is left to be found.
    said = ReadOptions(sequence="text")
    assert [piece.items for piece in stream(path, said, labelled=False, like=like)] == [["a", "c"]]
    assert [piece.items for piece in stream(path, labelled=False, like={"sequence": "other"})] == [["a", "c"]]
