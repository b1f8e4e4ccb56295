"""The one log line of a finished request, and its metrics: ids, counts, times, never text."""

import asyncio
import logging
from dataclasses import dataclass, field
from time import monotonic_ns

from opentelemetry.trace import SpanContext

from services.gateway.attempt import SessionStarted
from services.gateway.request_metrics import TEXT_COMPLETION, RequestEnd, RequestMetrics
from shared.errors import ShortstackError
from shared.ids import RequestId
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import SpeculationSummary
from shared.telemetry.exemplars import trace_id_of
from shared.telemetry.trace_context import trace_fields

log = logging.getLogger(__name__)


@dataclass(slots=True)
class RequestLog:
    """What is known of a request so far; times are of `monotonic_ns`."""

    request_id: RequestId
    metrics: RequestMetrics
    operation: str = TEXT_COMPLETION
    tenant: str = ""
    finish_reason: str = ""
    status: str = "OK"
    error_type: str = ""
    cell_id: str = ""
    session_id: str = ""
    method: str = ""
    exit_layer: int = 0
    num_cached_tokens: int = 0
    num_preemptions: int = 0
    _arrived_ns: int = field(default_factory=monotonic_ns)
    _admitted_ns: int = 0
    _started_ns: int = 0
    _first_token_ns: int = 0

    def note_admitted(self) -> None:
        """Note that the request has a place."""
        self._admitted_ns = monotonic_ns()

    def note_session(self, started: SessionStarted) -> None:
        """Note the cell; the last one stands."""
        self.cell_id, self.session_id = started.cell_id, started.session_id
        self._started_ns = self._started_ns or monotonic_ns()

    def note_round(self, round_: pb.GenerateTokens) -> None:
        """Note how the round was made; the last one with a draft stands."""
        self._first_token_ns = self._first_token_ns or monotonic_ns()
        if round_.draft_len:
            self.method, self.exit_layer = round_.method, round_.exit_layer

    def note_finished(self, num_cached_tokens: int, num_preemptions: int) -> None:
        """Note what the cell told of the session's memory."""
        self.num_cached_tokens, self.num_preemptions = num_cached_tokens, num_preemptions

    def note_error(self, error: BaseException) -> None:
        """Note what ended the request, if it was no regular end."""
        if isinstance(error, (GeneratorExit, asyncio.CancelledError)):
            self.finish_reason = self.finish_reason or "cancelled"
            self.status = "CANCELLED"
            return
        self.error_type = type(error).__name__
        self.status = error.status if isinstance(error, ShortstackError) else "INTERNAL"

    def timings(self) -> pb.SessionTimings:
        """Return the session's times as seen from here, for an end that the cell did not time."""
        now = monotonic_ns()
        started = self._started_ns or now
        first = self._first_token_ns or now
        return pb.SessionTimings(
            queue_ns=max(0, started - (self._admitted_ns or started)),
            prefill_ns=max(0, first - started),
            decode_ns=now - first,
        )

    @property
    def admission_ms(self) -> float | None:
        """Time until the request had a place; None: it has none yet."""
        return self._ms_until(self._admitted_ns) if self._admitted_ns else None

    @property
    def ttft_ms(self) -> float | None:
        """Time until the first tokens; None: there are none yet."""
        return self._ms_until(self._first_token_ns) if self._first_token_ns else None

    def write(
        self,
        summary: SpeculationSummary,
        prompt_len: int,
        num_emitted: int,
        num_replays: int,
        span: SpanContext,
    ) -> None:
        """Write the line, and count the request; `span` is the request's."""
        now = monotonic_ns()
        self._count(now, summary, prompt_len, num_emitted, num_replays, trace_id_of(span))
        log.info(
            "request finished",
            extra={
                "request_id": self.request_id,
                "tenant": self.tenant,
                "session_id": self.session_id,
                "cell_id": self.cell_id,
                "method": self.method or "off",
                "exit_layer": self.exit_layer,
                "prompt_len": prompt_len,
                "num_emitted": num_emitted,
                "num_draft_tokens": summary.num_draft_tokens,
                "num_accepted": summary.num_accepted_tokens,
                "num_cached_tokens": self.num_cached_tokens,
                "num_preemptions": self.num_preemptions,
                "finish_reason": self.finish_reason,
                "replays": num_replays,
                "queue_ms": self._ms_until(self._admitted_ns or now),
                "ttft_ms": self.ttft_ms,
                "duration_ms": self._ms_until(now),
                "error_type": self.error_type,
                "status": self.status,
                **trace_fields(span),
            },
        )

    def _count(
        self,
        now_ns: int,
        summary: SpeculationSummary,
        prompt_len: int,
        num_emitted: int,
        num_replays: int,
        trace_id: str | None,
    ) -> None:
        self.metrics.note_end(
            RequestEnd(
                operation=self.operation,
                status=self.status,
                finish_reason=self.finish_reason,
                error_type=self.error_type,
                has_begun=self._started_ns > 0,
                queue_s=self._s_until(self._admitted_ns),
                first_token_s=self._s_until(self._first_token_ns),
                duration_s=(now_ns - self._arrived_ns) / 1e9,
                prompt_len=prompt_len,
                num_cached=self.num_cached_tokens,
                num_emitted=num_emitted,
                num_drafted=summary.num_draft_tokens,
                num_accepted=summary.num_accepted_tokens,
                num_replays=num_replays,
                trace_id=trace_id,
            )
        )

    def _s_until(self, time_ns: int) -> float | None:
        """Return the time from the arrival to a point; None where that has not come."""
        return (time_ns - self._arrived_ns) / 1e9 if time_ns else None

    def _ms_until(self, time_ns: int) -> float:
        return round((time_ns - self._arrived_ns) / 1e6, 3)
