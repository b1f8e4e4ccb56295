"""An OTLP endpoint over gRPC: takes the spans of any process and hands them on as plain values."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from shared.errors import Internal
from shared.telemetry.spans import Value

SpanId = str


@dataclass(frozen=True, slots=True)
class ReceivedSpan:
    """One span; ids are hexadecimal, parent_id is empty at a root, links are (trace, span)."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: SpanId
    parent_id: SpanId
    start_ns: int
    end_ns: int
    attributes: dict[str, Value]
    links: tuple[tuple[str, SpanId], ...]
    error: str

    @property
    def duration_ms(self) -> float:
        """How long it took."""
        return (self.end_ns - self.start_ns) / 1e6


OnSpans = Callable[[list[ReceivedSpan]], None]


class SpanReceiver(collector.TraceServiceServicer):
    """Listens until the context is left; `address` has the port filled in."""

    def __init__(self, address: str, on_spans: OnSpans) -> None:
        """Bind `host:port`; `on_spans` is called in the event loop with every batch.

        Raises:
            Internal: the address cannot be bound.
        """
        self._on_spans = on_spans
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        collector.add_TraceServiceServicer_to_server(self, self._server)
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise Internal(f"cannot listen on {address}: {error}") from None
        self.address = f"{address.rpartition(':')[0]}:{port}"

    async def __aenter__(self) -> "SpanReceiver":
        await self._server.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Listen no more. Idempotent."""
        await self._server.stop(grace=0)

    async def Export(
        self, request: collector_pb.ExportTraceServiceRequest, context: Any
    ) -> collector_pb.ExportTraceServiceResponse:
        """Take a batch."""
        self._on_spans(list(spans_of(request)))
        return collector_pb.ExportTraceServiceResponse()


def spans_of(request: collector_pb.ExportTraceServiceRequest) -> Iterator[ReceivedSpan]:
    """Read the spans of a batch."""
    for resource in request.resource_spans:
        service = str(_attributes(resource.resource.attributes).get("service.name", ""))
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _received(service, span)


def _received(service: str, span: Span) -> ReceivedSpan:
    is_error = span.status.code == Status.STATUS_CODE_ERROR
    return ReceivedSpan(
        service,
        span.name,
        Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        span.trace_id.hex(),
        span.span_id.hex(),
        span.parent_span_id.hex(),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        _attributes(span.attributes),
        tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        (span.status.message or "error") if is_error else "",
    )


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Value]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Value:
    if value.HasField("array_value"):
        return tuple(str(_value(each)) for each in value.array_value.values)
    kind = value.WhichOneof("value")
    plain: Value = getattr(value, kind) if kind else ""
    return plain
