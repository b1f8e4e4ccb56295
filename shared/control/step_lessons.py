"""What steps teach of costs: draft phases, passes, reads, and what a step takes beside these. Pure.

step   = draft phase + verify pass + reads + overhead
costs  learn from the first two; where drafts branched, or exits were read on the way, a draft
       phase is of another kind and teaches what that takes
"""

from collections.abc import Callable

from shared.control.step_costs import StepCosts
from shared.control.steps import StepOutcome, draft_shape, ns_of
from shared.speculation.arm import arm_in_use, exit_layer_of, method_of
from shared.speculation.vocabulary import Decision

# Of the overhead, per step, once there were as many: the mean of the first ones.
OVERHEAD_RATE = 0.05
# More than this share of a step is not believed to be overhead of its own.
MAX_OVERHEAD_SHARE = 0.2
# Plain steps behind what a session's rounds are compared with.
NUM_PLAIN_STEPS = 6
# One plain step among rounds is faster than plain decoding is: its message goes out while nobody
# waits for the next. At 9 ms a token by 30 %; a guard that believed it stopped good sessions. Where
# most steps are plain, what they were measured to take is what plain decoding takes.
SUSTAINED = 1.25
PLAIN_RATE = 0.01


class StepLessons:
    """Feeds a process's costs, and keeps what they do not hold.

    overhead_ns: what a step takes beside draft phase, pass and reads.
    num_prompt_rows: that rode along when any did last.
    """

    def __init__(self, costs: StepCosts, resume_layer: Callable[[Decision], int]) -> None:
        """Take the costs to feed, and where methods verify from."""
        self._costs = costs
        self._resume_layer = resume_layer
        self._num_steps = 0
        self._plain_share = 0.0
        self.overhead_ns = 0.0
        self.num_prompt_rows = 0

    def note(self, outcome: StepOutcome) -> tuple[int, float, float] | None:
        """Learn what a step's pass and draft phase took.

        Returns:
            Of a session alone whose draft branched, which teaches its like alone: its arm, what the
            phase took, and what its rows were expected to. Else None.
        """
        self.num_prompt_rows = outcome.num_prefill_rows or self.num_prompt_rows
        self._costs.note_pass(self._pass_rows(outcome), outcome.pass_ns)
        phase = self._draft_phase(outcome)
        if phase is None or outcome.has_draft_reads:
            return None
        expected_ns = self._costs.draft_ns(*phase)
        if expected_ns is None or not any(each.tree for each in outcome.rounds):
            self._costs.note_draft(*phase, outcome.draft_ns)
            return None
        return (phase[0], outcome.draft_ns, expected_ns) if len(outcome.rounds) == 1 else None

    def note_overhead(self, outcome: StepOutcome) -> None:
        """Learn what a step took beside all that is known of it."""
        ns = ns_of(outcome)
        overhead_ns = max(0, ns - outcome.draft_ns - outcome.pass_ns - outcome.read_ns)
        overhead_ns = min(overhead_ns, int(MAX_OVERHEAD_SHARE * ns))
        self._num_steps += 1
        rate = max(OVERHEAD_RATE, 1.0 / self._num_steps)
        self.overhead_ns += rate * (overhead_ns - self.overhead_ns)

    def read_ns(self, outcome: StepOutcome) -> int:
        """Return what reading exits took: behind the pass, in it, and in the draft phase.

        Asked before the step is noted. States are kept between layers on the way, which shows in
        how much longer than usual the pass was: by as much as reading took at most, as a pass may
        be long for other reasons.
        """
        read_ns = outcome.read_ns
        pass_ns = self._costs.pass_ns(self._pass_rows(outcome))
        if pass_ns:
            read_ns += max(-read_ns, min(read_ns, outcome.pass_ns - int(pass_ns)))
        phase = self._draft_phase(outcome) if outcome.has_draft_reads else None
        if phase is None:
            return read_ns
        bare_ns = self._costs.draft_ns(*phase) or outcome.draft_ns
        return read_ns + max(0, outcome.draft_ns - int(bare_ns))

    def _pass_rows(self, outcome: StepOutcome) -> dict[int, int]:
        """Return the rows of a step's pass by the layer where they joined."""
        rows = {0: outcome.num_prefill_rows}
        for each in outcome.rounds:
            layer = self._resume_layer(each.decision) if each.num_drafted else 0
            rows[layer] = rows.get(layer, 0) + each.num_drafted + 1
        return rows

    def round_ns(self, arm: int, draft_len: int) -> float | None:
        """Predict a round of one session alone; None while that is not known."""
        decision = Decision(method_of(arm), exit_layer_of(arm), draft_len)
        draft_ns = self._costs.draft_ns(arm, 1, draft_len)
        resume_layer = self._resume_layer(decision) if draft_len else 0
        pass_ns = self._costs.pass_ns({resume_layer: draft_len + 1})
        if draft_ns is None or pass_ns is None:
            return None
        return draft_ns + pass_ns + self.overhead_ns

    def plain_ns(self, num_sessions: int) -> float:
        """Return what plain steps of so many sessions take, one after the other.

        0 unless such were measured: nobody can say then that a session is slower than those.
        """
        if self._costs.num_measured(num_sessions) < NUM_PLAIN_STEPS:
            return 0.0
        pass_ns = self._costs.pass_ns({0: num_sessions}) or 0.0
        sustained = SUSTAINED - (SUSTAINED - 1.0) * self._plain_share
        return sustained * (pass_ns + self.overhead_ns)

    def note_mode(self, num_steps: int, *, is_plain: bool) -> None:
        """Learn whether steps are plain, from so many in a row that are or are not."""
        self._plain_share = is_plain + (1.0 - PLAIN_RATE) ** num_steps * (
            self._plain_share - is_plain
        )

    def _draft_phase(self, outcome: StepOutcome) -> tuple[int, float, int] | None:
        """Return the arm, rows and steps of a draft phase; None where there was none of its own."""
        drafting = [each for each in outcome.rounds if each.num_drafted]
        arms = {arm_in_use(each.decision) for each in drafting}
        # Drafts of several methods take it together: it tells of none.
        if len({method_of(arm) for arm in arms}) != 1:
            return None
        num_rows, num_steps = draft_shape(
            [each.num_drafted for each in drafting], [each.depth for each in drafting]
        )
        return max(arms, key=self._costs.work_of), num_rows, num_steps
