"""The step log: what each step of the engine did and took, for the load governor and the trace."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.verify.pass_runner import PassResult
from services.verify.session import Emitted, Session
from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.steps import RoundOutcome, StepOutcome
from shared.speculation.methods.registry import method_named
from shared.speculation.vocabulary import Decision, Draft, TokenSource
from shared.telemetry.chrome_trace import ChromeTrace

VERIFY_LANE, DRAFT_LANE = "verify worker", "draft worker"
# Reasons of plain rounds that would have had drafts, were there less load.
SHED = frozenset({"shed", "arbiter"})


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Points in time of a step, ns.

    wait_from_ns: from here to collected_ns the engine waited for drafts; 0 if it did not.
    """

    started_ns: int
    wait_from_ns: int
    collected_ns: int
    pass_end_ns: int

    @property
    def wait_ns(self) -> int:
        """Time spent waiting for drafts."""
        return self.collected_ns - self.wait_from_ns if self.wait_from_ns else 0

    @property
    def pass_ns(self) -> int:
        """Time of the verify pass."""
        return self.pass_end_ns - self.collected_ns


def _resume_layer(decision: Decision) -> int:
    return method_named(decision.method).resume_layer(decision)


def outcome_of(session: Session, decision: Decision, emitted: Emitted) -> RoundOutcome:
    """Return what the governor is told of a round."""
    num_accepted = sum(source is TokenSource.ACCEPTED for source in emitted.sources)
    return RoundOutcome(
        session.session_id, decision, emitted.draft_len, num_accepted, len(emitted.token_ids)
    )


class StepLog:
    """Feeds the governor and, if there is one, the trace."""

    def __init__(self, num_layers: int, trace: ChromeTrace | None = None) -> None:
        self.governor = LoadGovernor(StepCosts(num_layers), _resume_layer)
        self.num_shed_rounds = 0
        self._trace = trace

    def note(
        self,
        times: StepTimes,
        end_ns: int,
        rounds: Sequence[RoundOutcome],
        results: Sequence[PassResult],
        drafts: Mapping[str, Draft],
        *,
        teaches: bool = True,
    ) -> None:
        """Take a step that has been committed; one that `teaches` tells what steps cost."""
        num_rows = sum(len(result.item.token_ids) for result in results)
        num_prefill_rows = num_rows - sum(each.num_drafted + 1 for each in rounds)
        self.num_shed_rounds += sum(each.decision.reason in SHED for each in rounds)
        if teaches:
            self.governor.note_step(
                StepOutcome(
                    rounds,
                    num_prefill_rows,
                    times.wait_ns if drafts else 0,
                    times.pass_ns,
                    end_ns - times.started_ns,
                )
            )
        if self._trace is not None:
            self._draw(self._trace, times, end_ns, rounds, num_prefill_rows, drafts)

    def forget(self, session: Session) -> None:
        """Forget a session that ended."""
        self.governor.forget(session.session_id)

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
