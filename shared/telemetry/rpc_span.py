"""The SERVER span of a gRPC call, kept beside the handler: it is in no context variable.

A handler that streams is a generator, which may be closed in another context than it ran in; so
the span's context is a value that the handler passes on.
"""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode, set_span_in_context

from shared.errors import ShortstackError
from shared.telemetry import spans
from shared.telemetry.spans import Attributes, SpanSpec
from shared.telemetry.trace_context import context_of
from shared.telemetry.tracing import Tracing

# Statuses that tell of a fault of the server; others are the caller's doing, or normal life.
_FAULTS = frozenset(
    {"UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"}
)


@contextmanager
def rpc_span(
    tracing: Tracing,
    spec: SpanSpec,
    method: str,
    metadata: Iterable[tuple[str, str | bytes]] | None,
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """Record a call, child of the caller's span if its metadata names one.

    Args:
        tracing: of this process.
        spec: what the span is called.
        method: full name of the method.
        metadata: the call's.
        attributes: known at the start.
    """
    begun = {spans.RPC_SYSTEM: "grpc", spans.RPC_METHOD: method, **(attributes or {})}
    span = tracing.tracer.start_span(spec.name, context_of(metadata), spec.kind, begun)
    status = "OK"
    try:
        yield span
    except BaseException as error:
        status = status_of(error)
        note_failure(span, name_of(error), status, message_of(error))
        raise
    finally:
        span.set_attribute(spans.RPC_STATUS, status)
        span.end()


def status_of(error: BaseException) -> str:
    """Return the gRPC status that an error ends a call with."""
    if isinstance(error, (GeneratorExit, asyncio.CancelledError)):
        return "CANCELLED"
    return error.status if isinstance(error, ShortstackError) else "INTERNAL"


def name_of(error: BaseException) -> str:
    """Return an error's class; that of ours for a call that its client left."""
    is_cancel = isinstance(error, (GeneratorExit, asyncio.CancelledError))
    return "Cancelled" if is_cancel else type(error).__name__


def message_of(error: BaseException) -> str:
    """Return what a span may say of an error; foreign ones might quote what users wrote."""
    return error.message if isinstance(error, ShortstackError) else ""


def note_failure(span: Span, error_type: str, status: str, message: str = "") -> None:
    """Put an error's class on a span; only a fault of the server marks the span as failed."""
    span.set_attribute(spans.ERROR_TYPE, error_type)
    if status in _FAULTS:
        span.set_status(Status(StatusCode.ERROR, message or error_type))


def context_with(span: Span) -> Context:
    """Return the context that children of a span are started in."""
    return set_span_in_context(span, Context())
