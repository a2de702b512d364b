"""Model versions, the production pointer, and what must hold when processes die or race.

Nothing here needs BentoML's global state: a Store is opened on a folder. BentoML itself looks at the same folder in a
process of its own, where BENTOML_HOME can be set before it is imported (about 1 s).
"""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from gatewise import archive, durable
from gatewise.architecture import ModelConfig
from gatewise.artifact import Manifest, save, verify
from gatewise.errors import (
    ArtifactCorrupt,
    ArtifactError,
    ArtifactMissing,
    InvalidConfig,
    ModelConflict,
    ModelNotFound,
)
from gatewise.store import Store, check_name, resolve
from gatewise.timeseries import TimeSeriesEncoderConfig

SOURCE = Path(__file__).parents[3]


def make_artifact(folder: Path, *, accuracy: float = 0.9, size: int = 10) -> Path:
    """A whole artifact as far as checksums go; no engine is ever asked to load it."""
    manifest = Manifest(
        gatewise_version="0.1.0",
        name="questions",
        created_at="2026-11-23T08:45:12+00:00",
        labels=("a", "b"),
        model=ModelConfig(kind="series", cell="gru", input_size=1, num_classes=2),
        encoder=TimeSeriesEncoderConfig(channels=("0",), mean=(0.0,), scale=(1.0,)),
        metrics={"test": {"accuracy": accuracy}},
        data={"source": "questions.csv", "group": None},
    )
    save(folder, manifest, weights={"w": np.arange(size, dtype=np.float32)}, onnx=b"graph" * size, golden=[])
    return folder


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    return make_artifact(tmp_path / "artifact")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def three(store: Store, artifact: Path) -> list[str]:
    """Three versions of `questions`, oldest first."""
    return [_add_later(store, artifact) for _ in range(3)]


def _add_later(store: Store, artifact: Path) -> str:
    version = store.add(artifact, "questions").version
    time.sleep(0.002)  # a version's name tells milliseconds
    return version


def _run(code: str, home: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True", "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _output(code: str, home: Path, *arguments: object) -> str:
    process = _run(code, home, *arguments)
    output, problem = process.communicate(timeout=120)
    assert process.returncode == 0, problem
    return output


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Versions


def test_a_stored_version_holds_the_artifact_byte_for_byte(store: Store, artifact: Path) -> None:
    added = store.add(artifact, "questions")
    stored = _files(added.path)
    del stored["model.yaml"]
    assert stored == _files(artifact)
    assert added.changed
    assert verify(added.path).labels == ("a", "b")


def test_a_version_is_named_by_its_time_and_its_content(store: Store, artifact: Path) -> None:
    before = datetime.now(UTC)
    added = store.add(artifact, "questions")
    assert added.version.endswith("-" + verify(artifact).digest[:8])
    assert abs((added.created_at - before).total_seconds()) < 5
    assert f"{added.created_at:%Y%m%dt%H%M%S}" == added.version.partition(".")[0]


def test_a_version_tells_what_its_manifest_says(store: Store, artifact: Path) -> None:
    version = store.add(artifact, "questions")
    assert (version.kind, version.task, version.cell) == ("series", "sequence", "gru")
    assert version.metrics == {"test": {"accuracy": 0.9}}
    assert version.size_bytes == sum(map(len, _files(version.path).values()))


def test_the_list_is_newest_first_and_marks_production(store: Store, artifact: Path, three: list[str]) -> None:
    store.add(artifact, "other")
    store.promote(f"questions:{three[1]}")
    assert [version.version for version in store.list("questions")] == three[::-1]
    assert [version.is_production for version in store.list("questions")] == [False, True, False]
    assert [version.name for version in store.list()] == ["other", "questions", "questions", "questions"]


def test_an_empty_store_lists_nothing_and_is_not_made_by_looking(store: Store) -> None:
    assert store.list() == []
    assert store.list("questions") == []
    with pytest.raises(ModelNotFound, match="holds none yet"):
        store.get("questions")
    assert not store.home.exists()


@pytest.mark.parametrize("ending", ["", ":latest"])
def test_a_bare_name_and_latest_mean_the_newest(store: Store, three: list[str], ending: str) -> None:
    assert store.get("questions" + ending).version == three[-1]


def test_a_version_is_found_by_its_beginning_when_no_other_shares_it(store: Store, three: list[str]) -> None:
    first = store.get(f"questions:{three[0]}")
    assert store.get(first.reference) == first
    assert store.get(f"questions:{three[0][:-1]}") == first
    with pytest.raises(ModelNotFound, match="begins 3 versions"):
        store.get("questions:20")


def test_a_wrong_name_or_version_is_answered_with_what_there_is(store: Store, three: list[str]) -> None:
    with pytest.raises(ModelNotFound, match="did you mean questions"):
        store.get("Qestions")
    with pytest.raises(ModelNotFound, match=f"the newest are {three[-1]}"):
        store.get("questions:v7")
    with pytest.raises(ModelNotFound, match="no version ''"):
        store.get("questions:")


@pytest.mark.parametrize("reference", ["../home", "..", "questions:../questions", "questions:..", "questions/x", ""])
def test_a_reference_never_leaves_the_store(store: Store, three: list[str], reference: str) -> None:
    with pytest.raises(ModelNotFound):
        store.get(reference)


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("Questions", "'questions'"), ("my model!", "'my-model'"), ("-x-", "'x'"), ("", "'model'"), ("a" * 64, "'aaa")],
)
def test_a_name_that_bentoml_would_not_take_is_refused_with_one_that_it_would(name: str, suggestion: str) -> None:
    with pytest.raises(InvalidConfig, match=suggestion):
        check_name(name)


def test_a_folder_that_is_no_whole_artifact_is_not_added(store: Store, artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing):
        store.add(tmp_path, "questions")
    (artifact / "weights.safetensors").write_bytes(b"changed")
    with pytest.raises(ArtifactCorrupt):
        store.add(artifact, "questions")
    assert store.list() == []


def test_a_link_in_an_artifact_is_refused(store: Store, artifact: Path) -> None:
    (artifact / "extra").symlink_to("/etc/hostname")
    with pytest.raises(ArtifactCorrupt, match="not a plain file"):
        store.add(artifact, "questions")


def test_damaged_entries_are_left_out_of_the_list_and_logged(
    store: Store, three: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    models = store.home / "models"
    (models / "questions" / three[1] / "manifest.json").write_text("{")
    (models / "questions" / "half").mkdir()
    (models / "questions" / "stray").write_text("")
    (models / "Not A Name").mkdir()
    (models / "iris" / "v1").mkdir(parents=True)
    (models / "iris" / "v1" / "model.yaml").write_text("name: iris\n")  # another tool's model: not ours, and whole
    (store.home / "gatewise" / "questions.json").write_text("[")
    with caplog.at_level(logging.WARNING):
        assert [version.version for version in store.list()] == [three[2], three[0]]
    logged = " ".join(record.getMessage() for record in caplog.records)
    assert three[1] in logged
    assert "half" in logged
    assert "questions.json is damaged" in logged
    assert "iris" not in logged
    with pytest.raises(ArtifactCorrupt, match=r"manifest\.json is damaged"):
        store.get(f"questions:{three[1]}")


# The production pointer


def test_production_is_what_was_promoted_last(store: Store, three: list[str]) -> None:
    with pytest.raises(ModelNotFound, match="gatewise models promote questions:"):
        store.get("questions:production")
    assert store.promote(f"questions:{three[0]}").is_production
    assert store.promote("questions").version == three[2]
    assert store.get("questions:production").version == three[2]


def test_promoting_production_again_changes_nothing_and_says_so(
    store: Store, three: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert store.promote("questions").changed
    with caplog.at_level(logging.INFO):
        assert not store.promote("questions:production").changed
    assert "production already" in caplog.text
    assert len(store.history("questions")) == 1


def test_each_rollback_goes_one_further_back(store: Store, three: list[str]) -> None:
    for version in three:
        store.promote(f"questions:{version}")
    assert store.rollback("questions").version == three[1]
    assert store.rollback("questions").version == three[0]
    with pytest.raises(ModelConflict, match="in production before"):
        store.rollback("questions")
    assert store.get("questions:production").version == three[0]
    moves = [(move.action, move.previous, move.version) for move in store.history("questions")]
    assert moves == [
        ("rollback", three[1], three[0]),
        ("rollback", three[2], three[1]),
        ("promote", three[1], three[2]),
        ("promote", three[0], three[1]),
        ("promote", None, three[0]),
    ]


def test_a_promotion_over_a_version_is_refused_once_another_is_production(store: Store, three: list[str]) -> None:
    first, second, third = (f"questions:{version}" for version in three)
    store.promote(first)
    assert store.promote(second, over=three[0]).changed
    # Again, as a job does that was killed right after it.
    assert not store.promote(second, over=three[0]).changed
    with pytest.raises(ModelConflict, match=f"has moved from {three[0]} to {three[1]}; nothing was promoted"):
        store.promote(third, over=three[0])
    assert store.get("questions:production").version == three[1]


def test_a_note_stays_beside_its_version_and_goes_with_it(store: Store, three: list[str]) -> None:
    assert store.noted("questions", three[0], "gate") is None
    store.note("questions", three[0], "gate", {"passed": False})
    store.note("questions", three[0], "gate", {"passed": True})
    store.note("questions", three[0], "origin", {"data": "q.csv"})
    assert store.noted("questions", three[0], "gate") == {"passed": True}
    assert store.noted("questions", three[1], "gate") is None
    assert not {"gate.json", "origin.json"} & {file.name for file in store.get(f"questions:{three[0]}").path.iterdir()}
    store.delete(f"questions:{three[0]}")
    assert store.noted("questions", three[0], "gate") is None


def test_a_rollback_passes_over_versions_deleted_since(store: Store, three: list[str]) -> None:
    for version in three:
        store.promote(f"questions:{version}")
    store.delete(f"questions:{three[1]}")
    assert store.rollback("questions").version == three[0]


def test_a_rollback_without_a_promotion_is_refused(store: Store, three: list[str]) -> None:
    with pytest.raises(ModelConflict, match="never promoted"):
        store.rollback("questions")
    with pytest.raises(ModelNotFound):
        store.rollback("answers")


def test_production_cannot_be_deleted_and_others_can(store: Store, three: list[str]) -> None:
    store.promote(f"questions:{three[2]}")
    for reference in (f"questions:{three[2]}", "questions:production", "questions:latest"):
        with pytest.raises(ModelConflict, match="promote another version"):
            store.delete(reference)
    with pytest.raises(InvalidConfig, match="names no version"):
        store.delete("questions")
    assert store.delete(f"questions:{three[0]}").version == three[0]
    assert [version.version for version in store.list()] == [three[2], three[1]]
    assert not list((store.home / "gatewise" / "staging").glob("*/"))


def test_the_last_version_takes_the_name_with_it(store: Store, artifact: Path) -> None:
    store.delete(store.add(artifact, "questions").reference)
    assert not (store.home / "models" / "questions").exists()


def test_a_damaged_pointer_is_named_and_a_promotion_mends_it(store: Store, three: list[str]) -> None:
    store.promote("questions")
    pointer = store.home / "gatewise" / "questions.json"
    pointer.write_text('{"stack": [1')
    with pytest.raises(ModelConflict, match=r"questions\.json is damaged"):
        store.get("questions:production")
    with pytest.raises(ModelConflict):
        store.delete(f"questions:{three[0]}")
    store.promote("questions")
    assert store.get("questions:production").version == three[2]


def test_production_deleted_by_another_tool_is_named(store: Store, three: list[str]) -> None:
    version = store.promote("questions")
    shutil.rmtree(version.path)
    with pytest.raises(ModelNotFound, match=f"no longer in .*; promote another version, such as questions:{three[1]}"):
        store.get("questions:production")


# Death, races and full disks

PROMOTE = """
    import sys
    from gatewise.store import Store
    store = Store()
    for _ in range(50):
        store.promote("questions:" + sys.argv[1])
"""


def test_two_processes_that_promote_at_once_leave_one_consistent_history(store: Store, three: list[str]) -> None:
    writers = [_run(PROMOTE, store.home, version) for version in three[:2]]
    pointer = store.home / "gatewise" / "questions.json"
    while any(writer.poll() is None for writer in writers):
        if pointer.exists():
            assert json.loads(pointer.read_text())["stack"][-1] in three[:2]
    for writer in writers:
        _, problem = writer.communicate()
        assert writer.returncode == 0, problem
    history = store.history("questions")[::-1]
    assert {move.version for move in history} == set(three[:2])
    assert [move.previous for move in history] == [None, *(move.version for move in history[:-1])]
    assert store.get("questions:production").version == history[-1].version


ADD_AND_WAIT = """
    import shutil, sys, time
    from gatewise import durable
    from gatewise.store import Store
    copy = shutil.copyfile
    def copy_and_wait(source, target):
        copy(source, target)
        print(target, flush=True)
        if target.name == "model.onnx":
            time.sleep(60)
    durable.shutil.copyfile = copy_and_wait
    Store().add(sys.argv[1], "questions")
"""


def test_a_kill_in_the_middle_of_an_addition_leaves_no_version_and_the_next_one_cleans_up(
    store: Store, artifact: Path
) -> None:
    process = _run(ADD_AND_WAIT, store.home, artifact)
    assert process.stdout is not None
    copied = next(line for line in process.stdout if "model.onnx" in line)
    staging = Path(copied.strip()).parents[1]
    other = store.add(artifact, "other")  # the living writer's staging is left alone
    assert staging.is_dir()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert [version.reference for version in store.list()] == [other.reference]
    store.add(artifact, "questions")
    assert not staging.exists()
    assert len(store.list("questions")) == 1


ADD_FOR_EVER = """
    import sys
    from gatewise.store import Store
    print("ready", flush=True)
    while True:
        Store().add(sys.argv[1], "questions")
"""


def test_kills_at_any_moment_leave_whole_versions_only(store: Store, tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "larger", size=200_000)
    for round_ in range(4):
        process = _run(ADD_FOR_EVER, store.home, artifact)
        assert process.stdout is not None
        process.stdout.readline()
        deadline = time.monotonic() + 20
        seen = len(store.list())
        while len(store.list()) <= seen and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.013 * round_)
        process.kill()
        process.communicate()
    versions = store.list()
    assert len(versions) >= 4
    for version in versions:
        verify(version.path)
        assert (version.path / "model.yaml").is_file()
    assert "questions" in _output("import bentoml; print(bentoml.models.list())", store.home)


def test_a_full_disk_is_named_and_leaves_nothing(store: Store, artifact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(durable.shutil, "copyfile", full)
    with pytest.raises(ModelConflict, match="cannot add 'questions': the disk is full"):
        store.add(artifact, "questions")
    monkeypatch.undo()
    assert store.list() == []
    assert not list((store.home / "gatewise" / "staging").glob("*/"))


def test_a_pointer_that_cannot_be_written_keeps_its_old_value(
    store: Store, three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store.promote(f"questions:{three[0]}")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(ModelConflict, match="disk is full"):
        store.promote(f"questions:{three[1]}")
    monkeypatch.undo()
    assert store.get("questions:production").version == three[0]
    assert not list((store.home / "gatewise").glob("*.tmp"))


def test_a_lock_that_another_process_holds_is_named_after_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "questions.lock"
    with durable.exclusive(lock):
        assert durable.is_held(lock)
        with (
            pytest.raises(ModelConflict, match=r"another process has held .*questions\.lock"),
            durable.exclusive(lock, timeout_seconds=0.02),
        ):
            pass
    assert not durable.is_held(lock)


# BentoML's own view of the same folder

LIST = """
    import bentoml, json
    model = bentoml.models.get("questions")
    print(json.dumps({
        "tags": [str(m.tag) for m in bentoml.models.list()], "latest": str(model.tag), "labels": model.info.labels,
        "metadata": model.info.metadata, "module": model.info.module, "created": model.info.creation_time.isoformat(),
    }))
"""


def test_bentoml_lists_the_versions_with_their_labels_and_metrics(store: Store, three: list[str]) -> None:
    seen = json.loads(_output(LIST, store.home))
    assert seen["tags"] == [f"questions:{version}" for version in three]
    assert seen["latest"] == f"questions:{three[-1]}"
    assert seen["labels"] == {"kind": "series", "task": "sequence", "cell": "gru"}
    assert seen["metadata"]["metrics"] == {"test": {"accuracy": 0.9}}
    assert seen["metadata"]["data"] == {"source": "questions.csv"}
    assert seen["module"] == "gatewise"
    assert datetime.fromisoformat(seen["created"]) == store.get("questions").created_at


def test_bentoml_imports_what_was_exported_and_deletes_what_was_added(
    store: Store, three: list[str], tmp_path: Path
) -> None:
    exported = store.export("questions", str(tmp_path / "q.bentomodel"))
    code = """
        import bentoml, sys
        bentoml.models.import_model(sys.argv[1])
    """
    _output(code, tmp_path / "second", exported)
    assert [version.version for version in Store(tmp_path / "second").list()] == [three[-1]]
    _output("import bentoml, sys; bentoml.models.delete(sys.argv[1])", store.home, f"questions:{three[-1]}")
    assert store.get("questions").version == three[1]


def test_reading_the_store_imports_neither_bentoml_nor_torch(store: Store, three: list[str]) -> None:
    code = """
        import sys
        from gatewise.store import Store, resolve
        print(Store().list()[0].version, resolve("questions")[1], "bentoml" in sys.modules, "torch" in sys.modules)
    """
    assert _output(code, store.home).split() == [three[-1], three[-1], "False", "False"]


# Export and import


@pytest.mark.parametrize("target", ["q.tar.gz", "q.tgz", "q.zip", "q.bentomodel", "q.tar", "folder", "memory", "file"])
def test_a_version_exported_and_imported_elsewhere_is_the_same_version(
    store: Store, three: list[str], tmp_path: Path, target: str
) -> None:
    url = {"memory": "memory://models/q.tar.gz", "file": f"file://{tmp_path}/new/q.zip"}.get(
        target, f"{tmp_path}/{target}"
    )
    version = store.get("questions")
    store.export(version.reference, url)
    second = Store(tmp_path / "second")
    imported = second.import_(url)
    assert imported.changed
    assert (imported.reference, imported.created_at) == (version.reference, version.created_at)
    assert _files(imported.path) == _files(version.path)
    assert not second.import_(url).changed
    assert second.import_(url, name="renamed").name == "renamed"
    assert not list((second.home / "gatewise" / "staging").glob("*/"))


@pytest.mark.parametrize("target", ["q.tar.gz", "q.zip", "folder"])
def test_what_the_gate_said_goes_with_an_export_and_what_it_was_made_of_does_not(
    store: Store, three: list[str], tmp_path: Path, target: str
) -> None:
    newest, url = three[-1], str(tmp_path / target)
    store.note("questions", newest, "gate", {"passed": True})
    store.note("questions", newest, "origin", {"training": {"data": "/home/ada/questions.csv"}})
    store.export("questions", url)
    second = Store(tmp_path / "second")
    version = second.import_(url)
    assert second.noted("questions", newest, "gate") == {"passed": True}
    assert second.noted("questions", newest, "origin") is None
    assert _files(version.path) == _files(store.get("questions").path)


def test_an_import_that_is_there_already_gains_a_gate_and_keeps_its_own(
    store: Store, three: list[str], tmp_path: Path
) -> None:
    newest, second = three[-1], Store(tmp_path / "second")
    second.import_(store.export("questions", str(tmp_path / "before.zip")))
    for passed in (True, False):
        store.note("questions", newest, "gate", {"passed": passed})
        assert not second.import_(store.export("questions", str(tmp_path / f"{passed}.zip"))).changed
        assert second.noted("questions", newest, "gate") == {"passed": True}


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff", b"[" * 10_000])
def test_an_archive_with_a_damaged_gate_is_refused(
    store: Store, artifact: Path, tmp_path: Path, content: bytes
) -> None:
    (artifact / "gate.json").write_bytes(content)
    with pytest.raises(ArtifactCorrupt, match=r"gate\.json is damaged"):
        store.import_(str(archive.pack(artifact, tmp_path / "q.zip")))
    assert store.list() == []


@pytest.mark.parametrize("suffix", [".tar.gz", ".zip", ".bentomodel"])
def test_an_archive_of_the_same_files_is_the_same_bytes(artifact: Path, tmp_path: Path, suffix: str) -> None:
    first = archive.pack(artifact, tmp_path / f"first{suffix}").read_bytes()
    os.utime(artifact / "manifest.json", (0, 0))
    assert archive.pack(artifact, tmp_path / f"second{suffix}").read_bytes() == first


def test_an_export_writes_over_no_folder_and_asks_a_url_for_a_suffix(
    store: Store, three: list[str], artifact: Path
) -> None:
    with pytest.raises(InvalidConfig, match="exists already"):
        store.export("questions", str(artifact))
    with pytest.raises(InvalidConfig, match="must end in one of"):
        store.export("questions", "memory://models/questions")
    with pytest.raises(InvalidConfig, match="cannot be opened"):
        store.export("questions", "nowhere://models/q.zip")
    assert store.export("questions", "memory://out/") == f"memory://out/questions-{three[-1]}.tar.gz"


def test_an_archive_of_a_folder_packed_by_hand_is_imported(store: Store, artifact: Path, tmp_path: Path) -> None:
    packed = shutil.make_archive(str(tmp_path / "hand"), "gztar", root_dir=artifact.parent, base_dir=artifact.name)
    imported = store.import_(packed, name="by-hand")
    assert verify(imported.path).digest[:8] == imported.version[-8:]
    assert store.import_(str(artifact)).name == "questions"  # the manifest's own name


def test_a_missing_or_broken_archive_is_named_and_nothing_is_stored(
    store: Store, three: list[str], tmp_path: Path
) -> None:
    whole = Path(store.export("questions", str(tmp_path / "q.tar.gz")))
    (tmp_path / "cut.tar.gz").write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "text.zip").write_text("not a zip")
    second = Store(tmp_path / "second")
    for url in ("cut.tar.gz", "text.zip", "none.zip"):
        with pytest.raises(ArtifactError):
            second.import_(str(tmp_path / url))
    with pytest.raises(ArtifactMissing):
        second.import_("memory://models/none.zip")
    assert second.list() == []
    assert not list((second.home / "gatewise" / "staging").glob("*/"))


def test_an_archive_whose_content_was_changed_is_refused(store: Store, artifact: Path, tmp_path: Path) -> None:
    (artifact / "model.onnx").write_bytes(b"another")
    packed = archive.pack(artifact, tmp_path / "q.zip")
    with pytest.raises(ArtifactCorrupt, match=r"model\.onnx"):
        store.import_(str(packed))
    assert store.list() == []


def test_a_pickle_in_an_archive_is_refused(store: Store, artifact: Path, tmp_path: Path) -> None:
    (artifact / "custom_objects.pkl").write_bytes(b"\x80")
    with pytest.raises(ArtifactCorrupt, match="pickle"):
        store.import_(str(archive.pack(artifact, tmp_path / "q.zip")))


@pytest.mark.parametrize("name", ["/etc/evil", "../evil", "a/../../evil", "..\\evil", "C:evil"])
@pytest.mark.parametrize("form", ["tar", "zip"])
def test_an_archive_cannot_write_outside_its_folder(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / f"evil.{form}"
    if form == "tar":
        with tarfile.open(path, "w") as tar:
            info = tarfile.TarInfo(name)
            info.size = 4
            tar.addfile(info, io.BytesIO(b"evil"))
    else:
        with zipfile.ZipFile(path, "w") as target:
            target.writestr(name, "evil")
    with pytest.raises(ArtifactCorrupt, match="outside its folder"):
        archive.unpack(path, tmp_path / "unpacked")
    assert not [found for found in tmp_path.rglob("*evil*") if found != path]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_a_link_or_device_in_a_tar_is_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "link.tar", "w") as tar:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(ArtifactCorrupt, match="link or a device"):
        archive.unpack(tmp_path / "link.tar", tmp_path / "unpacked")


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as target:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        target.writestr(info, "/etc/passwd")
    with pytest.raises(ArtifactCorrupt, match="is a link"):
        archive.unpack(tmp_path / "link.zip", tmp_path / "unpacked")


def test_an_archive_that_would_fill_the_disk_is_refused(
    artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = archive.pack(artifact, tmp_path / "q.zip")
    monkeypatch.setattr(archive, "MAX_BYTES", 100)
    with pytest.raises(ArtifactCorrupt, match="holds more than"):
        archive.unpack(packed, tmp_path / "unpacked")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_one_name_twice_in_an_archive_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    with tarfile.open(tmp_path / "twice.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(ArtifactCorrupt, match=r"twice|as a file and as a folder"):
        archive.unpack(tmp_path / "twice.tar", tmp_path / "unpacked")


# What MODEL means


def test_a_model_argument_is_a_folder_or_a_reference(
    store: Store, three: list[str], artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(store.home))
    monkeypatch.chdir(artifact.parent)
    assert resolve(str(artifact)) == (artifact, None)
    assert resolve("artifact") == (Path("artifact"), None)
    assert resolve("questions") == (store.get("questions").path, three[-1])
    assert resolve(f"questions:{three[0]}")[1] == three[0]
    Path("questions").mkdir()  # a folder without a manifest does not hide the model
    assert resolve("questions")[1] == three[-1]


def test_a_path_without_an_artifact_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactMissing, match="does not exist"):
        resolve(str(tmp_path / "none"))
    with pytest.raises(ArtifactMissing, match=r"holds no manifest\.json"):
        resolve(str(tmp_path))
    with pytest.raises(ModelNotFound, match="holds none yet"):
        resolve("questions", home=tmp_path)
