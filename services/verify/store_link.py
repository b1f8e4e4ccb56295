"""What sessions leave to the store, handed over by the engine's thread to the event loop.

    engine's thread   every 64 rounds or 2 s, and at the end     note_round, end
    event loop        SessionStore takes it from there

Nobody waits for any of it.
"""

import asyncio
from collections.abc import Callable, Mapping

from services.verify.session import Session
from services.verify.session_store import SessionStore
from services.verify.stored_evidence import OpenSession, StoredEvidence
from shared.control.evidence.session_evidence import SessionEvidence
from shared.control.steps import RoundOutcome
from shared.control.store.schedule import FlushSchedule
from shared.speculation.vocabulary import Decision


class StoreLink:
    """Owned by the engine's thread; sessions without an `opened` are none of its business."""

    def __init__(self, store: SessionStore, loop: asyncio.AbstractEventLoop) -> None:
        self._store = store
        self._loop = loop
        self._schedules: dict[str, FlushSchedule] = {}
        # The last decision of each session that was on.
        self._last_on: dict[str, Decision] = {}
        self._is_on: dict[str, bool] = {}

    def note_round(
        self,
        session: Session,
        outcome: RoundOutcome,
        evidence_of: Callable[[str], SessionEvidence | None],
        now_ns: int,
    ) -> None:
        """Take a committed round; hand the session's evidence over if that is due."""
        if session.opened is None:
            return
        key = session.session_id
        self._is_on[key] = not outcome.decision.is_off
        if self._is_on[key]:
            self._last_on[key] = outcome.decision
        schedule = self._schedules.setdefault(key, FlushSchedule(now_ns))
        if schedule.note_round(now_ns):
            self._hand_over(session, session.opened, evidence_of(key), is_end=False)

    def end(self, session: Session, evidence: SessionEvidence | None) -> None:
        """Hand over what a session leaves at its end; None: it never decoded."""
        if session.opened is None:
            return
        self._hand_over(session, session.opened, evidence, is_end=True)
        for kept in (self._schedules, self._last_on, self._is_on):
            kept.pop(session.session_id, None)

    def _hand_over(
        self,
        session: Session,
        opened: OpenSession,
        evidence: SessionEvidence | None,
        *,
        is_end: bool,
    ) -> None:
        stored: StoredEvidence | None = None
        counts: Mapping[str, int] = {}
        if evidence is not None:
            counts = evidence.totals_since_flush().to_pairs()
            stored = self._stored(session, evidence)
        take = self._store.close_session if is_end else self._store.note
        self._loop.call_soon_threadsafe(take, opened, stored, counts)

    def _stored(self, session: Session, evidence: SessionEvidence) -> StoredEvidence:
        summary = session.summary
        return StoredEvidence(
            self._last_on.get(session.session_id, session.request.wished),
            self._is_on.get(session.session_id, False),
            evidence.save(),
            evidence.num_positions,
            summary.num_drafts + summary.num_plain_rounds,
            summary.num_draft_tokens,
            summary.num_accepted_tokens,
        )
