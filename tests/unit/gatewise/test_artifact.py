"""An artifact comes back as it was written, or says which of its files is wrong and how."""

from __future__ import annotations

import ast
import errno
import hashlib
import os
import pickletools
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from pydantic import ValidationError

import gatewise
from gatewise import artifact
from gatewise.artifact import Artifact, Golden, Manifest, jsonable, read_manifest, restate, save, verify
from gatewise.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ArtifactTooNew
from gatewise.features import features_of
from tests.artifacts import Made, make_series, reseal

ROOT = Path(__file__).parents[3]
Copy = Callable[[Made], Path]
FILES = ("manifest.json", "weights.safetensors", "golden.json", "model.onnx")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def again(made: Made, folder: Path) -> Manifest:
    """Save what is loaded from an artifact as another."""
    loaded = Artifact(made.folder)
    tokenizer = made.folder / "tokenizer.json"
    return save(
        folder,
        loaded.manifest,
        weights=loaded.weights(),
        onnx=loaded.onnx(),
        golden=loaded.golden(),
        tokenizer=tokenizer.read_text(encoding="utf-8") if tokenizer.exists() else None,
    )


# Whole


def test_save_then_load_changes_nothing(made: Made) -> None:
    loaded = Artifact(made.folder)
    assert loaded.manifest == made.manifest
    weights = loaded.weights()
    assert weights.keys() == made.weights.keys()
    for name, array in made.weights.items():
        assert weights[name].dtype == np.float32
        assert weights[name].tobytes() == array.tobytes()
    assert [pair.item for pair in loaded.golden()] == made.items
    assert loaded.encoder().config == made.encoder.config
    ours = features_of(loaded.encoder(), loaded.manifest.model, weights)
    theirs = features_of(made.encoder, made.config, made.weights)
    for item in made.items:
        np.testing.assert_array_equal(ours(item, ()).inputs, theirs(item, ()).inputs)


def test_load_then_save_gives_the_same_bytes(made: Made, tmp_path: Path) -> None:
    assert again(made, tmp_path / "again") == made.manifest
    assert contents(tmp_path / "again") == contents(made.folder)


def test_weights_that_are_views_are_written_as_they_read(tmp_path: Path, series_artifact: Made) -> None:
    made = series_artifact
    views = {name: np.asfortranarray(array) for name, array in made.weights.items()}
    loaded = Artifact(made.folder)
    save(tmp_path / "views", made.manifest, weights=views, onnx=loaded.onnx(), golden=loaded.golden())
    assert contents(tmp_path / "views") == contents(made.folder)


def test_the_manifest_holds_the_checksum_of_every_other_file(made: Made) -> None:
    files = contents(made.folder)
    manifest = orjson.loads(files.pop("manifest.json"))
    assert manifest["files"] == {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)} for name, data in files.items()
    }
    del manifest["digest"]
    digest = hashlib.sha256(orjson.dumps(manifest, option=orjson.OPT_SORT_KEYS)).hexdigest()
    assert made.manifest.digest == digest
    assert ("tokenizer.json" in files) == (made.config.kind == "text")
    assert made.folder.stat().st_mode & 0o777 == 0o755


def test_an_artifact_is_never_written_over(made: Made) -> None:
    before = contents(made.folder)
    with pytest.raises(FileExistsError, match="never written over"):
        again(made, made.folder)
    assert contents(made.folder) == before


# Damaged


@pytest.mark.parametrize("name", FILES)
def test_a_changed_byte_is_found_in_every_file(name: str, series_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(series_artifact)
    data = bytearray((folder / name).read_bytes())
    for place in (0, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(ArtifactCorrupt, match=name):
            verify(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, -1])
def test_a_truncated_file_is_found(name: str, kept: int, series_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(series_artifact)
    (folder / name).write_bytes((folder / name).read_bytes()[:kept])
    with pytest.raises(ArtifactCorrupt, match=name):
        verify(folder)


@pytest.mark.parametrize("name", [*FILES, "tokenizer.json"])
def test_a_missing_file_is_named(name: str, text_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(text_artifact)
    (folder / name).unlink()
    with pytest.raises(ArtifactMissing, match=name):
        Artifact(folder)
    (folder / name).mkdir()
    with pytest.raises(ArtifactMissing, match=name):
        Artifact(folder)


def test_a_folder_that_is_none_is_missing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "nowhere", tmp_path / "file", tmp_path):
        with pytest.raises(ArtifactMissing, match=r"manifest\.json: not found"):
            Artifact(path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"3", b'"text"', b"null", b"{}", b"\xff\xfe", b"[" * 5000])
def test_a_manifest_that_is_none_is_corrupt(data: bytes, series_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(series_artifact)
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json: not a Gatewise manifest"):
        read_manifest(folder)


@pytest.mark.parametrize("version", [2, 999, 10**12])
def test_a_later_schema_says_to_upgrade_before_anything_else(
    version: int, series_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(series_artifact)
    (folder / "manifest.json").write_bytes(orjson.dumps({"schema_version": version, "new_field": 1}))
    with pytest.raises(ArtifactTooNew, match=rf"schema_version {version}, .* reads up to 1; upgrade gatewise"):
        read_manifest(folder)


@pytest.mark.parametrize("version", ["1", None, 1.5, [], {}])
def test_a_schema_version_that_is_no_number_is_corrupt(version: object, series_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(series_artifact)
    reseal(folder, schema_version=version)
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json: not a Gatewise manifest"):
        read_manifest(folder)


@pytest.mark.parametrize("field", ["name", "labels", "model", "encoder", "created_at", "gatewise_version"])
def test_a_manifest_without_a_field_names_it(field: str, series_artifact: Made, copy_of: Copy) -> None:
    path = copy_of(series_artifact) / "manifest.json"
    manifest = orjson.loads(path.read_bytes())
    del manifest[field]
    path.write_bytes(orjson.dumps(manifest))
    with pytest.raises(ArtifactCorrupt, match=rf"manifest\.json: field {field}: Field required"):
        read_manifest(path.parent)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"labels": ["up", "flat", "down"]}, "its digest differs"),
        ({"temperature": 1.0}, "its digest differs"),
        ({"golden_tolerance": 1e9}, "its digest differs"),
        ({"metrics": {"test": {"accuracy": 1.0}}}, "its digest differs"),
        ({"digest": ""}, "its digest differs"),
        ({"labels": ["one"]}, "field labels"),
        ({"temperature": -1}, "field temperature"),
        ({"unheard_of": 1}, "field unheard_of"),
        ({"encoder": {"kind": "image"}}, "field encoder"),
        ({"metrics": {"test": {"accuracy": None}}}, r"field metrics\.test\.accuracy"),
    ],
)
def test_a_changed_manifest_field_is_found(
    changed: dict[str, Any], message: str, series_artifact: Made, copy_of: Copy
) -> None:
    path = copy_of(series_artifact) / "manifest.json"
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), **changed}))
    with pytest.raises(ArtifactCorrupt, match=rf"manifest\.json: .*{message}"):
        read_manifest(path.parent)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "sub/file", "..", ".", ""])
def test_a_file_name_that_is_a_path_is_never_followed(name: str, series_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(series_artifact)
    (folder.parent / "secret").write_bytes(b"")
    record = {"sha256": hashlib.sha256(b"").hexdigest(), "size_bytes": 0}
    files = {**orjson.loads((folder / "manifest.json").read_bytes())["files"], name: record}
    reseal(folder, files=files)
    with pytest.raises(ArtifactError, match=r"copy"):
        verify(folder)


@pytest.mark.parametrize("name", ["weights.safetensors", "golden.json", "model.onnx", "tokenizer.json"])
def test_a_manifest_that_leaves_a_file_out_is_corrupt(name: str, text_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(text_artifact)
    files = orjson.loads((folder / "manifest.json").read_bytes())["files"]
    del files[name]
    reseal(folder, files=files)
    with pytest.raises(ArtifactCorrupt, match=rf"manifest\.json: names no {name}"):
        verify(folder)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"model": {"type": "WordLevel"}}', b"garbage"])
def test_a_tokenizer_that_is_none_is_corrupt_though_its_checksum_is_right(
    data: bytes, text_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(text_artifact)
    (folder / "tokenizer.json").write_bytes(data)
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match=r"tokenizer\.json"):
        Artifact(folder).encoder()


@pytest.mark.parametrize("data", [b"", b"{}", b"\xff" * 40, b"\x08" + bytes(15)])
def test_weights_that_are_none_are_corrupt_though_their_checksum_is_right(
    data: bytes, series_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(series_artifact)
    (folder / "weights.safetensors").write_bytes(data)
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match=r"weights\.safetensors"):
        Artifact(folder).weights()


@pytest.mark.parametrize("data", [b"", b"3", b"null", b"[1]", b'[{"item": 1}]', b'{"a": 1}', b"[[]]"])
def test_golden_items_that_are_none_are_corrupt_though_their_checksum_is_right(
    data: bytes, series_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(series_artifact)
    (folder / "golden.json").write_bytes(data)
    reseal(folder)
    with pytest.raises(ArtifactCorrupt, match=r"golden\.json"):
        Artifact(folder).golden()


def test_a_file_that_changes_after_it_was_verified_is_found_when_it_is_read(
    series_artifact: Made, copy_of: Copy
) -> None:
    folder = copy_of(series_artifact)
    loaded = Artifact(folder)
    (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx: 1 bytes"):
        loaded.onnx()


# Interrupted


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("file", [1, 2, 3, 4])
def test_a_write_that_fails_leaves_nothing(
    error: BaseException, file: int, series_artifact: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == file:
            raise error

    monkeypatch.setattr(artifact.os, "fsync", fsync)
    with pytest.raises(type(error)):
        again(series_artifact, tmp_path / "runs" / "artifact")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_process_killed_while_it_writes_leaves_no_artifact(tmp_path: Path, series_artifact: Made) -> None:
    program = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from gatewise import artifact\n"
        "write = artifact._write_durably\n"
        "def killed(path, data):\n"
        "    write(path, data)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "artifact._write_durably = killed\n"
        "loaded = artifact.Artifact(sys.argv[1])\n"
        "artifact.save(Path(sys.argv[2]), loaded.manifest, weights=loaded.weights(), onnx=b'x', golden=[])\n"
    )
    target = tmp_path / "artifact"
    command = [sys.executable, "-c", program, str(series_artifact.folder), str(target)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert all(path.name.startswith(".artifact-") for path in tmp_path.iterdir())
    again(series_artifact, target)
    verify(target)


# Stated again


def test_restating_keeps_every_file_and_changes_the_fields_alone(made: Made, tmp_path: Path) -> None:
    stated = restate(made.folder, tmp_path / "final", metrics={"test": {"accuracy": 0.5}}, name="other")
    assert stated == verify(tmp_path / "final")
    before, after = contents(made.folder), contents(tmp_path / "final")
    del before["manifest.json"], after["manifest.json"]
    assert after == before
    changed = {"metrics": {"test": {"accuracy": 0.5}}, "name": "other", "digest": stated.digest}
    assert stated == made.manifest.model_copy(update=changed)
    assert stated.digest != made.manifest.digest


def test_restating_replaces_what_stands_there_even_itself(series_artifact: Made, copy_of: Copy) -> None:
    folder = copy_of(series_artifact)
    (folder / "leftover").write_text("")
    restate(folder, folder, name="second")
    assert verify(folder).name == "second"
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_restating_that_fails_harms_nothing(
    series_artifact: Made, copy_of: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(series_artifact)
    before = contents(folder)
    with pytest.raises(ValidationError):
        restate(series_artifact.folder, folder, temperature=-1)
    assert contents(folder) == before

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(artifact.os, "fsync", fsync)
    with pytest.raises(OSError, match="No space left"):
        restate(series_artifact.folder, folder, name="second")
    assert contents(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_restating_a_damaged_artifact_is_refused(series_artifact: Made, copy_of: Copy, tmp_path: Path) -> None:
    folder = copy_of(series_artifact)
    (folder / "model.onnx").write_bytes(b"x")
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx"):
        restate(folder, tmp_path / "final", name="second")
    assert not (tmp_path / "final").exists()


def test_a_manifest_that_could_not_be_read_again_is_not_made(series_artifact: Made) -> None:
    fields = series_artifact.manifest.model_dump()
    with pytest.raises(ValidationError, match="finite"):
        Manifest.model_validate({**fields, "metrics": {"test": {"log_loss": float("nan")}}})


# Small things


def test_raw_items_are_json_with_null_for_what_is_missing() -> None:
    array = np.array([[1.5, np.nan], [2.0, 3.0]], dtype=np.float32)
    assert jsonable(array) == [[1.5, None], [2.0, 3.0]]
    assert jsonable(["a", ("b", "")]) == ["a", ["b", ""]]
    assert jsonable("text") == "text"
    assert jsonable([1.0, float("nan"), None]) == [1.0, None, None]


def test_float32_readings_and_logits_are_exact_after_json() -> None:
    array = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    pair = Golden(item=jsonable(array), logits=array[0].tolist())
    back = Golden.model_validate(orjson.loads(orjson.dumps(pair.model_dump())))
    assert np.array(back.item, dtype=np.float32).tobytes() == array.tobytes()
    assert np.array(back.logits, dtype=np.float32).tobytes() == array[0].tobytes()


def test_the_manifest_answers_for_its_encoder(text_artifact: Made, series_artifact: Made) -> None:
    text, series = text_artifact.manifest, series_artifact.manifest
    assert (text.kind, text.task, text.channels, text.allow_missing, text.max_length) == (
        "text", "sequence", None, False, 12,
    )  # fmt: skip
    assert (series.kind, series.channels, series.allow_missing, series.max_length) == (
        "series", ("price", "volume"), True, 24,
    )  # fmt: skip


def test_no_file_of_an_artifact_is_a_pickle(made: Made) -> None:
    for path in made.folder.iterdir():
        data = path.read_bytes()
        assert not data.startswith((b"\x80", b"PK"))
        with pytest.raises(Exception):  # noqa: B017, PT011 - what pickletools raises where there is no pickle varies
            list(pickletools.genops(data))


def test_nothing_in_the_library_could_load_a_pickle() -> None:
    for path in Path(gatewise.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("torch.load", "np.load", "numpy.load"), f"{path.name}:{node.lineno}"
                assert "allow_pickle" not in {keyword.arg for keyword in node.keywords}, f"{path.name}:{node.lineno}"


def test_an_artifact_may_be_moved(series_artifact: Made, tmp_path: Path) -> None:
    make_series(tmp_path / "here")
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert verify(tmp_path / "there").digest == series_artifact.manifest.digest
