"""The step log: what each step of the engine did and took, for all who learn from it or show it."""

from collections.abc import Mapping, Sequence

from services.verify.engine_metrics import EngineMetrics
from services.verify.pass_items import PassResult
from services.verify.round_tracer import RoundTracer
from services.verify.session import Emitted, Session
from services.verify.session_log import SessionLog
from services.verify.set_search import SetSearcher
from services.verify.step_times import StepTimes
from services.verify.store_link import StoreLink
from shared.control.evidence.evidence_book import EvidenceBook
from shared.control.evidence.prior import Prior
from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.steps import RoundOutcome, StepOutcome
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import Decision, Draft, FinishReason, TokenSource
from shared.telemetry.chrome_trace import ChromeTrace

VERIFY_LANE, DRAFT_LANE = "verify worker", "draft worker"
# Reasons of plain rounds that would have had drafts, were there less load.
SHED = frozenset({"shed", "arbiter", "prompts"})


def _resume_layer(decision: Decision) -> int:
    return method_named(decision.method).resume_layer(decision)


def outcome_of(session: Session, decision: Decision, emitted: Emitted) -> RoundOutcome:
    """Return what the governor is told of a round."""
    num_accepted = sum(source is TokenSource.ACCEPTED for source in emitted.sources)
    return RoundOutcome(
        session.session_id,
        decision,
        emitted.draft_len,
        num_accepted,
        len(emitted.token_ids),
        emitted.observation,
        emitted.tree,
    )


class StepLog:
    """What becomes known with a step, told to all that learn from it or show it.

    the load governor, the sessions' own policies, the store behind it, the session log, the
    metrics, the trace, the traces of sampled requests
    """

    def __init__(
        self,
        num_layers: int,
        trace: ChromeTrace | None = None,
        exits: tuple[int, ...] = (),
        sessions: SessionLog | None = None,
        link: StoreLink | None = None,
        tracer: RoundTracer | None = None,
    ) -> None:
        self.governor = LoadGovernor(StepCosts(num_layers), _resume_layer, EvidenceBook(exits))
        self.sessions = sessions or SessionLog()
        self.metrics = EngineMetrics()
        self.num_shed_rounds = 0
        self._trace = trace
        self._link = link
        self._tracer = tracer
        # Sessions that ended with the step in hand.
        self._ended: list[tuple[Session, FinishReason]] = []
        # Where sessions may draft with layers left out: who looks for which.
        self.search: SetSearcher | None = None

    def note(
        self,
        times: StepTimes,
        end_ns: int,
        rounds: Sequence[tuple[Session, RoundOutcome]],
        results: Sequence[PassResult],
        drafts: Mapping[str, Draft],
        *,
        teaches: bool = True,
    ) -> None:
        """Take a step that has been committed; one that `teaches` tells what steps cost."""
        outcomes = [outcome for _, outcome in rounds]
        num_rows = sum(len(result.item.token_ids) for result in results)
        num_prefill_rows = num_rows - sum(each.num_drafted + 1 for each in outcomes)
        self.num_shed_rounds += sum(each.decision.reason in SHED for each in outcomes)
        # Asked before the governor hears of the step: of the plan that it followed.
        expected_per_ns = None if num_prefill_rows else self.governor.expected_per_ns(len(rounds))
        alarms = self.governor.note_step(
            StepOutcome(
                outcomes,
                num_prefill_rows,
                times.wait_ns if drafts else 0,
                times.pass_ns - times.read_ns,
                end_ns - times.started_ns,
                read_ns=times.read_ns,
                has_draft_reads=any(draft.shadow for draft in drafts.values()),
                teaches=teaches,
            )
        )
        for session, outcome in rounds:
            self._note_round(session, outcome, end_ns, is_alarm=outcome.key in alarms)
        if self.search is not None:
            self.search.note_step(end_ns - times.started_ns)
        self.metrics.note_pass(times.pass_ns, num_rows - num_prefill_rows, num_prefill_rows)
        if drafts:
            self.metrics.note_drafts(drafts, times.wait_ns)
        if rounds:
            step_ns = end_ns - times.started_ns
            self.metrics.note_step(outcomes, step_ns, times.decide_ns, expected_per_ns)
        if self._tracer is not None:
            self._tracer.note_pass(times, end_ns, rounds, drafts, (num_rows, num_prefill_rows))
        self._close_ended(end_ns)
        if self._trace is not None:
            self._draw(self._trace, times, end_ns, outcomes, num_prefill_rows, drafts)

    def _note_round(
        self, session: Session, outcome: RoundOutcome, end_ns: int, *, is_alarm: bool
    ) -> None:
        round_ns = self.sessions.note(
            session,
            outcome.decision,
            outcome.num_drafted,
            outcome.num_accepted,
            outcome.num_emitted,
            end_ns,
            is_alarm=is_alarm,
        )
        self.metrics.note_round(session, outcome, round_ns, is_alarm=is_alarm)
        if self._link is not None:
            self._link.note_round(session, outcome, self.governor.evidence, end_ns)
        if self.search is not None:
            self.search.note_round(session, outcome)
        if session.policy is not None and outcome.observation is not None:
            session.policy.note(
                outcome.decision, outcome.num_drafted, outcome.num_accepted, outcome.observation
            )

    def open(self, session: Session) -> None:
        """Begin with a session whose prompt is done; again if it lost its pages since."""
        is_first = self.sessions.open(session, session.request.policy)
        self.metrics.note_prompt_end(session, is_first=is_first)
        if self.search is not None:
            self.search.open(session)
        if session.carried is not None:
            self.governor.sessions.adopt(session.session_id, *session.carried)

    def adopt(self, session: Session, prior: Prior | None, saved: bytes | None) -> None:
        """Take what the store knows of a session; it may come before or after its first round."""
        session.carried = (prior, saved)
        # One that waits for its prompt is told when that is done; one that has ended has no pages.
        if session.is_decoding and session.table is not None:
            self.governor.sessions.adopt(session.session_id, prior, saved)

    def end(self, session: Session, reason: FinishReason) -> None:
        """Forget a session that ended with the step in hand, once that has been noted."""
        self._ended.append((session, reason))

    def drop(self, session: Session, now_ns: int) -> None:
        """Forget a session that was cancelled between two steps."""
        self._ended.append((session, FinishReason.CANCELLED))
        self._close_ended(now_ns)

    def _close_ended(self, now_ns: int) -> None:
        for session, reason in self._ended:
            if self._tracer is not None and session.trace is not None:
                self._tracer.note_end(session, session.trace, reason, now_ns)
            if self._link is not None:
                self._link.end(session, self.governor.evidence(session.session_id))
            if self.search is not None:
                self.search.close(session)
            self.governor.forget(session.session_id)
            self.sessions.end(session, reason)
            self.metrics.note_end(session, reason)
        self._ended.clear()

    def _draw(
        self,
        trace: ChromeTrace,
        times: StepTimes,
        end_ns: int,
        rounds: Sequence[RoundOutcome],
        num_prefill_rows: int,
        drafts: Mapping[str, Draft],
    ) -> None:
        num_drafted = sum(each.num_drafted for each in rounds)
        figures = {
            "sessions": len(rounds),
            "draft_tokens": num_drafted,
            "accepted_tokens": sum(each.num_accepted for each in rounds),
            "emitted_tokens": sum(each.num_emitted for each in rounds),
            "prefill_rows": num_prefill_rows,
        }
        trace.span(VERIFY_LANE, "plan", times.started_ns, times.wait_from_ns or times.collected_ns)
        if times.wait_ns:
            trace.span(VERIFY_LANE, "wait for drafts", times.wait_from_ns, times.collected_ns)
        trace.span(VERIFY_LANE, "pass", times.collected_ns, times.pass_end_ns, figures)
        trace.span(VERIFY_LANE, "commit", times.pass_end_ns, end_ns)
        # The drafts of one message share their times.
        spans = {(each.started_ns, each.draft_ns) for each in drafts.values() if each.started_ns}
        for started_ns, draft_ns in sorted(spans):
            trace.span(DRAFT_LANE, "draft", started_ns, started_ns + draft_ns)
