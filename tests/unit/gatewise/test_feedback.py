"""Every test here runs on SQLite and on a PostgreSQL that is started for it; what only one of them has says so."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from gatewise import database, feedback
from gatewise.content import pack
from gatewise.database import Database, check_url
from gatewise.errors import DatabaseTooNew, DatabaseUnavailable, FeedbackConflict, InvalidConfig
from gatewise.feedback import FeedbackStore, Label, Submission

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(url: str) -> Iterator[FeedbackStore]:
    opened = FeedbackStore(url)
    yield opened
    opened.close()


def submission(*items: tuple[Any, Label], key: str | None = None, **fields: Any) -> Submission:
    chosen = {"model_name": "m", "model_version": "v1", "labels": {"a": False}, "request_sha256": b"r" * 32} | fields
    return Submission(items=[(pack(sequence), label) for sequence, label in items], key=key, **chosen)


def test_what_was_added_is_collected_in_its_order(store: FeedbackStore) -> None:
    began = datetime.now(UTC)
    series = np.array([[1.0, np.nan]], dtype=np.float32)
    store.add(submission(("b", "x"), (series, ["x", "\0é"]), source="review"))
    store.add(submission((["t", "u"], ["x", "y"]), model_version="v2"))
    store.add(submission(("other", "x"), model_name="another"))
    found = store.collect("m")
    text, readings, tokens = found.items
    assert (text.sequence, text.label, text.source, text.model_version) == ("b", "x", "review", "v1")
    np.testing.assert_array_equal(readings.sequence, series)
    assert readings.label == ["x", "\0é"]
    assert (tokens.sequence, tokens.label, tokens.source, tokens.model_version) == (["t", "u"], ["x", "y"], None, "v2")
    assert tokens.sha256 == pack(["t", "u"]).sha256
    assert began <= text.received_at <= tokens.received_at <= datetime.now(UTC)
    assert (found.repeats, found.conflicts) == (0, 0)


def test_the_latest_label_of_a_sequence_wins_and_conflicts_are_counted(store: FeedbackStore) -> None:
    store.add(submission(("p", "x"), ("q", "x"), ("r", "x"), ("p", "x")))
    store.add(submission(("q", "y"), ("s", "x")))
    store.add(submission(("q", "x"), ("r", "x")))
    found = store.collect("m")
    assert [(item.sequence, item.label) for item in found.items] == [("p", "x"), ("s", "x"), ("q", "x"), ("r", "x")]
    # p came twice, q three times, r twice; q alone had two labels, though its last is its first again.
    assert (found.repeats, found.conflicts) == (4, 1)


def test_only_what_came_since_a_time_is_collected(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)

    class Clock(datetime):
        minutes = 0

        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return noon + timedelta(minutes=cls.minutes)

    monkeypatch.setattr(feedback, "datetime", Clock)
    for minutes, text in ((0, "a"), (1, "b"), (2, "c")):
        Clock.minutes = minutes
        store.add(submission((text, "x")))
    since = (noon + timedelta(minutes=1)).astimezone()
    assert [item.sequence for item in store.collect("m", since).items] == ["b", "c"]
    assert [item.received_at for item in store.collect("m", since).items] == [
        noon + timedelta(minutes=1),
        noon + timedelta(minutes=2),
    ]
    with pytest.raises(InvalidConfig, match="has no time zone"):
        store.collect("m", datetime(2026, 3, 1))


def test_a_key_is_stored_once_and_answered_the_same(store: FeedbackStore) -> None:
    first = store.add(submission(("p", "x"), ("q", "z"), key="k", labels={"x": False, "z": True}))
    assert (first.stored, first.labels) == (2, {"x": False, "z": True})
    again = submission(("p", "x"), ("q", "z"), key="k", labels={"x": False, "z": False}, model_version="v2")
    assert store.add(again) == first
    assert store.find("m", "k", b"r" * 32) == first
    assert store.find("m", "l", b"r" * 32) is None
    assert store.find("m", None, b"r" * 32) is None
    assert store.collect("m").repeats == 0
    assert store.add(submission(("p", "x"), key="k", model_name="another")).stored == 1


def test_a_key_with_other_content_is_a_conflict_and_changes_nothing(store: FeedbackStore) -> None:
    store.add(submission(("p", "x"), key="k"))
    with pytest.raises(FeedbackConflict, match="this key and other content"):
        store.add(submission(("p", "y"), key="k", request_sha256=b"s" * 32))
    assert [item.label for item in store.collect("m").items] == ["x"]


def test_a_submission_is_stored_whole_or_not_at_all(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = feedback._json, iter(range(3))

    def fail_at_the_second_item(value: object) -> str:
        if next(calls) == 2:  # the submission's labels came first
            raise ArithmeticError
        return real(value)

    monkeypatch.setattr(feedback, "_json", fail_at_the_second_item)
    with pytest.raises(ArithmeticError):
        store.add(submission(("p", "x"), ("q", "x"), key="k"))
    monkeypatch.undo()
    assert store.collect("m").items == []
    assert store.find("m", "k", b"r" * 32) is None


def _write_many(url: str, name: str, barrier: Any) -> None:
    barrier.wait(60)  # so that both open, and migrate, an empty database at once
    store = FeedbackStore(url)
    for i in range(50):
        store.add(submission((f"{name} {i}", "x"), key=f"{name} {i}"))
        store.add(submission((f"shared {i}", "x"), key=f"shared {i}"))
    store.close()


def test_two_processes_that_start_and_write_at_once_lose_nothing(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    writers = [context.Process(target=_write_many, args=(url, name, barrier)) for name in ("one", "two")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(120)
    assert [writer.exitcode for writer in writers] == [0, 0]
    store = FeedbackStore(url)
    found = store.collect("m")
    store.close()
    assert {item.sequence for item in found.items} == {f"{n} {i}" for n in ("one", "two", "shared") for i in range(50)}
    assert found.repeats == 0


def test_threads_that_open_one_database_at_once_migrate_it_once(url: str) -> None:
    barrier = threading.Barrier(4)
    failed: list[BaseException] = []

    def open_it() -> None:
        barrier.wait()
        try:
            FeedbackStore(url).close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("password", ["", "postgres", "ChangeMe", "gatewise"])
def test_a_password_that_everybody_tries_first_is_refused(password: str) -> None:
    with pytest.raises(InvalidConfig, match="GATEWISE_DATABASE: its password is one that everybody tries first"):
        check_url(f"postgresql://user:{password}@host/name")


def test_a_database_of_a_later_gatewise_is_refused_by_name_and_left_as_it_is(url: str, store: FeedbackStore) -> None:
    store.add(submission(("p", "x")))
    engine = sa.create_engine(check_url(url))
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "0002"
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseTooNew, match="at revision 9999, and the last that this Gatewise knows is 0002"):
        Database(url)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one() == "9999"
    engine.dispose()
    assert len(store.collect("m").items) == 1


def test_the_tables_of_the_code_are_those_of_the_migrations(url: str, store: FeedbackStore) -> None:
    engine = sa.create_engine(check_url(url))
    inspector = sa.inspect(engine)
    for name, table in feedback._tables.tables.items():
        assert {column["name"] for column in inspector.get_columns(name)} == set(table.columns.keys())
    engine.dispose()


def test_sqlite_waits_for_the_disk_at_every_commit(tmp_path: Path) -> None:
    opened = Database(f"sqlite:///{tmp_path / 'feedback.db'}")
    with opened.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar_one() == 2  # FULL
    opened.close()


def test_a_locked_file_is_said_to_be_locked_and_what_was_stored_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "WAIT_SECONDS", 0.1)
    path = tmp_path / "feedback.db"
    store = FeedbackStore(f"sqlite:///{path}")
    store.add(submission(("p", "x")))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(DatabaseUnavailable, match="the database is locked by another writer; try again later"):
        store.add(submission(("q", "x")))
    assert [item.sequence for item in store.collect("m").items] == ["p"]  # reading goes on
    other.execute("ROLLBACK")
    other.close()
    store.add(submission(("q", "x")))
    assert [item.sequence for item in store.collect("m").items] == ["p", "q"]
    store.close()


def test_a_full_disk_is_said_to_be_full_and_what_was_stored_stays(tmp_path: Path) -> None:
    # A limit on its pages is to SQLite what a full disk is: the same error from the same place.
    store = FeedbackStore(f"sqlite:///{tmp_path / 'feedback.db'}")
    store.add(submission(("p", "x")))
    with store._database.reading() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    noise = np.random.default_rng(0).normal(size=(10_000, 1)).astype(np.float32)
    with pytest.raises(DatabaseUnavailable, match="the database has no room on its disk"):
        store.add(submission(("q", "x"), (noise, "x")))
    assert [item.sequence for item in store.collect("m").items] == ["p"]
    store.close()


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnavailable, match="cannot be opened"):
        Database(f"sqlite:///{tmp_path / 'file' / 'feedback.db'}")


def test_a_postgresql_that_is_not_there_is_said_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable) as error:
        Database("postgresql://user:h1dden@127.0.0.1:1/name")
    assert "h1dden" not in error.value.message


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "feedback.db",
        "sqlite://",
        "sqlite:///relative.db",
        "mysql://h/d",
        "postgresql+psycopg2://h/d",
        "sqlite:///:memory:",
    ],
)
def test_a_url_that_can_hold_no_feedback_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidConfig, match=r"^GATEWISE_DATABASE: .*; write sqlite:////an/absolute/path.db or"):
        check_url(wrong)


def test_an_sqlite_file_lies_beside_the_models_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENTOML_HOME", str(tmp_path / "home"))
    FeedbackStore().close()
    assert (tmp_path / "home" / "gatewise" / "feedback" / "feedback.db").is_file()


def test_a_writer_killed_after_add_returned_has_stored_it(url: str) -> None:
    code = (
        "import os, signal, sys; from tests.unit.gatewise.test_feedback import *; store = FeedbackStore(sys.argv[1])\n"
        "store.add(submission(('p', 'x'))); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, url], cwd=ROOT, capture_output=True, timeout=60)
    assert done.returncode == -9, done.stderr
    store = FeedbackStore(url)
    assert [item.sequence for item in store.collect("m").items] == ["p"]
    store.close()
