"""Commit: from a pass's results to longer sessions, told to their streams and to whoever learns."""

from collections.abc import Sequence

from services.verify.commit import commit_round
from services.verify.memory import SessionMemory
from services.verify.pass_items import PassResult
from services.verify.roster import Roster
from services.verify.scheduler import Plan
from services.verify.session import Emitted, Session
from services.verify.step_log import StepLog, outcome_of
from services.verify.step_times import StepTimes
from shared.control.steps import RoundOutcome
from shared.speculation.vocabulary import Decision, Draft


class Committer:
    """Commits passes; owned by the engine's thread."""

    def __init__(
        self, memory: SessionMemory, roster: Roster, steps: StepLog, max_context_len: int
    ) -> None:
        self._memory = memory
        self._roster = roster
        self._steps = steps
        self._max_context_len = max_context_len

    def commit(
        self,
        plan: Plan,
        drafts: dict[str, Draft],
        results: Sequence[PassResult],
        times: StepTimes,
    ) -> list[tuple[Session, RoundOutcome]]:
        """Commit every item's rows; return the rounds, those of ended sessions included."""
        decisions = {session.session_id: decision for session, decision in plan.decoding}
        rounds = []
        for result in results:
            session = result.item.session
            session.timings.verify_ns += times.pass_ns - times.read_ns
            self._memory.write_tokens(session, result.item.start, result.item.token_ids)
            if result.item.num_heads == 0:
                session.num_run += len(result.item.token_ids)
                self._memory.publish(session)
                continue
            decision = decisions.get(session.session_id)
            draft = drafts.get(session.session_id)
            if draft is not None:
                session.timings.draft_ns += times.wait_ns
            emitted = self.commit_round(session, decision, draft, result, times.pass_end_ns)
            if decision is not None:
                rounds.append((session, outcome_of(session, decision, emitted)))
        return rounds

    def commit_round(
        self,
        session: Session,
        decision: Decision | None,
        draft: Draft | None,
        result: PassResult,
        now_ns: int,
    ) -> Emitted:
        """Commit one item's rows, a round or the end of a prompt, and queue what is emitted."""
        is_prompt_done = not session.is_decoding
        emitted, reason = commit_round(session, decision, draft, result, self._max_context_len)
        if emitted.path:
            # Before anybody may find these pages.
            self._memory.compact(session, result.item.start + 1, emitted.path)
        if not session.first_token_ns:
            session.first_token_ns = now_ns
            session.timings.prefill_ns = now_ns - session.admitted_ns
        if is_prompt_done:
            self._memory.publish(session)
            self._steps.open(session)
        self._roster.events.append((session, emitted))
        if reason is not None:
            self._roster.end(session, reason, now_ns)
            self._steps.end(session, reason)
        return emitted
