"""The span of a session's call, and what the engine is told of it, if the trace is sampled."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.trace import Span

from services.verify.round_spans import SessionTrace, spans_of_session
from services.verify.round_tracer import session_times
from services.verify.session import Session
from shared.errors import ShortstackError
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import FinishReason
from shared.telemetry import spans
from shared.telemetry.exemplars import trace_id_of
from shared.telemetry.past_span import new_span_id
from shared.telemetry.rpc_span import rpc_span
from shared.telemetry.trace_context import TRACEPARENT
from shared.telemetry.tracing import Tracing

METHOD = "shortstack.v1.VerifyService/Generate"


@dataclass(slots=True)
class GenerateSpan:
    """The span of one call, and of the session in it once there is one."""

    span: Span
    session: Session | None = None

    def begin(self, session: Session) -> None:
        """Make the session a traced one, if this call is; it has not been submitted yet."""
        if not self.span.is_recording():
            return
        request = session.request
        self.span.set_attributes(
            {
                spans.SESSION_ID: request.session_id,
                spans.POLICY: request.policy,
                spans.PROMPT_LEN: session.prompt_len,
                spans.NUM_EMITTED_BEFORE: request.num_emitted,
            }
        )
        ids = self.span.get_span_context()
        session.trace_id = trace_id_of(ids)
        session.trace = SessionTrace(ids.trace_id, ids.span_id, new_span_id())
        self.session = session


@contextmanager
def generate_span(
    tracing: Tracing,
    cell_id: str,
    request: pb.GenerateRequest,
    metadata: Iterable[tuple[str, str | bytes]] | None,
) -> Iterator[GenerateSpan]:
    """Record a call; what its caller's context says is in the metadata, else in the message."""
    carrier = list(metadata or ())
    if request.traceparent and TRACEPARENT not in (name for name, _ in carrier):
        carrier.append((TRACEPARENT, request.traceparent))
    with rpc_span(tracing, spans.GENERATE, METHOD, carrier, {spans.CELL_ID: cell_id}) as span:
        generate = GenerateSpan(span)
        try:
            yield generate
        except ShortstackError:
            _note_refused(tracing, generate.session)
            raise


def _note_refused(tracing: Tracing, session: Session | None) -> None:
    """Tell of a session that the engine turned away: it saw nothing but the queue."""
    if session is None or session.trace is None:
        return
    now_ns = time.perf_counter_ns()
    times = session_times(session, session.trace, FinishReason.CANCELLED, now_ns)
    tracing.export(spans_of_session(times))
