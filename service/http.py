"""The ASGI application around BentoML's: it answers the product's own routes and gives every error the contract's body.

It is the outermost layer, so that nothing answers around it: BentoML's timeout, concurrency limit and plain-text
errors are inside. Only the routes of the table exist; `/predict/` or `/predict%0A` never reach a route of BentoML's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from typing import Any, NamedTuple

import orjson

from service import admin, errors, metrics, openapi, payload
from service import inference_protocol as protocol
from service.body import MediaType, Receive, announced_size
from service.errors import (
    ErrorAnswer,
    Headers,
    MethodNotAllowed,
    NoReport,
    NoSuchRoute,
    NotReady,
    Relayed,
    answer_error,
)
from service.payload import Read
from service.runtime import Runtime
from service.tracing import Tracer

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"
BINARY = b"application/octet-stream"
HTML = b"text/html; charset=utf-8"
# A report holds data of users: whatever stands in it, a browser loads nothing for it and runs nothing of it.
_REPORT_POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'")
PREDICT = "/predict"
FEEDBACK = "/feedback"
READY = "/readyz"
_READ = ("GET", "HEAD", "OPTIONS")
_ASKED = ("POST", "OPTIONS")
_OWN = {
    PREDICT: _ASKED,
    "/model": _READ,
    "/model/report": _READ,
    FEEDBACK: ("POST", "OPTIONS"),
    READY: _READ,
    "/metrics": _READ,
    "/docs.json": _READ,
    "/": _READ,
}
_PROTOCOL = {
    protocol.SERVER: _READ,
    protocol.LIVE: _READ,
    protocol.READY: _READ,
    protocol.MODEL: _READ,
    protocol.MODEL_READY: _READ,
    protocol.INFER: _ASKED,
}
# These BentoML answers, as its client and every probe expect.
_RELAYED = dict.fromkeys(("/livez", "/healthz", "/schema.json"), _READ)
_RELAYED_FOLDER = "/static_content/"
# These exist where an administrator's token is set.
_ADMIN = dict.fromkeys(admin.ROUTES, _ASKED)
_METHODS = {**_OWN, **_PROTOCOL, **_RELAYED}
OTHER = "other"


class Response(NamedTuple):
    """A whole answer."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: Headers = []  # noqa: RUF012 - a NamedTuple's default, never changed


class Gateway:
    """Answers a request, or passes it on to BentoML."""

    def __init__(self, app: AsgiApp, runtime: Runtime) -> None:
        self._app = app
        self.runtime = runtime

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection scope, as ASGI calls it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        started = time.perf_counter()
        path: str = scope["path"]
        route = path if path in _METHODS else self._route(path)
        tracer = self.runtime.tracer
        span = tracer.start(f"{scope['method']} {route}", scope["headers"]) if tracer else None
        try:
            response = await self._respond(route, scope, receive, send)
        except Exception as error:
            # The outermost edge: whatever it is, the client gets the contract's body, and the log the rest.
            response = _of_error(answer_error(error))
        if isinstance(response, Response):
            if self.runtime.drain.has_begun:
                response = response._replace(headers=[*response.headers, (b"connection", b"close")])
            await _send(send, response, is_head=scope["method"] == "HEAD")
        status = response.status if isinstance(response, Response) else response
        self.runtime.count(route, status, time.perf_counter() - started)
        if span is not None:
            Tracer.finish(span, status)
        return None

    def _route(self, path: str) -> str:
        """The route of a path that is none itself."""
        if path in _ADMIN and self.runtime.admin is not None:
            return path
        if path.startswith(_RELAYED_FOLDER):
            return _RELAYED_FOLDER
        address = protocol.resolve(path)
        return address.route if address else OTHER

    async def _respond(self, route: str, scope: Scope, receive: Receive, send: Send) -> Response | int:
        method = scope["method"]
        if method == "POST" and route == PREDICT:
            return await self._predict(scope, receive, payload.READERS)
        if route == OTHER:
            raise _no_such_route(scope["path"])
        allowed = _METHODS.get(route) or _ADMIN.get(route) or _READ
        if method not in allowed:
            raise MethodNotAllowed(f"{route} takes {' and '.join(allowed)}, not {method}", allowed)
        if method == "OPTIONS":
            return Response(204, b"", b"", [(b"allow", ", ".join(allowed).encode())])
        if route == protocol.INFER:
            return await self._infer(scope, receive)
        if route in _PROTOCOL:
            return self._state(route, scope["path"])
        if route == FEEDBACK:
            return await self._feedback(scope, receive)
        if route in _ADMIN:
            return await self._administer(route, scope, receive)
        if route in _OWN:
            return await self._page(route)
        return await self._relay(scope, receive, send)

    async def _predict(self, scope: Scope, receive: Receive, readers: Mapping[MediaType, Read]) -> Response:
        runtime = self.runtime
        deadline = asyncio.get_running_loop().time() + runtime.timeout_seconds
        runtime.admit(announced_size(scope["headers"]))
        body, media_type = await runtime.bodies.read(scope["headers"], receive, deadline, readers)
        size = len(body)
        answering = runtime.predict(body, receive, deadline, read=readers[media_type])
        del body  # `predict` lets it go as soon as it has read it
        try:
            answer = await answering
        finally:
            runtime.bodies.release(size)
        if answer.head_size is None:
            return Response(200, answer.body)
        return Response(200, answer.body, BINARY, [(protocol.HEAD_SIZE, str(answer.head_size).encode())])

    async def _infer(self, scope: Scope, receive: Receive) -> Response:
        address = self._address(scope["path"])
        read = partial(protocol.read, address=address, head_size=protocol.head_size(scope["headers"]))
        return await self._predict(scope, receive, {"application/json": read, "application/octet-stream": read})

    def _state(self, route: str, path: str) -> Response:
        """Answer what the Open Inference Protocol lets a client ask of the server and its model."""
        if route == protocol.SERVER:
            return _json(protocol.server())
        if route == protocol.LIVE:
            if not self.runtime.is_alive:
                raise NotReady("the model has hung; the service needs a new start")
            return _json({"live": True})
        if route == protocol.READY:
            return _json({"ready": self.runtime.registry.live is not None})
        name = self._address(path).name
        return _json(
            {"name": name, "ready": True}
            if route == protocol.MODEL_READY
            else protocol.metadata(self.runtime.registry.live.card)
        )

    def _address(self, path: str) -> protocol.Address:
        address = protocol.resolve(path)
        assert address is not None
        address.check(self.runtime.registry.live)
        return address

    async def _feedback(self, scope: Scope, receive: Receive) -> Response:
        runtime = self.runtime
        deadline = asyncio.get_running_loop().time() + runtime.timeout_seconds
        body, _ = await runtime.bodies.read(scope["headers"], receive, deadline, ["application/json"])
        try:
            return Response(200, await runtime.feedback.answer(body, runtime.registry.live, deadline))
        finally:
            runtime.bodies.release(len(body))

    async def _administer(self, route: str, scope: Scope, receive: Receive) -> Response:
        runtime = self.runtime
        assert runtime.admin is not None  # else the path would be of no route
        runtime.admin.check(scope["headers"])
        deadline = asyncio.get_running_loop().time() + runtime.timeout_seconds
        body, _ = await runtime.bodies.read(scope["headers"], receive, deadline, ["application/json"])
        try:
            return Response(200, await runtime.admin.answer(route, body))
        finally:
            runtime.bodies.release(len(body))

    async def _page(self, route: str) -> Response:
        if route == "/":
            return Response(200, openapi.INDEX_HTML, HTML)
        if route == READY:
            return Response(200, self.runtime.state())
        if route == "/metrics":
            if self.runtime.metrics is None:
                raise NotReady("the service is starting")
            self.runtime.metrics.flush()  # here, for counting goes on in this thread
            return Response(200, await asyncio.to_thread(self.runtime.metrics.render), metrics.CONTENT_TYPE)
        model = self.runtime.registry.live
        if route == "/model":
            return Response(200, model.page())
        if route == "/model/report":
            page = await asyncio.to_thread(model.predictor.report)
            if page is None:
                raise NoReport(f"{model.identity['name']} was made without a report; `gatewise train` makes one")
            return Response(200, page, HTML, [_REPORT_POLICY])
        return Response(200, orjson.dumps(openapi.document(model.card, has_admin=self.runtime.admin is not None)))

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> Response | int:
        """Pass a request on; an error's answer is held back, and worded as the contract has it."""
        status = 0

        async def send_unless_error(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if status < 400:
                await send(message)

        try:
            await self._app(scope, receive, send_unless_error)
        except Exception:
            errors.logger.exception("an unexpected error in BentoML's %s", scope["path"])
            status = max(status, 500)
        if status < 400:
            return status
        return _of_error(answer_error(Relayed(status)))


def _json(value: object) -> Response:
    return Response(200, orjson.dumps(value))


def _of_error(answer: ErrorAnswer) -> Response:
    return Response(answer.status, answer.body, JSON, answer.headers)


def _no_such_route(path: str) -> NoSuchRoute:
    shown = path if len(path) <= 100 else path[:100] + "..."
    meant = path.strip().rstrip("/")
    mend = f"did you mean {meant}?" if meant in _METHODS else f"there are {', '.join(_METHODS)}"
    return NoSuchRoute(f"there is nothing at {shown!r}; {mend}")


async def _send(send: Send, response: Response, *, is_head: bool) -> None:
    headers = list(response.headers)
    if response.content_type:
        headers += [(b"content-type", response.content_type), (b"content-length", str(len(response.body)).encode())]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if is_head else response.body})
