"""What a session leaves to the next turn of its conversation, and begins with from the last one."""

import asyncio
from dataclasses import dataclass

from shared.control.store.prior_counts import PriorCounts, PriorKey
from shared.control.store.session_state import SessionState
from shared.control.store.stored_session import StoredSession
from shared.speculation.vocabulary import Decision


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """What a session leaves to the next turn of its conversation.

    decision: its last one that was on, or its default; is_on: whether it drafted at last.
    saved: its evidence, as that saves itself.
    num_positions .. num_accepted: of this session when handed over, of all turns when read.
    """

    decision: Decision
    is_on: bool
    saved: bytes
    num_positions: int
    num_rounds: int
    num_drafted: int
    num_accepted: int


@dataclass(frozen=True, slots=True)
class Carried:
    """What a session begins with; None where there is nothing, or it was not told in time."""

    evidence: StoredEvidence | None = None
    priors: PriorCounts | None = None


class OpenSession:
    """A session as the store knows it; made by `SessionStore.open`."""

    def __init__(self, key: PriorKey, stored: StoredSession | None, deadline_s: float) -> None:
        """Take its kind, its conversation if that is kept, and the end of the wait for it."""
        self.key = key
        self.stored = stored
        self.priors: PriorCounts | None = None
        # What the turn before left in this process, if that is not in Redis yet.
        self.left_here: SessionState | None = None
        self._deadline_s = deadline_s
        self._questions: list[asyncio.Task[None]] = []

    @property
    def state(self) -> SessionState | None:
        """What the turn before left, as far as it is known now: here, or on another cell later."""
        told = self.stored.carried if self.stored else None
        known = [state for state in (self.left_here, told) if state is not None]
        return max(known, key=lambda state: state.saved_ms, default=None)

    def ask(self, question: "asyncio.Task[None]") -> None:
        """Let `carried` wait for a task."""
        self._questions.append(question)

    async def carried(self, timeout_s: float | None = None) -> Carried:
        """Return what the session begins with, as far as it is known in time.

        Args:
            timeout_s: longest wait from now; None: `claim_timeout_ms` from the opening on.
        """
        if timeout_s is None:
            timeout_s = max(0.0, self._deadline_s - asyncio.get_running_loop().time())
        if self._questions:
            await asyncio.wait(self._questions, timeout=timeout_s)
        return Carried(evidence_of(self.state), self.priors)


def evidence_of(state: SessionState | None) -> StoredEvidence | None:
    if state is None:
        return None
    return StoredEvidence(
        Decision(state.method, state.exit_layer, state.max_draft_len, state.stop_threshold),
        state.is_on,
        state.evidence,
        state.num_positions,
        state.num_rounds,
        state.num_drafted,
        state.num_accepted,
    )


def state_of(
    evidence: StoredEvidence, mk: str, before: SessionState | None, now_ms: int
) -> SessionState:
    """Return a state; its counts are those of the turns before and of this one."""
    decision = evidence.decision
    return SessionState(
        mk=mk,
        method=decision.method,
        exit_layer=decision.exit_layer,
        max_draft_len=decision.max_draft_len,
        stop_threshold=decision.stop_threshold,
        is_on=evidence.is_on,
        evidence=evidence.saved,
        num_positions=evidence.num_positions + (before.num_positions if before else 0),
        num_rounds=evidence.num_rounds + (before.num_rounds if before else 0),
        num_drafted=evidence.num_drafted + (before.num_drafted if before else 0),
        num_accepted=evidence.num_accepted + (before.num_accepted if before else 0),
        saved_ms=now_ms,
    )
