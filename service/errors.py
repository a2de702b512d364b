"""The service's own errors, and one table: exception -> status. Nothing else in the project knows a status number.

GatewiseError
├── (the library's tree, in gatewise/errors.py)
└── ServiceError
    ├── MalformedBody, InvalidRequest      the body is not JSON; is not the request that was promised
    ├── InvalidFeedback                    a sequence or a label in it breaks the live model's contract
    ├── Unauthorized, Forbidden            the administrator's token is missing; is another
    ├── NoSuchRoute, MethodNotAllowed      the path; the method on it
    ├── NoReport                           the live model was made without
    ├── UnsupportedMediaType, BodyTooLarge
    ├── BodyTimeout, TimedOut              the client was too slow to send; the model too slow to answer
    ├── QueueFull, NotReady
    ├── EngineFailure                      the model broke on this very item
    ├── ClientLeft                         nobody is there to be answered; only the metrics see it
    └── Relayed                            BentoML answered with an error of its own
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import orjson

from gatewise.errors import (
    DatabaseUnavailable,
    Detail,
    FeedbackConflict,
    GatewiseError,
    InvalidSequence,
    MissingDependency,
    ModelConflict,
    ModelNotFound,
    StoreUnavailable,
)

logger = logging.getLogger("gatewise.service")

Headers = list[tuple[bytes, bytes]]


class ServiceError(GatewiseError):
    """The root of what the service raises by itself."""


class MalformedBody(ServiceError):
    """The body is not JSON."""

    code = "malformed_json"


class InvalidRequest(ServiceError):
    """The body is JSON, but not a request."""

    code = "invalid_request"


class InvalidFeedback(ServiceError):
    """A sequence or a label of feedback breaks the live model's contract."""

    code = "invalid_feedback"


class Unauthorized(ServiceError):
    """The administrator's token is missing."""

    code = "unauthorized"


class Forbidden(ServiceError):
    """Another token came than the administrator's."""

    code = "forbidden"


class NoSuchRoute(ServiceError):
    """Nothing is at this path."""

    code = "not_found"


class NoReport(ServiceError):
    """The live model was made without a report."""

    code = "no_report"


class MethodNotAllowed(ServiceError):
    """The path is right and the method is not."""

    code = "method_not_allowed"

    def __init__(self, message: str, allowed: Sequence[str]) -> None:
        super().__init__(message)
        self.allowed = tuple(allowed)


class BodyTooLarge(ServiceError):
    """The request asks for more than the service takes at once."""

    code = "body_too_large"


class UnsupportedMediaType(ServiceError):
    """The body is not sent as JSON."""

    code = "unsupported_media_type"


class BodyTimeout(ServiceError):
    """The body did not arrive in time."""

    code = "body_timeout"


class TimedOut(ServiceError):
    """The answer was not ready in time."""

    code = "timed_out"


class QueueFull(ServiceError):
    """More work waits than the service holds."""

    code = "queue_full"

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotReady(ServiceError):
    """No model is live, or the service is stopping."""

    code = "not_ready"


class EngineFailure(ServiceError):
    """The model broke on one item that the input contract allows; the log says how."""

    code = "internal"


class ClientLeft(ServiceError):
    """The client closed the connection before its answer was ready."""

    code = "client_left"


class Relayed(ServiceError):
    """An error status that BentoML's own routes answered."""

    code = "error"

    def __init__(self, status: int) -> None:
        super().__init__(_RELAYED.get(status, f"the request failed with status {status}"))
        self.status = status
        self.code = _RELAYED_CODES.get(status, "error")


_RELAYED = {
    404: "there is nothing here",
    500: "an unexpected error; the server's log says more",
    503: "the service is not ready",
}
_RELAYED_CODES = {404: NoSuchRoute.code, 500: EngineFailure.code, 503: NotReady.code}

# The most specific class of an exception that stands here decides.
STATUS: dict[type[Exception], int] = {
    MalformedBody: 400,
    Unauthorized: 401,
    Forbidden: 403,
    NoSuchRoute: 404,
    NoReport: 404,
    ModelNotFound: 404,
    MethodNotAllowed: 405,
    BodyTimeout: 408,
    ModelConflict: 409,
    FeedbackConflict: 409,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    InvalidRequest: 422,
    InvalidFeedback: 422,
    InvalidSequence: 422,
    QueueFull: 429,
    ClientLeft: 499,
    EngineFailure: 500,
    MissingDependency: 501,
    NotReady: 503,
    DatabaseUnavailable: 503,
    StoreUnavailable: 503,
    TimedOut: 504,
}


class ErrorAnswer(NamedTuple):
    """An error as HTTP says it."""

    status: int
    body: bytes
    headers: Headers


def answer_error(error: Exception) -> ErrorAnswer:
    """Word any exception as the contract's body; what nobody foresaw is logged here and says nothing of itself."""
    if isinstance(error, Relayed):
        return ErrorAnswer(error.status, _body(error.message, error.code, []), [])
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if status is None or not isinstance(error, GatewiseError):
        logger.error("an unexpected error while answering", exc_info=error)
        return ErrorAnswer(500, _body(_RELAYED[500], "internal", []), [])
    return ErrorAnswer(status, _body(error.message, error.code, error.details), _headers(error))


def _headers(error: GatewiseError) -> Headers:
    if isinstance(error, MethodNotAllowed):
        return [(b"allow", ", ".join(error.allowed).encode())]
    if isinstance(error, Unauthorized):
        return [(b"www-authenticate", b"Bearer")]
    if isinstance(error, BodyTimeout):
        return [(b"connection", b"close")]
    if isinstance(error, QueueFull):
        return [(b"retry-after", str(error.retry_after_seconds).encode())]
    return []


def _body(message: str, code: str, details: Sequence[Detail]) -> bytes:
    return orjson.dumps({"error": message, "code": code, "details": list(details)})
