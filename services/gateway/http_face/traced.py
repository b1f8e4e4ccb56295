"""The span of each completion over HTTP, child of what the caller's headers name."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import Context
from opentelemetry.trace import Span
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.telemetry import spans
from shared.telemetry.rpc_span import context_with, message_of, name_of, note_failure, status_of
from shared.telemetry.spans import SpanSpec
from shared.telemetry.trace_context import context_of
from shared.telemetry.tracing import Tracing

_SPECS = {spec.name: spec for spec in (spans.POST_CHAT, spans.POST_TEXT)}
# The scope's entry, beside the request's id.
STATE = "trace_context"


class Traced:
    """Records the requests of the endpoints that complete; others pass as they are."""

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        """Take what answers; requests have their ids by now."""
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, under a span of its own."""
        spec = _SPECS.get(f"{scope.get('method')} {scope.get('path')}")
        if spec is None:
            await self._app(scope, receive, send)
            return
        with self._span(spec, scope) as span:

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_status(span, message["status"])
                await send(message)

            scope["state"][STATE] = context_with(span)
            await self._app(scope, receive, send_noted)

    @contextmanager
    def _span(self, spec: SpanSpec, scope: Scope) -> Iterator[Span]:
        headers = (
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        )
        begun: dict[str, spans.Value] = {
            spans.HTTP_METHOD: scope["method"],
            spans.HTTP_ROUTE: scope["path"],
            spans.URL_PATH: scope["path"],
            spans.URL_SCHEME: scope["scheme"],
            spans.REQUEST_ID: scope["state"]["request_id"],
        }
        span = self._tracing.tracer.start_span(spec.name, context_of(headers), spec.kind, begun)
        try:
            yield span
        except BaseException as error:
            note_failure(span, name_of(error), status_of(error), message_of(error))
            raise
        finally:
            span.end()


def trace_context_of(scope: Scope) -> Context:
    """Return the context that a request's completions are children of."""
    context: Context = scope["state"][STATE]
    return context


def _note_status(span: Span, status: int) -> None:
    span.set_attribute(spans.HTTP_STATUS, status)
    if status >= 500:
        note_failure(span, str(status), "INTERNAL")
    elif status >= 400:
        span.set_attribute(spans.ERROR_TYPE, str(status))
