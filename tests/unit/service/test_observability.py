"""What the log and the traces say of requests."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from service import runtime
from service.tracing import Tracer
from service.traffic import Traffic
from tests.unit.service.serving import serving

GOOD = {"sequences": [[[1, 2]]]}


def test_the_log_has_one_line_for_many_requests(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with serving(monkeypatch) as client:
            for _ in range(3):
                await client.post("/predict", json=GOOD)
            await client.get("/nothing")

    with caplog.at_level(logging.INFO, logger="gatewise.access"):
        asyncio.run(asyncio.wait_for(test(), 60))
    (line,) = [record.message for record in caplog.records if record.name == "gatewise.access"]
    assert line.startswith("4 requests: 3 x 200, 1 x 404; mean ")


def test_an_interval_without_requests_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="gatewise.access"):
        Traffic().flush()
    assert not caplog.records


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(runtime, "Tracer", lambda sample: Tracer(sample, provider))
    return exporter


def traced(monkeypatch: pytest.MonkeyPatch, sample: float, headers: dict[str, str]) -> None:
    async def test() -> None:
        async with serving(monkeypatch, trace_sample=sample) as client:
            await client.post("/predict", json=GOOD, headers=headers)
            await client.post("/predict", json={}, headers=headers)

    asyncio.run(asyncio.wait_for(test(), 60))


def parent(flags: str) -> dict[str, str]:
    return {"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-{flags}"}


def test_a_request_that_its_caller_traces_is_traced_as_a_part_of_that(
    monkeypatch: pytest.MonkeyPatch, spans: InMemorySpanExporter
) -> None:
    traced(monkeypatch, 0.0, parent("01"))
    found = spans.get_finished_spans()
    assert [span.name for span in found] == ["POST /predict"] * 2
    assert [(span.attributes or {})["http.response.status_code"] for span in found] == [200, 422]
    assert all(span.parent is not None and span.parent.span_id == int("cd" * 8, 16) for span in found)
    assert all(span.context.trace_id == int("ab" * 16, 16) for span in found)


@pytest.mark.parametrize(
    ("sample", "headers", "expected"),
    [(1.0, {}, 2), (0.0, {}, 0), (1.0, parent("00"), 0), (1.0, {"traceparent": "nonsense"}, 0), (1.0, parent("zz"), 0)],
)
def test_others_are_traced_by_chance_unless_their_caller_says_no(
    monkeypatch: pytest.MonkeyPatch, spans: InMemorySpanExporter, sample: float, headers: Any, expected: int
) -> None:
    traced(monkeypatch, sample, headers)
    assert len(spans.get_finished_spans()) == expected


def test_without_a_provider_tracing_does_nothing() -> None:
    span = Tracer(1.0).start("POST /predict", [])
    Tracer.finish(span, 500)
    assert span is not None
    assert not span.is_recording()
