"""Spans on their way to an endpoint that is slow, down, or gone: nobody waits for it."""

import logging
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector

from shared.settings import TelemetrySettings
from shared.telemetry import spans
from shared.telemetry.past_span import NO_PARENT, PastSpan, SpanKey, new_span_id
from shared.telemetry.span_outbox import MAX_PENDING, SpanOutbox
from shared.telemetry.tracing import MAX_QUEUED_SPANS, OncePerPeriod, Tracing
from shortstack.traces.receiver import ReceivedSpan, spans_of
from tests.contract.hosts import free_tcp_address


def past_spans(num: int) -> list[PastSpan]:
    """Return spans, one as good as the other."""
    return [
        PastSpan(spans.COMMIT, SpanKey(7, new_span_id()), NO_PARENT, index, index + 1)
        for index in range(num)
    ]


class SlowEndpoint(collector.TraceServiceServicer):
    """Answers once it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.received: list[ReceivedSpan] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(1))
        collector.add_TraceServiceServicer_to_server(self, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def Export(
        self, request: collector_pb.ExportTraceServiceRequest, context: Any
    ) -> collector_pb.ExportTraceServiceResponse:
        """Take a batch, in its own time."""
        self.go.wait(20)
        self.received.extend(spans_of(request))
        return collector_pb.ExportTraceServiceResponse()

    def close(self) -> None:
        """End."""
        self.go.set()
        self._server.stop(0).wait()


@pytest.fixture
def endpoint() -> Iterator[SlowEndpoint]:
    """An endpoint that hangs."""
    endpoint = SlowEndpoint()
    yield endpoint
    endpoint.close()


def tracing_to(address: str) -> Tracing:
    """Return a process's tracing."""
    return Tracing("tests", TelemetrySettings(endpoint=address), "me")


def test_a_hanging_endpoint_holds_up_nobody_and_costs_the_oldest_spans(
    endpoint: SlowEndpoint,
) -> None:
    tracing = tracing_to(endpoint.address)
    # More than are kept: were this to wait for the endpoint, it would not return.
    tracing.export(past_spans(3 * MAX_QUEUED_SPANS))
    last = past_spans(1)
    tracing.export(last)
    endpoint.go.set()
    tracing.close()
    received = {each.span_id for each in endpoint.received}
    assert f"{last[0].key.span_id:016x}" in received
    assert len(received) < 3 * MAX_QUEUED_SPANS


def test_the_end_does_not_wait_for_an_endpoint_that_hangs(
    endpoint: SlowEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    tracing = tracing_to(endpoint.address)
    tracing.export(past_spans(1))
    tracing.close()
    assert not endpoint.received
    assert "spans lost" in caplog.text


def test_the_end_sends_what_is_left(endpoint: SlowEndpoint) -> None:
    endpoint.go.set()
    tracing = tracing_to(endpoint.address)
    tracing.export(past_spans(3))
    tracing.close()
    assert len(endpoint.received) == 3
    # Too late, and no harm.
    tracing.export(past_spans(1))
    tracing.close()


def test_an_endpoint_that_is_down_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    tracing = tracing_to(free_tcp_address())
    for _ in range(3):
        tracing.export(past_spans(2 * MAX_QUEUED_SPANS))
    tracing.close()
    told = [each for each in caplog.records if each.name.startswith("opentelemetry")]
    assert len(told) == 1


def test_complaints_go_through_once_per_period() -> None:
    record = logging.LogRecord("x", logging.WARNING, "", 0, "down", None, None)
    patient, restless = OncePerPeriod(60.0), OncePerPeriod(0.0)
    assert [patient.filter(record) for _ in range(3)] == [True, False, False]
    assert [restless.filter(record) for _ in range(3)] == [True, True, True]


def test_without_an_endpoint_nothing_is_recorded() -> None:
    tracing = Tracing("tests", TelemetrySettings(), "me")
    assert not tracing.is_on
    assert not tracing.tracer.start_span("x").is_recording()
    tracing.export(past_spans(1))
    tracing.close()


def test_an_outbox_that_is_behind_drops_what_comes_and_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    go, made = threading.Event(), []

    def make(index: int) -> list[PastSpan]:
        go.wait(20)
        made.append(index)
        return []

    outbox: SpanOutbox[int] = SpanOutbox(make, lambda spans: None)
    for index in range(2 * MAX_PENDING):
        outbox.put(index)
    go.set()
    outbox.close()
    assert outbox.num_dropped > 0
    assert len(made) + outbox.num_dropped == 2 * MAX_PENDING
    assert "spans dropped" in caplog.text


def test_a_bug_in_the_making_of_spans_ends_that_batch_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    exported: list[PastSpan] = []

    def make(item: list[PastSpan]) -> list[PastSpan]:
        if not item:
            raise ValueError("no spans")
        return item

    outbox: SpanOutbox[list[PastSpan]] = SpanOutbox(make, exported.extend)
    outbox.put([])
    outbox.put(past_spans(2))
    outbox.close()
    assert len(exported) == 2
    assert "no spans" in caplog.text
