"""Trace contexts between processes: W3C `traceparent` in metadata, headers and messages.

Knows nothing of spans or exporters. What cannot be read counts as no context: a client's broken
header must not cost it the request.
"""

import time
from collections.abc import Iterable, Mapping

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

TRACEPARENT = "traceparent"
_NAMES = ("traceparent", "tracestate")
_PROPAGATOR = TraceContextTextMapPropagator()

Metadata = tuple[tuple[str, str], ...]


def context_of(carrier: Iterable[tuple[str, str | bytes]] | None) -> Context:
    """Read the caller's context from gRPC metadata or HTTP headers; without one it is empty.

    Args:
        carrier: pairs of names and values; names may be of any case.
    """
    found: dict[str, list[str]] = {}
    for name, value in carrier or ():
        if name.lower() in _NAMES and isinstance(value, str):
            found.setdefault(name.lower(), []).append(value)
    # Several `traceparent` are as good as none, several `tracestate` are parts of one.
    if len(found.get(TRACEPARENT, ())) != 1:
        return Context()
    return _PROPAGATOR.extract(found, Context())


def metadata_of(context: Context | None = None) -> Metadata:
    """Return what passes a context on, as metadata or headers; None: the caller's current one.

    Empty where there is no span in it.
    """
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, context)
    return tuple(carrier.items())


def span_context_of(context: Context) -> SpanContext:
    """Return the ids of the span in a context; invalid ones where there is none."""
    return trace.get_current_span(context).get_span_context()


def trace_fields(span: SpanContext) -> Mapping[str, str]:
    """Return what names a span in a log line; empty texts where there is none."""
    if not span.is_valid:
        return {"trace_id": "", "span_id": ""}
    return {
        "trace_id": trace.format_trace_id(span.trace_id),
        "span_id": trace.format_span_id(span.span_id),
    }


def epoch_offset_ns() -> int:
    """Return what makes a time of `perf_counter_ns` one of the epoch, by adding it.

    All processes of a machine read the same clock, so their offsets agree to about a microsecond,
    unless the machine's time was set between. The best of a few looks: one may be interrupted.
    """
    looks = []
    for _ in range(3):
        before = time.perf_counter_ns()
        now = time.time_ns()
        after = time.perf_counter_ns()
        looks.append((after - before, now - (before + after) // 2))
    return min(looks)[1]
