"""What the engine's thread counts for metrics: plain numbers, no lock, nothing formatted.

`cell_signals` reads them when somebody scrapes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from services.verify.round_counts import RoundCounts
from services.verify.session import Session
from shared.control.steps import RoundOutcome
from shared.ids import SessionId
from shared.speculation.vocabulary import Decision, Draft, FinishReason
from shared.telemetry.distribution import Distribution
from shared.telemetry.signals.table import bounds_of

NS_PER_S = 1e9
NS_PER_US = 1e3
# As vLLM names them.
FINISHED_REASONS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.CANCELLED: "abort",
}


def _distribution(name: str) -> Distribution:
    return Distribution(bounds_of(name))


class EngineMetrics:
    """Owned by the engine's thread; read by any."""

    def __init__(self) -> None:
        """Begin with zeros."""
        # Steps.
        self.round_s = _distribution("shortstack_round_seconds")
        self.draft_s = _distribution("shortstack_draft_seconds")
        self.hand_over_s = _distribution("shortstack_hand_over_seconds")
        self.verify_s = _distribution("shortstack_verify_seconds")
        self.pass_sessions = _distribution("shortstack_pass_sessions")
        self.decode_rows = _distribution("shortstack_pass_rows")
        self.prefill_rows = _distribution("shortstack_pass_rows")
        self.decide_us = _distribution("shortstack_control_decide_us")
        self.drafting_forecast = _distribution("shortstack_control_predicted_over_actual")
        self.plain_forecast = _distribution("shortstack_control_predicted_over_actual")
        # Rounds.
        self.rounds = RoundCounts()
        self.decisions: Counter[str] = Counter()
        self.num_mode_switches = 0
        self.num_arm_changes = 0
        self.num_alarms = 0
        self.inter_token_s = _distribution("vllm:inter_token_latency_seconds")
        self._last: dict[SessionId, Decision] = {}
        # Sessions. The token at the end of a prompt comes from no round.
        self.num_prompt_ends = 0
        self.num_prompt_tokens = 0
        self.finished = Counter(dict.fromkeys(FINISHED_REASONS.values(), 0))
        self.first_token_s = _distribution("vllm:time_to_first_token_seconds")
        self.session_s = _distribution("vllm:e2e_request_latency_seconds")
        self.queue_s = _distribution("vllm:request_queue_time_seconds")
        self.prefill_s = _distribution("vllm:request_prefill_time_seconds")
        self.decode_s = _distribution("vllm:request_decode_time_seconds")
        self.prompt_lens = _distribution("vllm:request_prompt_tokens")
        self.generation_lens = _distribution("vllm:request_generation_tokens")

    # --- steps ----------------------------------------------------------------------------------

    def note_pass(self, pass_ns: int, num_decode_rows: int, num_prefill_rows: int) -> None:
        """Take a verify pass and the rows in it."""
        self.verify_s.observe(pass_ns / NS_PER_S)
        if num_decode_rows:
            self.decode_rows.observe(num_decode_rows)
        if num_prefill_rows:
            self.prefill_rows.observe(num_prefill_rows)

    def note_step(
        self,
        rounds: Sequence[RoundOutcome],
        step_ns: int,
        decide_ns: int,
        expected_per_ns: float | None,
    ) -> None:
        """Take a step that has rounds.

        Args:
            rounds: at least one.
            step_ns: from the plan to the commit.
            decide_ns: of this, what deciding took.
            expected_per_ns: tokens that the plan expected of this step; None: it followed none.
        """
        self.round_s.observe(step_ns / NS_PER_S, len(rounds))
        self.pass_sessions.observe(len(rounds))
        self.decide_us.observe(decide_ns / NS_PER_US)
        if expected_per_ns is not None:
            num_emitted = sum(each.num_emitted for each in rounds)
            is_drafting = any(each.num_drafted for each in rounds)
            forecast = self.drafting_forecast if is_drafting else self.plain_forecast
            forecast.observe(expected_per_ns * step_ns / num_emitted)

    def note_drafts(self, drafts: Mapping[str, Draft], wait_ns: int) -> None:
        """Take the drafts of a step, at least one, and how long nothing else was done for them.

        Where they were made while other sessions were verified, and in this thread itself, the
        wait is less than the drafting, and says nothing of the hand-over.
        """
        # Those of one message share their times.
        draft_ns = next(iter(drafts.values())).draft_ns
        self.draft_s.observe(draft_ns / NS_PER_S)
        if wait_ns > draft_ns:
            self.hand_over_s.observe((wait_ns - draft_ns) / NS_PER_S)

    # --- rounds and sessions --------------------------------------------------------------------

    def note_round(
        self, session: Session, outcome: RoundOutcome, round_ns: int, *, is_alarm: bool
    ) -> None:
        """Take a round, and the time since the session's commit before it."""
        decision = outcome.decision
        self.rounds.note(
            decision.method,
            decision.exit_layer,
            session.request.policy,
            outcome.num_drafted,
            outcome.num_accepted,
            outcome.num_emitted,
            outcome.num_on_path,
        )
        self.decisions[decision.reason] += 1
        self.inter_token_s.observe(round_ns / NS_PER_S)
        self.num_alarms += is_alarm
        last = self._last.get(session.session_id, decision)
        if last.is_off != decision.is_off:
            self.num_mode_switches += 1
        elif not decision.is_off and _arm_of(last) != _arm_of(decision):
            self.num_arm_changes += 1
        self._last[session.session_id] = decision

    def note_prompt_end(self, session: Session, *, is_first: bool) -> None:
        """Take the end of a prompt, which emitted a token; `is_first` in this cell's life of it.

        The client of a session that was replayed here had its first token elsewhere.
        """
        self.num_prompt_ends += 1
        if is_first and not session.request.num_emitted:
            self.num_prompt_tokens += session.prompt_len
            waited_ns = session.first_token_ns - session.arrived_ns
            self.first_token_s.observe(waited_ns / NS_PER_S, trace_id=session.trace_id)

    def note_end(self, session: Session, reason: FinishReason) -> None:
        """Take the end of a session that had pages."""
        self._last.pop(session.session_id, None)
        self.finished[FINISHED_REASONS[reason]] += 1
        if not session.first_token_ns:
            return
        timings, trace_id = session.timings, session.trace_id
        session_ns = session.first_token_ns + timings.decode_ns - session.arrived_ns
        num_generated = session.num_emitted - session.request.num_emitted
        self.session_s.observe(session_ns / NS_PER_S, trace_id=trace_id)
        self.queue_s.observe(timings.queue_ns / NS_PER_S, trace_id=trace_id)
        self.prefill_s.observe(timings.prefill_ns / NS_PER_S, trace_id=trace_id)
        self.decode_s.observe(timings.decode_ns / NS_PER_S, trace_id=trace_id)
        self.prompt_lens.observe(session.prompt_len)
        self.generation_lens.observe(num_generated)


def _arm_of(decision: Decision) -> tuple[int, int, float]:
    return decision.exit_layer, decision.max_draft_len, decision.stop_threshold
