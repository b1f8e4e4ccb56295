"""Tracing of one process: its tracer, and the way of its spans to an OTLP endpoint over gRPC.

Without an endpoint nothing is recorded, and contexts of callers are passed on as they came. An
endpoint that is down or slow costs spans, never a request: spans wait in a bounded queue for a
thread of their own, the oldest go when it is full, and what fails is logged once a minute.
"""

import logging
import threading
import time
from collections.abc import Iterable
from importlib.metadata import version

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    NoOpTracer,
    SpanContext,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
)

from shared.settings import TelemetrySettings
from shared.telemetry.past_span import NO_PARENT, PastSpan
from shared.telemetry.trace_context import epoch_offset_ns

log = logging.getLogger(__name__)

SCOPE = "shortstack"
# The oldest spans are dropped beyond this: some ten MiB, a hundred rounds of ten traced sessions.
MAX_QUEUED_SPANS = 8192
MAX_BATCH_SPANS = 512
EXPORT_DELAY_MS = 1000
EXPORT_TIMEOUT_S = 5.0
FLUSH_TIMEOUT_S = 1.0
COMPLAINT_PERIOD_S = 60.0
# Loggers of the libraries that tell of an endpoint that does not answer.
_COMPLAINERS = (
    "opentelemetry.exporter.otlp.proto.grpc.exporter",
    "opentelemetry.sdk._shared_internal",
)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


class OncePerPeriod(logging.Filter):
    """Lets one line of the loggers that it is added to through per period, whatever it says."""

    def __init__(self, period_s: float = COMPLAINT_PERIOD_S) -> None:
        super().__init__()
        self._period_s = period_s
        self._next_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a line goes through."""
        now_s = time.monotonic()
        if now_s < self._next_s:
            return False
        self._next_s = now_s + self._period_s
        return True


class Tracing:
    """Where a process's spans are made and go; `close` sends what is left."""

    def __init__(self, service: str, settings: TelemetrySettings, instance: str) -> None:
        """Connect lazily: an endpoint that is not there yet is tried again by every batch.

        Args:
            service: name of the service, see `spans`.
            settings: where to, and of how many requests.
            instance: names this process where the settings do not.
        """
        self.records_text = settings.records_text
        self.is_on = bool(settings.endpoint)
        self.tracer: Tracer = NoOpTracer()
        self._provider: TracerProvider | None = None
        if not self.is_on:
            return
        self._resource = _resource(service, settings.instance or instance)
        self._scope = InstrumentationScope(SCOPE, version("shortstack-serve"))
        _limit_complaints()
        self._exporter = OTLPSpanExporter(
            endpoint=settings.endpoint,
            insecure=not settings.is_secure,
            credentials=_credentials(settings),
            timeout=EXPORT_TIMEOUT_S,
        )
        self._processor = BatchSpanProcessor(
            self._exporter, MAX_QUEUED_SPANS, EXPORT_DELAY_MS, MAX_BATCH_SPANS
        )
        sampler = ParentBasedTraceIdRatio(settings.sampling_ratio)
        self._provider = TracerProvider(sampler, self._resource, shutdown_on_exit=False)
        self._provider.add_span_processor(self._processor)
        self.tracer = self._provider.get_tracer(SCOPE, self._scope.version)
        log.info(
            "tracing",
            extra={"endpoint": settings.endpoint, "sampling_ratio": settings.sampling_ratio},
        )

    def export(self, spans: Iterable[PastSpan]) -> None:
        """Queue spans of sampled traces that are over; from any thread, never waits."""
        if self._provider is None:
            return
        offset_ns = epoch_offset_ns()
        for span in spans:
            self._processor.on_end(self._readable(span, offset_ns))

    def _readable(self, span: PastSpan, offset_ns: int) -> ReadableSpan:
        trace_id = span.key.trace_id
        has_parent = span.parent_id != NO_PARENT
        return ReadableSpan(
            span.spec.name,
            _context(trace_id, span.key.span_id),
            _context(trace_id, span.parent_id) if has_parent else None,
            self._resource,
            span.attributes,
            links=[Link(_context(each.trace_id, each.span_id)) for each in span.links],
            kind=span.spec.kind,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.start_ns + offset_ns,
            end_time=span.end_ns + offset_ns,
            instrumentation_scope=self._scope,
        )

    def close(self) -> None:
        """Send what is queued, for `FLUSH_TIMEOUT_S` at most; spans that come later are dropped."""
        if self._provider is None:
            return
        flush = threading.Thread(target=self._provider.shutdown, daemon=True, name="span-flush")
        flush.start()
        flush.join(FLUSH_TIMEOUT_S)
        if flush.is_alive():
            log.warning("spans lost: the endpoint took none at the end")
            # Ends the call or the pause that the flush is in.
            self._exporter.shutdown()
            flush.join(FLUSH_TIMEOUT_S)


def _context(trace_id: int, span_id: int) -> SpanContext:
    return SpanContext(trace_id, span_id, is_remote=False, trace_flags=_SAMPLED)


def _resource(service: str, instance: str) -> Resource:
    return Resource.create(
        {
            "service.namespace": "shortstack",
            "service.name": service,
            "service.version": version("shortstack-serve"),
            "service.instance.id": instance,
        }
    )


def _credentials(settings: TelemetrySettings) -> grpc.ChannelCredentials | None:
    """Return what a TLS endpoint is checked with; None: plain text."""
    if not settings.is_secure:
        return None
    ca = settings.ca_path.read_bytes() if settings.ca_path else None
    return grpc.ssl_channel_credentials(root_certificates=ca)


def _limit_complaints() -> None:
    """Let the libraries log what fails once a minute, all together."""
    limit = OncePerPeriod()
    for name in _COMPLAINERS:
        logger = logging.getLogger(name)
        for old in [each for each in logger.filters if isinstance(each, OncePerPeriod)]:
            logger.removeFilter(old)
        logger.addFilter(limit)
