"""Labels that come back from production: the service writes them, a retraining reads them.

A submission is what came in one request, stored whole or not at all. Import this late, as `gatewise.database`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa

from gatewise import content
from gatewise.content import Content
from gatewise.database import Database, from_microseconds, to_microseconds
from gatewise.errors import FeedbackConflict, InvalidConfig
from gatewise.store import Store

Label = str | list[str]

_tables = sa.MetaData()
_submissions = sa.Table(
    "feedback_submissions",
    _tables,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("model_name", sa.String),
    sa.Column("model_version", sa.String),
    sa.Column("received_us", sa.BigInteger),
    sa.Column("source", sa.String),
    sa.Column("client_key", sa.String),
    sa.Column("request_sha256", sa.LargeBinary),
    sa.Column("item_count", sa.Integer),
    sa.Column("labels", sa.Text),
)
_items = sa.Table(
    "feedback_items",
    _tables,
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("submission_id", sa.BigInteger),
    sa.Column("form", sa.String),
    sa.Column("channels", sa.Integer),
    sa.Column("sequence", sa.LargeBinary),
    sa.Column("sequence_sha256", sa.LargeBinary),
    sa.Column("label", sa.Text),
)


@dataclass(frozen=True)
class Submission:
    """Checked feedback.

    Attributes:
        items: each sequence, and its label or the labels of its steps.
        labels: every label of the items, and whether the model that checked them did not know it.
        key: chosen by the client, once for each submission to a model; None where it will not repeat it.
        request_sha256: of the request, by which a repeated key is known to mean the same.
    """

    model_name: str
    model_version: str
    items: Sequence[tuple[Content, Label]]
    labels: dict[str, bool]
    request_sha256: bytes
    source: str | None = None
    key: str | None = None


@dataclass(frozen=True)
class Receipt:
    """What was stored, whether now or when the same key came first; the fields are those of `Submission`."""

    model_name: str
    model_version: str
    stored: int
    labels: dict[str, bool]


@dataclass(frozen=True)
class LabelledSequence:
    """A sequence with the latest label that it was given, or with the labels of its steps."""

    sequence: content.Sequence
    label: Label
    sha256: bytes
    received_at: datetime
    source: str | None
    model_version: str


@dataclass(frozen=True)
class Collected:
    """What a model's feedback says.

    Attributes:
        items: each sequence once, by the time of its latest label, the earliest first.
        repeats: items left out, since a later one has the same sequence.
        conflicts: sequences that were given different labels.
    """

    items: list[LabelledSequence]
    repeats: int
    conflicts: int


class FeedbackStore:
    """The feedback in a database. Threads and processes may share it.

    Args:
        url: of the database; by default a file in the folder of the models.
    Raises:
        InvalidConfig, DatabaseTooNew, DatabaseUnavailable: as `Database`.
    """

    def __init__(self, url: str | None = None) -> None:
        self._database = Database(default_url() if url is None else url)

    def close(self) -> None:
        """Let the database go."""
        self._database.close()

    def find(self, model_name: str, key: str | None, request_sha256: bytes) -> Receipt | None:
        """The receipt of an earlier submission with this key; None where there is none.

        Raises:
            FeedbackConflict: the key was used for something else.
            DatabaseUnavailable: it cannot be read now.
        """
        if key is None:
            return None
        asked = sa.select(_submissions).where(_submissions.c.model_name == model_name, _submissions.c.client_key == key)
        with self._database.reading() as connection:
            row = connection.execute(asked).one_or_none()
        if row is None:
            return None
        if bytes(row.request_sha256) != request_sha256:
            raise FeedbackConflict(
                "key: feedback with this key and other content is stored already; give each submission its own key"
            )
        return Receipt(row.model_name, row.model_version, row.item_count, orjson.loads(row.labels))

    def add(self, submission: Submission) -> Receipt:
        """Store a submission; it is on the disk when this returns, and stored once however often its key comes.

        Raises:
            FeedbackConflict: as `find`.
            DatabaseUnavailable: it cannot be stored now.
        """
        try:
            self._insert(submission)
        except sa.exc.IntegrityError:
            earlier = self.find(submission.model_name, submission.key, submission.request_sha256)
            if earlier is None:
                raise
            return earlier
        return Receipt(submission.model_name, submission.model_version, len(submission.items), submission.labels)

    def collect(self, model_name: str, since: datetime | None = None) -> Collected:
        """Read a model's feedback, whichever of its versions checked it.

        Args:
            since: with a time zone; what came earlier is left out. To read what is new since a last time, ask from some
                minutes before it: what was being stored then may have come after it was read.
        Raises:
            DatabaseUnavailable: it cannot be read now.
        """
        asked = (
            sa.select(_items, _submissions.c.received_us, _submissions.c.source, _submissions.c.model_version)
            .join(_submissions, _items.c.submission_id == _submissions.c.id)
            .where(_submissions.c.model_name == model_name)
            .order_by(_items.c.id)
        )
        if since is not None:
            asked = asked.where(_submissions.c.received_us >= _microseconds(since))
        latest: dict[bytes, Any] = {}
        in_conflict: set[bytes] = set()
        repeats = 0
        with self._database.reading() as connection:
            for row in connection.execution_options(yield_per=1000).execute(asked):
                sha256 = bytes(row.sequence_sha256)
                # Taken out first: what is put in again comes last.
                earlier = latest.pop(sha256, None)
                latest[sha256] = row
                if earlier is not None:
                    repeats += 1
                    if earlier.label != row.label:
                        in_conflict.add(sha256)
        return Collected([_labelled(row) for row in latest.values()], repeats, len(in_conflict))

    def _insert(self, submission: Submission) -> None:
        head = {
            "model_name": submission.model_name,
            "model_version": submission.model_version,
            "received_us": _microseconds(datetime.now(UTC)),
            "source": submission.source,
            "client_key": submission.key,
            "request_sha256": submission.request_sha256,
            "item_count": len(submission.items),
            "labels": _json(submission.labels),
        }
        with self._database.writing() as connection:
            number = connection.execute(sa.insert(_submissions).values(head).returning(_submissions.c.id)).scalar_one()
            rows = [
                {
                    "submission_id": number,
                    "form": packed.form,
                    "channels": packed.channels,
                    "sequence": packed.data,
                    "sequence_sha256": packed.sha256,
                    "label": _json(label),
                }
                for packed, label in submission.items
            ]
            connection.execute(sa.insert(_items), rows)


def default_url() -> str:
    """A file of SQLite in the folder of the models."""
    path = Store().home / "gatewise" / "feedback" / "feedback.db"
    return sa.URL.create("sqlite", database=str(path)).render_as_string()


def _labelled(row: Any) -> LabelledSequence:
    return LabelledSequence(
        sequence=content.unpack(row.form, row.channels, row.sequence),
        label=orjson.loads(row.label),
        sha256=bytes(row.sequence_sha256),
        received_at=from_microseconds(row.received_us),
        source=row.source,
        model_version=row.model_version,
    )


def _microseconds(when: datetime) -> int:
    if when.tzinfo is None:
        raise InvalidConfig(f"since: {when.isoformat()} has no time zone; add one, such as +00:00")
    return to_microseconds(when)


def _json(value: object) -> str:
    # A label may hold a zero character, which PostgreSQL takes in no text; JSON escapes it.
    return orjson.dumps(value).decode()
