"""Traces go through: one trace from the caller's span to the handler's, across nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from pilot_agent import Message, Request, RequestFailed, otel
from support.waits import soon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pilot_agent import Node


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """An SDK for one test; the application's provider can be set only once a process."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    yield exporter
    provider.shutdown()


def ids(span: ReadableSpan) -> tuple[int, int, int | None]:
    """Trace, span, parent."""
    assert span.context is not None
    parent = None if span.parent is None else span.parent.span_id
    return span.context.trace_id, span.context.span_id, parent


async def test_without_an_sdk_nothing_travels(pair: tuple[Node, Node]) -> None:
    alice, bob = pair
    assert not otel.is_enabled()
    await alice.send("bob", "x")
    assert (await soon(bob.recv())).headers == {}


async def test_a_request_is_one_trace(pair: tuple[Node, Node], spans: InMemorySpanExporter) -> None:
    alice, bob = pair

    @bob.on_request
    async def answer(request: Request) -> bytes:
        assert "traceparent" in request.headers
        with trace.get_tracer("test").start_as_current_span("work"):
            return request.payload

    await alice.request("bob", b"four")
    work, handle, request = spans.get_finished_spans()
    assert [span.name for span in (work, handle, request)] == [
        "work",
        "pilot handle request",
        "pilot request",
    ]
    assert len({ids(span)[0] for span in (work, handle, request)}) == 1
    assert (ids(handle)[2], ids(work)[2]) == (ids(request)[1], ids(handle)[1])
    assert (request.kind, handle.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert request.attributes is not None
    assert request.attributes["messaging.message.body.size"] == 4
    assert handle.attributes is not None
    assert handle.attributes["network.peer.address"] == alice.address


async def test_a_message_continues_the_senders_trace(
    pair: tuple[Node, Node], spans: InMemorySpanExporter
) -> None:
    alice, bob = pair
    done = bob._scope.loop.create_future()

    @bob.on_message
    async def handle(_message: Message) -> None:
        done.set_result(trace.get_current_span().get_span_context().trace_id)

    with trace.get_tracer("test").start_as_current_span("outer") as outer:
        await alice.send("bob", "x")
    assert await soon(done) == outer.get_span_context().trace_id
    assert {span.kind for span in spans.get_finished_spans()} >= {SpanKind.PRODUCER}


async def test_failures_are_marked_on_both_sides(
    pair: tuple[Node, Node], spans: InMemorySpanExporter
) -> None:
    alice, bob = pair

    @bob.on_request
    async def fail(_request: Request) -> bytes:
        raise ValueError

    with pytest.raises(RequestFailed):
        await alice.request("bob", b"")
    statuses = {span.name: span.status.status_code for span in spans.get_finished_spans()}
    assert statuses == {
        "pilot handle request": StatusCode.ERROR,
        "pilot request": StatusCode.ERROR,
    }
