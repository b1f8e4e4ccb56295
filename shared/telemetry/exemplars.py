"""The trace that a metric's exemplar leads to."""

from opentelemetry.trace import SpanContext, format_trace_id


def trace_id_of(span: SpanContext) -> str | None:
    """Return the id of a span's trace as 32 hex digits; None where there is none to look at."""
    if not (span.is_valid and span.trace_flags.sampled):
        return None
    return format_trace_id(span.trace_id)
