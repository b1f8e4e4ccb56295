"""The spans of rounds and sessions, made of timings once they are over. Pure; see
`shared.telemetry.spans` for the tree that they make up.

    sent, or of a plain round planned                                    all sessions committed
    |=================================== round ==================================|
            |==== draft ====|== hand_over ==|========= verify =========|= commit =|
            draft worker     answer travels  the pass, shared with others
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from shared.control.steps import RoundOutcome
from shared.speculation.vocabulary import FinishReason, SpeculationSummary, TokenSource
from shared.telemetry import spans
from shared.telemetry.draft_span import draft_span
from shared.telemetry.past_span import NO_PARENT, PastSpan, SpanKey, new_span_id, new_trace_id
from shared.telemetry.spans import Attributes


@dataclass(slots=True)
class SessionTrace:
    """The sampled trace that a session belongs to; owned by the engine's thread once submitted.

    round_id, started_ns: of the round whose draft is ordered; 0 before the order.
    """

    trace_id: int
    generate_id: int
    decode_id: int
    round_id: int = 0
    started_ns: int = 0

    def order(self, now_ns: int) -> str:
        """Begin a round with a draft; return the context that the draft worker is to know."""
        self.round_id, self.started_ns = new_span_id(), now_ns
        return SpanKey(self.trace_id, self.round_id).traceparent

    def forget_order(self) -> None:
        """Drop a round that came to nothing: the session lost its pages to it."""
        self.round_id = self.started_ns = 0

    def take_round(self, plain_started_ns: int) -> tuple[SpanKey, int]:
        """End a round; return its key, and when it began: at its order, else as given."""
        started_ns = self.started_ns or plain_started_ns
        key = SpanKey(self.trace_id, self.round_id or new_span_id())
        self.forget_order()
        return key, started_ns


class RoundTimes(NamedTuple):
    """One traced round that was committed; draft_ns 0: no draft came."""

    key: SpanKey
    decode_id: int
    round_index: int
    outcome: RoundOutcome
    started_ns: int
    draft_started_ns: int
    draft_ns: int


class PassTimes(NamedTuple):
    """One pass with traced rounds in it, from its beginning to the commit behind it."""

    pass_index: int
    started_ns: int
    ended_ns: int
    committed_ns: int
    num_sessions: int
    num_rows: int
    num_prefill_rows: int
    rounds: Sequence[RoundTimes]


class SessionTimes(NamedTuple):
    """One traced session that is over; a time of 0: it never came so far."""

    trace: SessionTrace
    arrived_ns: int
    admitted_ns: int
    first_token_ns: int
    ended_ns: int
    prompt_len: int
    num_cached: int
    num_preemptions: int
    num_emitted: int
    summary: SpeculationSummary
    reason: FinishReason


def spans_of_pass(times: PassTimes, *, drafts_here: bool) -> Iterator[PastSpan]:
    """Make a pass, and the rounds in it with their parts.

    drafts_here: this process drafts, so that their `draft` spans are to be made here too.
    """
    key = SpanKey(new_trace_id(), new_span_id())
    attributes = {
        spans.PASS_INDEX: times.pass_index,
        spans.PASS_SESSIONS: times.num_sessions,
        spans.PASS_ROWS: times.num_rows,
        spans.PASS_PREFILL_ROWS: times.num_prefill_rows,
    }
    links = tuple(each.key for each in times.rounds)
    yield PastSpan(spans.PASS, key, NO_PARENT, times.started_ns, times.ended_ns, attributes, links)
    for each in times.rounds:
        yield from _spans_of_round(each, times, key, drafts_here)


def _spans_of_round(
    times: RoundTimes, in_pass: PassTimes, pass_key: SpanKey, drafts_here: bool
) -> Iterator[PastSpan]:
    key = times.key
    yield PastSpan(
        spans.ROUND,
        key,
        times.decode_id,
        times.started_ns,
        in_pass.committed_ns,
        _attributes_of(times),
    )

    def part(
        spec: spans.SpanSpec, start_ns: int, end_ns: int, links: tuple[SpanKey, ...] = ()
    ) -> PastSpan:
        own = SpanKey(key.trace_id, new_span_id())
        return PastSpan(spec, own, key.span_id, start_ns, end_ns, links=links)

    if times.draft_ns:
        drafted_ns = times.draft_started_ns + times.draft_ns
        if drafts_here:
            outcome = times.outcome
            yield draft_span(
                key,
                times.round_index,
                outcome.decision,
                outcome.num_drafted,
                times.draft_started_ns,
                times.draft_ns,
            )
        yield part(spans.HAND_OVER, drafted_ns, max(drafted_ns, in_pass.started_ns))
    yield part(spans.VERIFY_SPAN, in_pass.started_ns, in_pass.ended_ns, (pass_key,))
    yield part(spans.COMMIT, in_pass.ended_ns, in_pass.committed_ns)


def _attributes_of(times: RoundTimes) -> Attributes:
    outcome = times.outcome
    decision = outcome.decision
    attributes: dict[str, spans.Value] = {
        spans.ROUND_INDEX: times.round_index,
        spans.METHOD: decision.method,
        spans.EXIT_LAYER: decision.exit_layer,
        spans.MAX_DRAFT_LEN: decision.max_draft_len,
        spans.STOP_THRESHOLD: decision.stop_threshold,
        spans.DRAFT_LEN: outcome.num_drafted,
        spans.ROUND_ACCEPTED: outcome.num_accepted,
        spans.ROUND_EMITTED: outcome.num_emitted,
        spans.SOURCE: source_of(outcome).name.lower(),
        spans.REASON: decision.reason,
    }
    if not decision.is_off and not outcome.num_drafted:
        attributes[spans.IS_DRAFT_LOST] = True
    return attributes


def source_of(outcome: RoundOutcome) -> TokenSource:
    """Return where the last token that a round emitted came from."""
    if not outcome.num_drafted:
        return TokenSource.PLAIN
    if outcome.num_emitted == outcome.num_accepted:
        # The session ended by one of its drafts.
        return TokenSource.ACCEPTED
    was_kept_whole = outcome.num_accepted == outcome.num_on_path
    return TokenSource.BONUS if was_kept_whole else TokenSource.RECOVERED


def spans_of_session(times: SessionTimes) -> Iterator[PastSpan]:
    """Make the stages of a session, as far as it came."""
    trace = times.trace
    admitted_ns = times.admitted_ns or times.ended_ns
    first_token_ns = times.first_token_ns or times.ended_ns

    def stage(spec: spans.SpanSpec, start_ns: int, end_ns: int, attributes: Attributes) -> PastSpan:
        key = SpanKey(trace.trace_id, new_span_id())
        return PastSpan(spec, key, trace.generate_id, start_ns, end_ns, attributes)

    yield stage(spans.QUEUE, times.arrived_ns, admitted_ns, {})
    if times.admitted_ns:
        prompt = {spans.PROMPT_LEN: times.prompt_len, spans.NUM_CACHED_TOKENS: times.num_cached}
        yield stage(spans.PREFILL, admitted_ns, first_token_ns, prompt)
    if times.first_token_ns:
        yield PastSpan(
            spans.DECODE,
            SpanKey(trace.trace_id, trace.decode_id),
            trace.generate_id,
            times.first_token_ns,
            times.ended_ns,
            _decode_attributes(times),
        )


def _decode_attributes(times: SessionTimes) -> Attributes:
    summary = times.summary
    return {
        spans.NUM_ROUNDS: summary.num_drafts + summary.num_plain_rounds,
        spans.NUM_PLAIN_ROUNDS: summary.num_plain_rounds,
        spans.NUM_DRAFT_TOKENS: summary.num_draft_tokens,
        spans.NUM_ACCEPTED: summary.num_accepted_tokens,
        spans.NUM_EMITTED: times.num_emitted,
        spans.NUM_PREEMPTIONS: times.num_preemptions,
        spans.FINISH_REASON: times.reason.name.lower(),
    }
