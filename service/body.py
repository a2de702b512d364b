"""Reading a request's body: what it must be called, how large it may be, and how long it may take."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any, Literal

from service.deadlines import Deadlines
from service.errors import BodyTimeout, BodyTooLarge, ClientLeft, QueueFull, UnsupportedMediaType

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MediaType = Literal["application/json", "application/x-npy", "application/octet-stream"]
_UTF8 = frozenset({"utf-8", "utf8", "us-ascii"})


def announced_size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The body's length by its header; 0 where none is said."""
    return next((int(value) for name, value in headers if name == b"content-length" and value.isdigit()), 0)


class BodyReader:
    """Reads the bodies of one worker, and bounds what they hold of its memory together."""

    def __init__(self, max_body_bytes: int, max_pending_bytes: int, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._max_body = max_body_bytes
        self._max_pending = max_pending_bytes
        self.pending_bytes = 0

    async def read(
        self,
        headers: Iterable[tuple[bytes, bytes]],
        receive: Receive,
        deadline: float,
        media_types: Collection[MediaType],
    ) -> tuple[bytearray, MediaType]:
        """Return the body and what it is; give its length to `release` when the request is over.

        Args:
            headers: as ASGI has them, names in lower case.
            deadline: by the loop's clock.
            media_types: what the body may be; JSON is always among them.
        Raises:
            UnsupportedMediaType, BodyTooLarge, QueueFull, BodyTimeout, ClientLeft: as their names say.
        """
        media_type = self._check_headers(headers, media_types)
        body = bytearray()
        try:
            with self._deadlines.limit(deadline):
                while await self._read_some(body, receive):
                    pass
        except BaseException as error:
            self.release(len(body))
            if isinstance(error, TimeoutError):
                raise BodyTimeout(f"the body did not arrive in time; {len(body)} bytes had come") from None
            raise
        return body, media_type

    def has_room(self, size: int) -> bool:
        """Whether a body of this size may be held beside the others."""
        return size <= self._max_body and self.pending_bytes + size <= self._max_pending

    def hold(self, size: int) -> None:
        """Say that something else of this size is held, until `release`."""
        self.pending_bytes += size

    def release(self, size: int) -> None:
        """Say that a body of this size is held no longer."""
        self.pending_bytes -= size

    async def _read_some(self, body: bytearray, receive: Receive) -> bool:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientLeft("the client left while it sent the body")
        chunk = message.get("body", b"")
        body += chunk
        self.pending_bytes += len(chunk)
        if len(body) > self._max_body:
            raise self._too_large(f"more than {self._max_body}")
        if self.pending_bytes > self._max_pending:
            raise QueueFull("the service holds as many requests as its memory allows; try again", 1)
        return bool(message.get("more_body", False))

    def _check_headers(self, headers: Iterable[tuple[bytes, bytes]], media_types: Collection[MediaType]) -> MediaType:
        media_type: MediaType = "application/json"
        for name, value in headers:
            if name == b"content-type":
                media_type = _media_type(value, media_types)
            elif name == b"content-encoding" and value.lower() not in (b"", b"identity"):
                raise UnsupportedMediaType(
                    f"content-encoding {value.decode('latin-1')!r} is not taken; send the body as it is"
                )
            elif name == b"content-length" and value.isdigit() and int(value) > self._max_body:
                raise self._too_large(str(int(value)))
        return media_type

    def _too_large(self, size: str) -> BodyTooLarge:
        return BodyTooLarge(f"the body has {size} bytes, and this service takes {self._max_body}; split the request")


def _media_type(header: bytes, media_types: Collection[MediaType]) -> MediaType:
    if header == b"application/json":
        return "application/json"
    media_type, *parameters = (part.strip() for part in header.decode("latin-1").split(";"))
    named = next((one for one in media_types if one == media_type.lower()), None)
    if named is None:
        raise UnsupportedMediaType(
            f"content-type {media_type!r} is not taken; add -H 'content-type: application/json' and send JSON"
        )
    if named != "application/json":
        return named
    for parameter in parameters:
        name, _, charset = parameter.partition("=")
        if name.strip().lower() == "charset" and charset.strip("\"' ").lower() not in _UTF8:
            raise UnsupportedMediaType(f"charset {charset!r} is not taken; JSON is sent in UTF-8")
    return "application/json"
