"""The database beside the models: SQLite (WAL) in the store's folder, or PostgreSQL by URL; Alembic keeps its schema.

Import this late: a process that only predicts has no use for SQLAlchemy.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from gatewise.durable import exclusive
from gatewise.errors import DatabaseTooNew, DatabaseUnavailable, InvalidConfig, ModelConflict

logger = logging.getLogger(__name__)

# How long a statement waits for another writer, or for PostgreSQL, before it is given up.
WAIT_SECONDS = 5
_LOCK_ID = 0x6761746577697365  # any number that nobody else locks: "gatewise" in ASCII
# What examples and images come with. None, no password at all, is for servers that know their users otherwise.
_KNOWN_TO_ALL = ("", "postgres", "password", "secret", "admin", "changeme", "changethis", "gatewise", "example")
_POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Database:
    """A database whose schema is this code's. Threads and processes may share it.

    Args:
        url: `sqlite:////an/absolute/path` or `postgresql://user:password@host/name`.
    Raises:
        InvalidConfig: the URL is of neither, or has no file or database.
        DatabaseTooNew: a later Gatewise has changed the schema.
        DatabaseUnavailable: it cannot be opened now.
    """

    def __init__(self, url: str) -> None:
        self._url = check_url(url)
        self._is_sqlite = self._url.drivername == "sqlite"
        self._engine = _engine(self._url)
        try:
            self._migrate()
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Let all connections go."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A connection to read by.

        Raises:
            DatabaseUnavailable: the database failed in the block.
        """
        with _explained(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction: committed to the disk when the block has ended, undone when it raises.

        Raises:
            DatabaseUnavailable: the database failed; of the block nothing is kept, unless the connection broke at the
                very commit.
            sqlalchemy.exc.IntegrityError: a constraint was broken.
        """
        with _explained(), self._engine.begin() as connection:
            if self._is_sqlite:
                # The lock at once: a transaction that reads first and then finds another writer could not wait for it.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection

    def _migrate(self) -> None:
        with self._one_at_a_time() as connection:
            config = _alembic(connection)
            script = ScriptDirectory.from_config(config)
            known = {revision.revision for revision in script.walk_revisions()}
            current = MigrationContext.configure(connection).get_current_heads()
            if not known.issuperset(current):
                raise DatabaseTooNew(
                    f"the database is at revision {', '.join(current)}, and the last that this Gatewise knows is "
                    f"{script.get_current_head()}; run the later Gatewise that changed it, or name another database"
                )
            command.upgrade(config, "head")

    @contextmanager
    def _one_at_a_time(self) -> Iterator[sa.Connection]:
        """A transaction while no other process migrates."""
        with self._file_lock(), self.writing() as connection:
            if self._is_sqlite:
                yield connection
                return
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
            yield connection

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        if not self._is_sqlite:
            yield
            return
        assert self._url.database is not None
        path = Path(self._url.database)
        try:
            with exclusive(path.with_name(f"{path.name}.lock")):
                # It stays so for good. Two processes that switch at once fail without waiting: hence the lock.
                with self.reading() as connection:
                    connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                yield
        except (OSError, ModelConflict) as error:
            raise DatabaseUnavailable(f"the database cannot be opened: {error}") from None


def to_microseconds(when: datetime) -> int:
    """A time as the tables hold it, in microseconds since 1970, UTC: SQLite has no type for times."""
    return (when - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(microseconds: int) -> datetime:
    """The time that `to_microseconds` was given."""
    return _EPOCH + timedelta(microseconds=microseconds)


def check_url(url: str) -> sa.URL:
    """Raise InvalidConfig unless the URL names a file of SQLite or a database of PostgreSQL."""
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise InvalidConfig(f"GATEWISE_DATABASE: not a URL; {_MEND}") from None
    if parsed.drivername == "sqlite":
        if parsed.database and Path(parsed.database).is_absolute():
            return parsed
        raise InvalidConfig(f"GATEWISE_DATABASE: SQLite needs the absolute path of a file; {_MEND}")
    if parsed.drivername in _POSTGRESQL:
        if str(parsed.password).lower() in _KNOWN_TO_ALL:
            raise InvalidConfig("GATEWISE_DATABASE: its password is one that everybody tries first; choose another")
        return parsed.set(drivername="postgresql+psycopg")
    raise InvalidConfig(f"GATEWISE_DATABASE: {parsed.drivername!r} is not known; {_MEND}")


_MEND = "write sqlite:////an/absolute/path.db or postgresql://user:password@host/name"


def _engine(url: sa.URL) -> sa.Engine:
    if url.drivername == "sqlite":
        engine = sa.create_engine(url, connect_args={"timeout": WAIT_SECONDS})
        sa.event.listen(engine, "connect", _configure_sqlite)
        return engine
    arguments = {"connect_timeout": str(WAIT_SECONDS), "options": f"-c statement_timeout={WAIT_SECONDS}s"}
    missing = {name: value for name, value in arguments.items() if name not in url.query}
    return sa.create_engine(url, connect_args=missing, pool_pre_ping=True)


def _configure_sqlite(connection: Any, record: object) -> None:
    # FULL: in WAL mode a commit is otherwise not on the disk when it returns.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _alembic(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _explained() -> Iterator[None]:
    """Say what failed without the driver's words, which may name hosts and users; the log has them."""
    try:
        yield
    except sa.exc.IntegrityError:
        raise
    except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
        logger.error("the database failed: %s", error)
        raise DatabaseUnavailable(f"the database {_reason(str(error))}; try again later") from None


def _reason(said: str) -> str:
    known = {
        "database is locked": "is locked by another writer",
        "disk is full": "has no room on its disk",
        "No space left": "has no room on its disk",
        "readonly database": "cannot be written",
    }
    return next((words for sign, words in known.items() if sign in said), "does not answer as it should")
