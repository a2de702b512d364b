"""OpenTelemetry spans for a sample of the requests.

A request is traced when its caller traces it (`traceparent` with the sampled flag, W3C Trace Context), and where its
caller does not say with the probability of `GATEWISE_TRACE_SAMPLE`. Spans go to whatever provider the process has,
such as the one that `opentelemetry-instrument` sets up; where there is none they go nowhere and cost next to nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from opentelemetry import trace
from opentelemetry.propagate import extract
from opentelemetry.trace import Span, SpanKind

_SAMPLED = 1


class Tracer:
    """Decides which requests are traced, and opens their spans.

    Args:
        provider: where spans go; the process's own by default.
    """

    def __init__(self, sample: float, provider: trace.TracerProvider | None = None) -> None:
        self._sample = sample
        self._tracer = trace.get_tracer("gatewise.service", tracer_provider=provider)

    def start(self, name: str, headers: Iterable[tuple[bytes, bytes]]) -> Span | None:
        """Return the span of a request, to be ended by `finish`; None for one that is not traced."""
        parent = next((value for key, value in headers if key == b"traceparent"), None)
        if not (_is_sampled(parent) if parent is not None else random.random() < self._sample):
            return None
        carrier = {key.decode("latin-1"): value.decode("latin-1") for key, value in headers}
        return self._tracer.start_span(name, context=extract(carrier), kind=SpanKind.SERVER)

    @staticmethod
    def finish(span: Span | None, status: int) -> None:
        """End a request's span."""
        if span is None:
            return
        span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(trace.StatusCode.ERROR)
        span.end()


def _is_sampled(parent: bytes) -> bool:
    # version-trace_id-parent_id-flags, all in hexadecimal digits
    parts = parent.split(b"-")
    try:
        return len(parts) >= 4 and bool(int(parts[3], 16) & _SAMPLED)
    except ValueError:
        return False
