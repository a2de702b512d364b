"""One HTTP connection: uvicorn's, with a short way for the common request, and limits that uvicorn lacks.

The short way. A small `POST /predict` goes from the HTTP parser to the queue, and from the queue to the socket, without
the task and the ASGI cycle that cost as much as reading its body. It ends where anything is unusual, in the head, the
body or the service's state: the request then goes the long way, through `Gateway`, as if it had just come, and what is
wrong with it is found and said there. Both ways read, queue and word by the same calls of `Runtime`.

The limits. A head must be complete `timeout_seconds` after its first byte; `unread.py` is about answers.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from opentelemetry.trace import Span
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.deadlines import Deadline
from service.errors import BodyTimeout, ErrorAnswer, QueueFull, answer_error
from service.http import JSON, OTHER, PREDICT
from service.runtime import Asked, Runtime
from service.tracing import Tracer
from service.unread import Unread

# How long the rest of a small body is waited for before the request goes the long way.
_HOLD_SECONDS = 0.05
_UNUSUAL = frozenset({b"expect", b"content-encoding", b"transfer-encoding", b"upgrade"})
_PATH = PREDICT.encode()


class _Exchange:
    """A request on the short way; uvicorn sees in it one of its own cycles."""

    message_event = asyncio.Event()  # uvicorn sets it when the client leaves; nobody waits for it

    def __init__(self, asked: Asked, deadline: Deadline, keep_alive: bool, started: float, span: Span | None) -> None:
        self.asked, self.deadline, self.keep_alive, self.started, self.span = asked, deadline, keep_alive, started, span
        self.disconnected = self.response_complete = False


class Connection(HttpToolsProtocol):
    """What uvicorn makes of each connection when `uvicorn.config.HTTP_PROTOCOLS` names it."""

    def __init__(self, config: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(config, *args, **kwargs)
        self._runtime: Runtime = config.app.runtime
        self._body: bytearray | None = None  # of a request that may go the short way
        self._body_size = 0
        self._exchange: _Exchange | None = None
        self._hold_deadline: Deadline | None = None
        self._head_deadline: Deadline | None = None
        self._is_in_head = False
        self._unread: Unread | None = None

    # The transport calls these.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._runtime.greet()
        self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._body is not None:
            self._go_the_long_way()  # where it is counted
        super().connection_lost(exc)
        self._forget_head()
        self._forget_unread()
        if exchange := self._exchange:
            exchange.asked.job.abandon()
            self._end(exchange, 499)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._body is not None:
            self._hold()
        elif self.cycle is None or self.cycle.response_complete:
            self._watch_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        runtime = self._runtime
        self._unread = Unread(self.transport, runtime.bodies, runtime.deadlines, runtime.timeout_seconds)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_unread()

    # The HTTP parser calls these.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._forget_head()
        self._body_size = self._size_of_short()
        if self._body_size:
            self._body = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if self._body is None:
            super().on_body(body)
        else:
            self._body += body

    def on_message_complete(self) -> None:
        if self._body is not None:
            if self._go_the_short_way(self._body):
                return
            self._go_the_long_way()
        super().on_message_complete()

    # The server calls this.

    def shutdown(self) -> None:
        if self._body is not None:
            self._go_the_long_way()
        super().shutdown()

    # The short way

    def _size_of_short(self) -> int:
        """The body's length of a request that may go the short way, by its head; 0 for any other."""
        if self.url != _PATH or self.parser.get_method() != b"POST" or self.root_path or self.limit_concurrency:
            return 0
        if (self.cycle is not None and not self.cycle.response_complete) or self.flow.write_paused:
            return 0
        size, is_json = 0, False
        for name, value in self.headers:
            if name == b"content-length" and value.isdigit():
                size = int(value)
            elif name == b"content-type":
                if value != JSON:
                    return 0
                is_json = True
            elif name in _UNUSUAL:
                return 0
        return size if is_json and self._runtime.takes_at_once(size) else 0

    def _go_the_short_way(self, body: bytearray) -> bool:
        """Queue the request; False where it must go the long way."""
        runtime, started = self._runtime, time.perf_counter()
        if len(body) != self._body_size:
            return False
        span = runtime.tracer.start(f"POST {PREDICT}", self.headers) if runtime.tracer else None
        try:
            asked = runtime.ask_at_once(body)
        except QueueFull as error:  # at once: refusing must cost little, or there is no time to answer anybody
            self._forget_body()
            self._give(answer_error(error), self._keeps_alive())
            runtime.count(PREDICT, 429, time.perf_counter() - started)
            Tracer.finish(span, 429)
            return True
        except Exception:  # the long way meets it again, and says it
            return False
        if asked is None:
            return False
        self._forget_body()
        deadline = runtime.deadlines.at(self.loop.time() + runtime.timeout_seconds, asked.time_out)
        self._exchange = self.cycle = _Exchange(asked, deadline, self._keeps_alive(), started, span)  # type: ignore[assignment]
        asked.job.future.add_done_callback(self._answer)
        return True

    def _go_the_long_way(self) -> None:
        body = bytes(self._body or b"")
        self._forget_body()
        super().on_headers_complete()
        if body:
            super().on_body(body)

    def _hold(self) -> None:
        if self._hold_deadline is None:
            until = self.loop.time() + _HOLD_SECONDS
            self._hold_deadline = self._runtime.deadlines.at(until, self._go_the_long_way)

    def _answer(self, future: asyncio.Future[Any]) -> None:
        exchange, runtime = self._exchange, self._runtime
        if exchange is None:
            return
        try:
            answer = ErrorAnswer(200, runtime.word(exchange.asked, future.result()).body, [])
        except Exception as error:
            answer = answer_error(error)
        self._end(exchange, answer.status)
        self._give(answer, exchange.keep_alive)

    def _keeps_alive(self) -> bool:
        return self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()

    def _give(self, answer: ErrorAnswer, keep_alive: bool) -> None:
        keep_alive = keep_alive and not self._runtime.drain.has_begun
        self._write(answer, is_last=not keep_alive)
        if not keep_alive:
            self.transport.close()
        self.on_response_complete()

    def _end(self, exchange: _Exchange, status: int) -> None:
        self._exchange = None
        exchange.response_complete = True
        exchange.deadline.cancel()
        self._runtime.end(exchange.asked)
        del exchange.asked  # uvicorn keeps the exchange until the next request
        self._runtime.count(PREDICT, status, time.perf_counter() - exchange.started)
        Tracer.finish(exchange.span, status)

    def _write(self, answer: ErrorAnswer, *, is_last: bool) -> None:
        lines = [STATUS_LINE[answer.status]]
        for name, value in (*self.server_state.default_headers, *answer.headers):
            lines += (name, b": ", value, b"\r\n")
        if is_last:
            lines.append(b"connection: close\r\n")
        lines += (b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer.body), answer.body)
        self.transport.write(b"".join(lines))

    # The limits

    def _watch_head(self) -> None:
        if self._head_deadline is None and not self.transport.is_closing():
            until = self.loop.time() + self._runtime.timeout_seconds
            self._head_deadline = self._runtime.deadlines.at(until, self._refuse_head)

    def _refuse_head(self) -> None:
        self._head_deadline = None
        if self._is_in_head and not self.transport.is_closing():
            answer = answer_error(BodyTimeout("the head of the request did not arrive in time"))
            self._write(answer._replace(headers=[]), is_last=True)
            self._runtime.count(OTHER, answer.status, self._runtime.timeout_seconds)
        self.transport.close()

    def _forget_head(self) -> None:
        if self._head_deadline:
            self._head_deadline.cancel()
            self._head_deadline = None

    def _forget_body(self) -> None:
        self._body = None
        if self._hold_deadline:
            self._hold_deadline.cancel()
            self._hold_deadline = None

    def _forget_unread(self) -> None:
        if self._unread:
            self._unread.end()
            self._unread = None
