"""One request from admission to its last message: ids become text, the text ends where it must.

Knows nothing of messages to clients: what it yields are values, for whichever face asked.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from opentelemetry.context import Context

from services.gateway.active import RunningRequest
from services.gateway.admission import Admission, Claim, Place
from services.gateway.attempt import SessionEvent, SessionPlan, SessionStarted
from services.gateway.cells import CellChannels
from services.gateway.prefix_index import prefix_hashes
from services.gateway.prompt_ids import encode_prompt
from services.gateway.request import RequestLimits, TextRequest, fit_to_context
from services.gateway.request_log import RequestLog
from services.gateway.request_metrics import CHAT, TEXT_COMPLETION, RequestMetrics
from services.gateway.request_trace import RequestTrace
from services.gateway.router import Router
from services.gateway.session import Session
from services.gateway.task_keys import TaskKeys
from services.gateway.text import CompletionText
from services.gateway.throughput import Throughput
from services.gateway.tokenizer import ModelTokenizer
from shared.errors import Cancelled
from shared.ids import RequestId, SessionId
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import FinishReason, SpeculationSummary
from shared.telemetry.tracing import Tracing

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Started:
    """A cell runs the request."""

    request_id: RequestId
    session_id: SessionId
    cell_id: str
    prompt_len: int
    model_name: str
    seed: int


@dataclass(frozen=True, slots=True)
class DraftReport:
    """What became of a round's draft, and why it was ordered so."""

    draft_len: int
    num_accepted: int
    method: str
    exit_layer: int
    reason: str


@dataclass(frozen=True, slots=True)
class Tokens:
    """What one round adds; the text may lag behind the ids. A plain round has no draft.

    token_texts: where asked for, the text that became certain with each id.
    """

    text: str
    token_ids: Sequence[int]
    sources: Sequence[pb.TokenSource]
    logprobs: Sequence[pb.TokenLogprobs]
    draft: DraftReport | None = None
    token_texts: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """The end, with the text that was held back."""

    text: str
    reason: FinishReason
    # The stop string that ended it, if one did; the id, if one did.
    stop_string: str
    stop_token_id: int | None
    prompt_len: int
    num_emitted: int
    summary: SpeculationSummary
    timings: pb.SessionTimings
    num_replays: int
    num_cached_tokens: int
    num_preemptions: int

    @property
    def stop_reason(self) -> str:
        """What ended it, as text: the stop string or the id."""
        is_id = self.stop_token_id is not None
        return str(self.stop_token_id) if is_id else self.stop_string


CompletionEvent = Started | Tokens | Finished


@dataclass(frozen=True, slots=True)
class CompletionTools:
    """What all requests of a gateway share."""

    tokenizer: ModelTokenizer
    admission: Admission
    router: Router
    channels: CellChannels
    max_replays: int
    task_keys: TaskKeys
    metrics: RequestMetrics
    tracing: Tracing
    throughput: Throughput = field(default_factory=Throughput)


@dataclass(slots=True)
class Completion:
    """One request. `run` is called once. Its span is a child of `trace_context`, its face's."""

    request: TextRequest
    limits: RequestLimits
    tools: CompletionTools
    running: RunningRequest
    deadline_s: float
    trace_context: Context = field(default_factory=Context)
    has_token_texts: bool = False
    _log: RequestLog = field(init=False)
    _trace: RequestTrace = field(init=False)
    _summary: SpeculationSummary = field(default_factory=SpeculationSummary)
    _text: CompletionText | None = None
    _session: Session | None = None
    _place: Place | None = None
    _prompt_ids: tuple[int, ...] = ()
    _num_emitted: int = 0
    _num_cached_tokens: int = 0

    def __post_init__(self) -> None:
        """Start the clock."""
        self._log = RequestLog(
            self.request.request_id,
            self.tools.metrics,
            CHAT if self.request.is_chat else TEXT_COMPLETION,
            self.request.tenant,
        )
        self._trace = RequestTrace(self.tools.tracing, self.request, self.trace_context)

    async def run(self) -> AsyncGenerator[CompletionEvent, None]:
        """Yield what happens; the last event is `Finished`, unless an error ends it.

        Raises:
            ShortstackError: as `Session.run`, or refused by admission or for its lengths.
        """
        with self._logged():
            try:
                self._place = await self._enter()
                try:
                    async with aclosing(self._open_session().run()) as session:
                        async for event in self._events(session):
                            yield event
                finally:
                    self.tools.admission.leave(self._place)
            except Cancelled:
                yield self._finish(FinishReason.CANCELLED)

    async def _enter(self) -> Place:
        """Get the prompt's ids and a place.

        The ids come first: what can never run is refused at once, and a place is shared out by the
        tokens that the request may take.
        """
        admission = self.tools.admission
        with self.running.waiting():
            admission.check_open(self.request.tenant)
            self._prompt_ids = await encode_prompt(self.tools.tokenizer, self.request.prompt)
            self.request = fit_to_context(self.request, len(self._prompt_ids), self.limits)
            place = await admission.enter(self._claim())
        self._log.note_admitted()
        return place

    def _open_session(self) -> Session:
        plan = SessionPlan(
            self.request,
            self._prompt_ids,
            eos_token_ids=self.limits.model.eos_token_ids,
            deadline_s=self.deadline_s,
            max_replays=self.tools.max_replays,
            prefix_hashes=prefix_hashes(self._prompt_ids),
            task_key=self.tools.task_keys.key_of(self.request),
            metadata=self._trace.metadata(),
        )
        self._session = Session(plan, self.tools.router, self.tools.channels)
        return self._session

    def _open_text(self) -> CompletionText:
        self._text = CompletionText(
            self.tools.tokenizer,
            self._prompt_ids,
            self.request.stop_strings,
            has_token_texts=self.has_token_texts,
        )
        return self._text

    async def _events(
        self, events: AsyncGenerator[SessionEvent, None]
    ) -> AsyncIterator[CompletionEvent]:
        is_started = False
        while True:
            with self.running.waiting():
                event = await anext(events)
            if isinstance(event, pb.GenerateTokens):
                tokens, stop_string = self._take(event)
                if stop_string:
                    # The cell's work ends now, however slowly the client reads.
                    await events.aclose()
                yield tokens
                if stop_string:
                    yield self._finish(FinishReason.STOP, stop_string)
                    return
            elif isinstance(event, SessionStarted):
                self._log.note_session(event)
                self._note_used()
                if not is_started:
                    # Not before the cell has its work: it computes the prompt meanwhile.
                    self._open_text()
                    self._num_cached_tokens = event.num_cached_tokens
                    yield self._started(event)
                is_started = True
            else:
                yield self._finish_as(event)
                return

    def _claim(self) -> Claim:
        request = self.request
        num_tokens = len(self._prompt_ids) + request.max_new_tokens
        return Claim(request.tenant, request.priority, num_tokens, self.deadline_s)

    def _note_used(self) -> None:
        """Tell the tokens taken so far, which the tenant pays for."""
        assert self._place is not None, "a cell runs what has a place"
        self._place.num_used = len(self._prompt_ids) + self._num_emitted

    def _take(self, round_: pb.GenerateTokens) -> tuple[Tokens, str]:
        """Turn a round into text; return it with the stop string that it completed, if any."""
        piece = (self._text or self._open_text()).push(round_.token_ids)
        sources = round_.sources[: piece.num_tokens]
        self._num_emitted += piece.num_tokens
        self._note_used()
        self.tools.throughput.note(piece.num_tokens)
        num_accepted = sources.count(pb.TOKEN_SOURCE_ACCEPTED)
        self._summary.count(round_.draft_len, num_accepted, piece.num_tokens)
        self._log.note_round(round_)
        self._trace.note_text(piece.text)
        tokens = Tokens(
            text=piece.text,
            token_ids=round_.token_ids[: piece.num_tokens],
            sources=sources,
            logprobs=round_.logprobs[: piece.num_tokens],
            draft=_draft_report(round_, num_accepted),
            token_texts=piece.token_texts,
        )
        return tokens, piece.stop_string

    def _started(self, event: SessionStarted) -> Started:
        return Started(
            request_id=self.request.request_id,
            session_id=event.session_id,
            cell_id=event.cell_id,
            prompt_len=len(self._prompt_ids),
            model_name=self.request.model_name,
            seed=self.request.sampling.seed,
        )

    def _finish_as(self, event: pb.GenerateFinished) -> Finished:
        return self._finish(FinishReason(event.finish_reason), told=event)

    def _finish(
        self,
        reason: FinishReason,
        stop_string: str = "",
        told: pb.GenerateFinished | None = None,
    ) -> Finished:
        """Return the end, with what the cell told of it; nothing where the gateway ended it."""
        held = "" if stop_string or self._text is None else self._text.flush()
        self._trace.note_text(held)
        is_by_id = told is not None and told.HasField("stop_token_id")
        finished = Finished(
            text=held,
            reason=reason,
            stop_string=stop_string,
            stop_token_id=told.stop_token_id if told and is_by_id else None,
            prompt_len=len(self._prompt_ids),
            num_emitted=self._num_emitted,
            summary=self._summary,
            timings=told.timings if told else self._log.timings(),
            num_replays=self._session.num_replays if self._session else 0,
            num_cached_tokens=self._num_cached_tokens,
            num_preemptions=told.num_preemptions if told else 0,
        )
        self._log.note_finished(finished.num_cached_tokens, finished.num_preemptions)
        self._log.finish_reason = reason.name.lower()
        return finished

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Write the request's one line when it is over, however it ended."""
        try:
            yield
        except BaseException as error:
            if self.running.is_slow_reader:
                self._log.finish_reason = "slow_reader"
            self._log.note_error(error)
            raise
        finally:
            num_replays = self._session.num_replays if self._session else 0
            counts = (self._summary, len(self._prompt_ids), self._num_emitted, num_replays)
            self._trace.end(self._log, *counts)
            self._log.write(*counts, self._trace.span_context)


def _draft_report(round_: pb.GenerateTokens, num_accepted: int) -> DraftReport | None:
    if not round_.draft_len:
        return None
    return DraftReport(
        round_.draft_len, num_accepted, round_.method, round_.exit_layer, round_.reason
    )
