"""The routes that move the production pointer: `POST /admin/promote` and `POST /admin/rollback`, for who has the token.

They answer once the pointer has moved; the workers follow it as they follow one that the command line moved.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import orjson

from gatewise.errors import ArtifactError, Detail, ModelConflict, ModelNotFound
from service.errors import Forbidden, InvalidRequest, Unauthorized
from service.payload import load_json, summary
from service.settings import ServiceSettings

if TYPE_CHECKING:
    from gatewise.store import ModelVersion, Store

logger = logging.getLogger("gatewise.service")

PROMOTE, ROLLBACK = "/admin/promote", "/admin/rollback"
ROUTES = (PROMOTE, ROLLBACK)
_FIELDS = {PROMOTE: ("model", "version"), ROLLBACK: ("model",)}


class Admin:
    """What who has the token may do.

    Args:
        settings: with an `admin_token`.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        assert settings.admin_token is not None
        self._token = settings.admin_token.get_secret_value().encode()
        self._model, self._shared = settings.model or "", settings.store

    def check(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Let nobody pass who does not bring the token.

        Args:
            headers: as ASGI has them, names in lower case.
        Raises:
            Unauthorized: no token came.
            Forbidden: another did.
        """
        given = next((value for name, value in headers if name == b"authorization"), b"")
        scheme, _, token = given.partition(b" ")
        if scheme.lower() != b"bearer":
            raise Unauthorized("this route needs the header `authorization: Bearer TOKEN`, with GATEWISE_ADMIN_TOKEN")
        if not hmac.compare_digest(token.strip(), self._token):
            raise Forbidden("the token is not GATEWISE_ADMIN_TOKEN")

    async def answer(self, route: str, body: bytes | bytearray) -> bytes:
        """Do what a body asks for, and word what was done.

        Raises:
            MalformedBody, InvalidRequest: the body is not a request.
            ModelNotFound: there is no such version, or the service serves another model.
            ModelConflict: the version is damaged, nothing was before, or this service does not follow production.
            StoreUnavailable: the shared store cannot be reached.
        """
        fields = _read(route, body)
        name = self._followed_name()
        named, _, version = fields.get("model", name).partition(":")
        if named != name:
            raise ModelNotFound(f"model: this service serves {name}, not {named[:100]!r}")
        if route == ROLLBACK:
            return await asyncio.to_thread(self._move, route, name, lambda store: store.rollback(name))
        reference = f"{name}:{version or fields['version']}"
        return await asyncio.to_thread(self._move, route, name, lambda store: store.promote(reference))

    def _followed_name(self) -> str:
        name, _, wanted = self._model.partition(":")
        if wanted != "production":
            raise ModelConflict(f"GATEWISE_MODEL is {self._model}, which no promotion moves; serve NAME:production")
        return name

    def _move(self, route: str, name: str, move: Callable[[Store], ModelVersion]) -> bytes:
        from gatewise.store import Store

        store = Store(shared=self._shared)
        try:
            version = move(store)
        except ArtifactError as error:
            raise ModelConflict(error.message) from None
        previous = store.history(name)[0].previous if version.changed else version.version
        logger.info("%s: the production pointer of %s went from %s to %s", route, name, previous, version.version)
        model = {"name": name, "version": version.version}
        return orjson.dumps({"model": model, "previous": previous, "changed": version.changed})


def _read(route: str, body: bytes | bytearray) -> dict[str, str]:
    raw = load_json(body, '{"version": "..."}') if body or route == PROMOTE else {}
    details = list(_wrong_fields(route, raw))
    if details:
        raise InvalidRequest(summary(details), details=details)
    fields: dict[str, str] = raw
    return fields


def _wrong_fields(route: str, raw: Any) -> Iterable[Detail]:
    known = _FIELDS[route]
    if not isinstance(raw, dict):
        yield {"loc": [], "message": f"expected an object with {' or '.join(known)}"}
        return
    for name, value in raw.items():
        if name not in known:
            yield {"loc": [name[:100]], "message": f"no such field; known are {', '.join(known)}"}
        elif not isinstance(value, str) or not value:
            yield {"loc": [name], "message": "expected a string"}
        elif route == ROLLBACK and ":" in value:
            yield {"loc": [name], "message": "expected a name alone: a rollback goes to what was production before"}
    names_version = "version" in raw or ":" in str(raw.get("model", ""))
    if route == PROMOTE and not names_version:
        yield {"loc": ["version"], "message": 'missing; send {"version": "..."} or {"model": "name:version"}'}
    elif "version" in raw and ":" in str(raw.get("model", "")):
        yield {"loc": ["version"], "message": "said twice; leave it out, or out of the model"}
