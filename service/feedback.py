"""The way of `POST /feedback`: bytes -> checked by the live model -> the database, in a thread of its own.

Predictions never wait for it: the event loop hands a body over and takes an answer back, one thread does the rest, and
what may wait for that thread is bounded. The database and its libraries are opened when the first feedback comes, or at
the start where GATEWISE_DATABASE names one; a worker that only predicts never loads them.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import logging
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from gatewise import schema
from gatewise.errors import DatabaseUnavailable, Detail, GatewiseError, InvalidSequence, Loc, MissingDependency
from service.errors import InvalidFeedback, InvalidRequest, NotReady, QueueFull, TimedOut
from service.payload import MAX_DETAILS, encode_one, load_json, summary
from service.registry import LiveModel
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from gatewise import content
    from gatewise.feedback import FeedbackStore, Label, Receipt

logger = logging.getLogger("gatewise.service")

MAX_LABEL_LENGTH = 200
_FIELDS = ("items", "source", "key")
_ITEM_FIELDS = ("sequence", "label")
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
_EXAMPLE = '{"items": [{"sequence": ..., "label": ...}]}'


@dataclass(frozen=True)
class FeedbackRequest:
    """A body that has the promised form; its items are still raw."""

    items: list[dict[str, Any]]
    source: str | None
    key: str | None
    sha256: bytes


def check(settings: ServiceSettings) -> None:
    """Refuse a database that cannot be meant, before a worker starts; whether it answers is seen later.

    Raises:
        InvalidConfig: its URL is wrong.
        MissingDependency: a database is named, and what speaks to it is not installed.
    """
    if settings.database is not None:
        _require_packages()
        from gatewise.database import check_url

        check_url(settings.database)


class Feedback:
    """One worker's way to the database.

    Args:
        settings: `database` is opened at once, in the background, where it is set.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._store: FeedbackStore | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gatewise-feedback")
        self._failed_at = -1.0
        self._waiting_bytes = 0
        self._is_closed = False
        if settings.database is not None:
            self._thread.submit(self._open_early)

    async def answer(self, body: bytes | bytearray, model: LiveModel, deadline: float) -> bytes:
        """Check and store a body; return what to answer.

        Args:
            deadline: by the loop's clock.
        Raises:
            GatewiseError: `errors.STATUS` says which; nothing was stored, unless it is TimedOut.
        """
        if self._is_closed:
            raise NotReady("the service is stopping")
        # A quarter, so that a database that hangs leaves predictions their room; one body is always taken.
        if self._waiting_bytes and self._waiting_bytes + len(body) > self._settings.max_pending_bytes // 4:
            raise QueueFull("as much feedback waits to be stored as the service holds; try again", 1)
        self._waiting_bytes += len(body)
        asked_at = time.monotonic()
        try:
            async with asyncio.timeout_at(deadline):
                # What has not begun when the time is up is never begun: the cancelled future leaves the thread's queue.
                return await asyncio.get_running_loop().run_in_executor(self._thread, self._keep, body, model, asked_at)
        except TimeoutError:
            raise TimedOut(
                "the feedback was not stored in time, and it may be yet; send it again with the same key"
            ) from None
        finally:
            self._waiting_bytes -= len(body)

    def close(self) -> None:
        """Let the database go, after what is being stored."""
        self._is_closed = True
        self._thread.submit(self._close_store)
        self._thread.shutdown(wait=False)

    # The rest runs in the thread.

    def _keep(self, body: bytes | bytearray, model: LiveModel, asked_at: float) -> bytes:
        if asked_at < self._failed_at:
            # Its wait was the database's: each that queued behind would wait as long again.
            raise DatabaseUnavailable("the database failed while this waited for it; try again later")
        request = parse(body, self._settings.max_sequences)
        try:
            store = self._opened()
            receipt = store.find(model.identity["name"], request.key, request.sha256)
            if receipt is None:
                receipt = self._add(store, model, request)
        except DatabaseUnavailable:
            self._failed_at = time.monotonic()
            raise
        return word(receipt)

    @staticmethod
    def _add(store: FeedbackStore, model: LiveModel, request: FeedbackRequest) -> Receipt:
        from gatewise.feedback import Submission

        items = pack_items(model, request)
        known = set(model.card["labels"])
        return store.add(
            Submission(
                model_name=model.identity["name"],
                model_version=model.identity["version"],
                items=items,
                labels={label: label not in known for _, given in items for label in _labels(given)},
                request_sha256=request.sha256,
                source=request.source,
                key=request.key,
            )
        )

    def _opened(self) -> FeedbackStore:
        if self._store is None:
            _require_packages()
            from gatewise.feedback import FeedbackStore

            self._store = FeedbackStore(self._settings.database)
        return self._store

    def _open_early(self) -> None:
        try:
            self._opened()
        except GatewiseError as error:
            # Predictions go on without it, and each feedback tries again.
            logger.error("feedback cannot be stored: %s", error.message)

    def _close_store(self) -> None:
        if self._store is not None:
            self._store.close()


def parse(body: bytes | bytearray, max_items: int) -> FeedbackRequest:
    """Read a request's body.

    Raises:
        MalformedBody: it is not JSON in UTF-8, with the place.
        InvalidRequest: it is, and is not a request.
    """
    raw = load_json(body, _EXAMPLE)
    details = list(_wrong_fields(raw, max_items))
    if details:
        raise InvalidRequest(summary(details), details=details[:MAX_DETAILS])
    # Of what was said rather than of its bytes: neither white space nor the order of the fields makes other feedback.
    said = orjson.dumps([raw["items"], raw.get("source")], option=orjson.OPT_SORT_KEYS)
    return FeedbackRequest(raw["items"], raw.get("source"), raw.get("key"), hashlib.sha256(said).digest())


def pack_items(model: LiveModel, request: FeedbackRequest) -> list[tuple[content.Content, Label]]:
    """Hold every item to the live model's contract, as `POST /predict` would.

    Raises:
        InvalidFeedback: at least one is wrong; `details` has the places of the first twenty.
    """
    from gatewise.content import pack

    known = frozenset(model.card["labels"])
    packed = []
    details: list[Detail] = []
    for i, item in enumerate(request.items):
        loc = ("items", i)
        try:
            sequence = _read_sequence(model, item["sequence"], (*loc, "sequence"))
        except InvalidSequence as error:
            details += error.details
        else:
            steps = len(sequence) if model.card["task"] == "step" else None
            wrong = list(_wrong_label(item["label"], steps, known, (*loc, "label")))
            details += wrong
            if not wrong:
                packed.append((pack(sequence), item["label"]))
        if len(details) >= MAX_DETAILS:
            break
    if details:
        raise InvalidFeedback(summary(details), details=details[:MAX_DETAILS])
    return packed


def word(receipt: Receipt) -> bytes:
    """The answer's body."""
    return orjson.dumps(
        {
            "stored": receipt.stored,
            "labels": [{"label": label, "is_new": is_new} for label, is_new in receipt.labels.items()],
            "model": {"name": receipt.model_name, "version": receipt.model_version},
        }
    )


def _read_sequence(model: LiveModel, item: Any, loc: Loc) -> content.Sequence:
    """The sequence as it came: the encoder may keep a part of it, and another model's another part."""
    tokens = encode_one(model, item, loc).tokens
    if model.card["kind"] == "series":
        return schema.parse_series(item, model.channels, allow_missing=model.card["input"]["allow_missing"], loc=loc)
    return schema.parse_text(item, loc) if tokens is None else schema.parse_tokens(item, loc)


def _wrong_label(label: object, steps: int | None, known: frozenset[str], loc: Loc) -> Iterator[Detail]:
    if steps is None:
        if problem := _problem(label, known):
            yield {"loc": list(loc), "message": problem}
    elif not isinstance(label, list):
        yield {"loc": list(loc), "message": "expected a list of labels, one for each step"}
    elif len(label) != steps:
        yield {"loc": list(loc), "message": f"has {len(label)} labels for {steps} steps; send one for each"}
    else:
        for t, one in enumerate(label):
            if problem := _problem(one, known):
                yield {"loc": [*loc, t], "message": problem}


def _problem(label: object, known: frozenset[str]) -> str | None:
    if not isinstance(label, str):
        return "expected a label, which is a string"
    if label in known:
        return None
    if not label or label != label.strip():
        return "a new label is not empty, and has no white space around it"
    if len(label) > MAX_LABEL_LENGTH:
        return f"has {len(label)} characters, and a new label has {MAX_LABEL_LENGTH} at most"
    return None


def _labels(given: Label) -> list[str]:
    return [given] if isinstance(given, str) else given


def _wrong_fields(raw: object, max_items: int) -> Iterator[Detail]:
    if not isinstance(raw, dict):
        yield {"loc": [], "message": f"expected an object, {_EXAMPLE}"}
        return
    yield from _wrong_items(raw, max_items)
    yield from _unknown(raw, _FIELDS, ())
    source, key = raw.get("source"), raw.get("key")
    if source is not None and not (isinstance(source, str) and 0 < len(source) <= 200 and source.isprintable()):
        yield {"loc": ["source"], "message": "expected a string of 1 to 200 printable characters"}
    if key is not None and not (isinstance(key, str) and _KEY.fullmatch(key)):
        yield {"loc": ["key"], "message": "expected a string of 1 to 200 ASCII characters without white space"}


def _wrong_items(raw: dict[str, Any], max_items: int) -> Iterator[Detail]:
    items = raw.get("items")
    if "items" not in raw:
        yield {"loc": ["items"], "message": f"missing; send {_EXAMPLE}"}
    elif not isinstance(items, list):
        yield {"loc": ["items"], "message": "expected a list of items, even for one"}
    elif not items:
        yield {"loc": ["items"], "message": "is empty; send at least one item"}
    elif len(items) > max_items:
        message = f"has {len(items)} items, and this service takes {max_items} in a request; split it"
        yield {"loc": ["items"], "message": message}
    else:
        for i, item in enumerate(items):
            yield from _wrong_item(item, ("items", i))


def _wrong_item(item: object, loc: Loc) -> Iterator[Detail]:
    if not isinstance(item, dict):
        yield {"loc": list(loc), "message": 'expected an object, {"sequence": ..., "label": ...}'}
        return
    for name in _ITEM_FIELDS:
        if name not in item:
            yield {"loc": [*loc, name], "message": "missing"}
    yield from _unknown(item, _ITEM_FIELDS, loc)


def _unknown(fields: dict[str, Any], known: tuple[str, ...], loc: Loc) -> Iterator[Detail]:
    for name in fields:
        if name not in known:
            yield {"loc": [*loc, name[:100]], "message": f"no such field; known are {', '.join(known)}"}


def _require_packages() -> None:
    for package in ("sqlalchemy", "alembic", "psycopg"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency(f"feedback needs {package}: pip install 'gatewise[feedback]'")
