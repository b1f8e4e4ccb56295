"""The round tracer: notes what steps did to traced sessions, and hands it over in batches.

Runs on the engine's thread, where a session that is not traced costs one `if`. Spans are made of
the notes on the outbox's thread.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from services.verify.round_spans import (
    PassTimes,
    RoundTimes,
    SessionTimes,
    SessionTrace,
    spans_of_pass,
    spans_of_session,
)
from services.verify.session import Session
from services.verify.step_times import StepTimes
from shared.control.steps import RoundOutcome
from shared.speculation.vocabulary import Draft, FinishReason
from shared.telemetry.past_span import PastSpan
from shared.telemetry.span_outbox import SpanOutbox
from shared.telemetry.tracing import Tracing

BATCH_LEN = 16

Note = PassTimes | SessionTimes


class RoundTracer:
    """Notes of one engine; drafts_here: it drafts itself, as in a fused cell."""

    def __init__(self, tracing: Tracing, *, drafts_here: bool) -> None:
        self._drafts_here = drafts_here
        self._notes: list[Note] = []
        self._num_passes = 0
        self._outbox: SpanOutbox[Sequence[Note]] = SpanOutbox(self._make, tracing.export)

    def note_pass(
        self,
        times: StepTimes,
        committed_ns: int,
        rounds: Sequence[tuple[Session, RoundOutcome]],
        drafts: Mapping[str, Draft],
        num_rows: tuple[int, int],
    ) -> None:
        """Note a pass that has been committed.

        Args:
            times: of the step that it is in.
            committed_ns: when all its sessions were committed.
            rounds: of all sessions in it.
            drafts: that were verified, by session.
            num_rows: all rows, and of these the rows of prompts.
        """
        pass_index = self._num_passes
        self._num_passes += 1
        traced = [
            _round_times(session, session.trace, outcome, drafts, times.started_ns)
            for session, outcome in rounds
            if session.trace is not None
        ]
        if traced:
            span = (times.collected_ns, times.pass_end_ns, committed_ns)
            self._note(PassTimes(pass_index, *span, len(rounds), *num_rows, traced))

    def note_end(
        self, session: Session, trace: SessionTrace, reason: FinishReason, now_ns: int
    ) -> None:
        """Note that a traced session is over, and hand over what is noted."""
        self._note(session_times(session, trace, reason, now_ns))
        self._hand_over()

    def close(self) -> None:
        """Hand over what is left, once the engine has ended."""
        self._hand_over()
        self._outbox.close()

    def _note(self, note: Note) -> None:
        self._notes.append(note)
        if len(self._notes) >= BATCH_LEN:
            self._hand_over()

    def _hand_over(self) -> None:
        if self._notes:
            self._outbox.put(self._notes)
            self._notes = []

    def _make(self, notes: Iterable[Note]) -> Iterator[PastSpan]:
        for note in notes:
            if isinstance(note, PassTimes):
                yield from spans_of_pass(note, drafts_here=self._drafts_here)
            else:
                yield from spans_of_session(note)


def session_times(
    session: Session, trace: SessionTrace, reason: FinishReason, now_ns: int
) -> SessionTimes:
    """Return what is told of a session that is over."""
    return SessionTimes(
        trace,
        session.arrived_ns,
        session.admitted_ns,
        session.first_token_ns,
        now_ns,
        session.prompt_len,
        session.num_cached,
        session.num_preemptions,
        session.num_emitted - session.request.num_emitted,
        session.summary,
        reason,
    )


def _round_times(
    session: Session,
    trace: SessionTrace,
    outcome: RoundOutcome,
    drafts: Mapping[str, Draft],
    planned_ns: int,
) -> RoundTimes:
    key, started_ns = trace.take_round(planned_ns)
    draft = drafts.get(session.session_id)
    return RoundTimes(
        key,
        trace.decode_id,
        # The session's own is that of its next round by now.
        session.round_index - 1,
        outcome,
        started_ns,
        draft.started_ns if draft else 0,
        draft.draft_ns if draft else 0,
    )
