"""Quiet steps: what was decided plainly holds, for the same sessions and for a while."""

from dataclasses import replace

from shared.control.evidence.observation import Observation, Read
from shared.control.load_governor import LoadGovernor
from shared.control.planning import DEAF_REPLAN_STEPS, PLAIN_REPLAN_STEPS
from shared.control.quiet_steps import QuietSteps
from shared.control.step_costs import StepCosts
from shared.control.steps import RoundOutcome, SessionLoad, StepOutcome
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision

MS = 1_000_000
WISHED = Decision(LAYERSKIP, 2, 4, reason="policy")
LOADS = [SessionLoad("s", WISHED, arms=(2,))]


def test_plain_decisions_hold_for_the_same_loads_until_their_end() -> None:
    quiet = QuietSteps()
    assert quiet.decisions(LOADS) is None
    quiet.begin(LOADS, [PLAIN_DECISION])
    assert quiet.decisions([replace(LOADS[0])]) == [PLAIN_DECISION]
    shorter = [replace(LOADS[0], wished=replace(WISHED, max_draft_len=3))]
    assert quiet.decisions(shorter) is None
    quiet.end()
    assert quiet.decisions(LOADS) is None


def test_a_draft_is_decided_on_anew_every_step() -> None:
    quiet = QuietSteps()
    quiet.begin(LOADS, [WISHED])
    assert quiet.decisions(LOADS) is None


class HardText:
    """A session whose drafts are never kept, on a machine without noise; counts looks at plans."""

    def __init__(self) -> None:
        self.governor = LoadGovernor(StepCosts(12))
        self.num_looks = 0
        look = self.governor._planning._keeper.choose

        def counted(*arguments: object, **options: object) -> object:
            self.num_looks += 1
            return look(*arguments, **options)  # type: ignore[arg-type]

        self.governor._planning._keeper.choose = counted  # type: ignore[method-assign, assignment]

    def run(self, num_steps: int, *, is_read: bool) -> list[Decision]:
        """Run steps, in each of which the exit is read, or in none but of drafts."""
        found = []
        for _ in range(num_steps):
            (decision,) = self.governor.decide(LOADS)
            found.append(decision)
            k = 0 if decision.is_off else decision.max_draft_len
            reads = {2: [Read(False, 0.5)]} if k or is_read else {}
            rounds = [RoundOutcome("s", decision, k, 0, 1, Observation(1, reads))]
            self.governor.note_step(StepOutcome(rounds, 0, 4 * k * MS, 10 * MS, (10 + 4 * k) * MS))
        return found


def test_plans_are_looked_at_more_seldom_where_nothing_was_read() -> None:
    read, deaf = HardText(), HardText()
    for session, is_read in ((read, True), (deaf, False)):
        session.run(400, is_read=is_read)
        session.num_looks = 0
        decisions = session.run(320, is_read=is_read)
        assert sum(each.is_off for each in decisions) > 310
    assert read.num_looks >= 320 // PLAIN_REPLAN_STEPS
    # Two more behind each trial, as drafts are heard.
    assert deaf.num_looks <= 320 // DEAF_REPLAN_STEPS + 12


def test_what_is_read_is_heard_at_the_next_looks() -> None:
    session = HardText()
    session.run(400, is_read=False)
    session.num_looks = 0
    session.run(1, is_read=True)
    session.run(2 * PLAIN_REPLAN_STEPS, is_read=False)
    assert session.num_looks >= 2


def test_a_session_whose_guard_lets_it_go_is_looked_at_soon() -> None:
    session = HardText()
    session.run(400, is_read=False)
    sessions, planning = session.governor.sessions, session.governor._planning
    sessions._guards["s"]._trip()
    while sessions._guards["s"].is_off:
        planning._num_to_hear = 0
        session.run(1, is_read=False)
    assert planning._num_to_hear > 0
    session.num_looks = 0
    session.run(PLAIN_REPLAN_STEPS, is_read=False)
    assert session.num_looks >= 1
