"""The scheduler: which sessions prefill, draft and verify in the next pass. Pure; no tensors.

All decoding sessions share a pass: on memory-bound machines one larger batch, which reads the
weights once, beats two overlapped halves. Prompts are prefilled in chunks beside them, so that
running sessions keep their pace.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from services.verify.session import Session
from shared.control.policies.static import Limits, decide
from shared.speculation.vocabulary import Decision


@dataclass(frozen=True, slots=True)
class Prefill:
    """Rows [session.num_run, end) of a session's tokens."""

    session: Session
    end: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What one pass does."""

    decoding: tuple[tuple[Session, Decision], ...]
    prefills: tuple[Prefill, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to run."""
        return not self.decoding and not self.prefills

    @property
    def drafting(self) -> list[tuple[Session, Decision]]:
        """Sessions whose round begins with a draft."""
        return [(session, decision) for session, decision in self.decoding if not decision.is_off]


@dataclass(frozen=True, slots=True)
class SchedulerLimits:
    """What bounds a pass and a round."""

    max_context_len: int
    max_rows: int
    prefill_chunk_len: int
    max_unread: int


def make_plan(
    sessions: Sequence[Session], limits: SchedulerLimits, *, has_draft_worker: bool
) -> Plan:
    """Plan a pass over the admitted sessions, in the order of their admission."""
    decoding = []
    prefills = []
    num_rows_left = limits.prefill_chunk_len
    for session in sessions:
        if session.is_decoding:
            if session.num_unread() < limits.max_unread:
                room = _room(session, limits)
                wished = session.request.wished
                decoding.append((session, decide(wished, room, has_draft_worker=has_draft_worker)))
        elif num_rows_left:
            end = min(session.committed_len, session.num_run + num_rows_left)
            num_rows_left -= end - session.num_run
            prefills.append(Prefill(session, end))
    return Plan(tuple(decoding), tuple(prefills))


def _room(session: Session, limits: SchedulerLimits) -> Limits:
    return Limits(
        tokens_left=session.request.stop.max_new_tokens - session.num_emitted,
        context_left=limits.max_context_len - session.committed_len,
        max_rows=limits.max_rows,
    )
