"""Quiet steps: what was decided plainly holds, for the same sessions and for a while."""

from dataclasses import replace

import pytest

from shared.control.evidence.observation import Observation, Read
from shared.control.evidence.shadow_pace import NUM_IN_VAIN
from shared.control.load_governor import QUIET_FORECAST_STEPS, LoadGovernor
from shared.control.planning import DEAF_REPLAN_STEPS, MAX_DEAF, PLAIN_REPLAN_STEPS
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
        self.num_held = 0
        look = self.governor._planning._keeper.choose

        def counted(*arguments: object, **options: object) -> object:
            self.num_looks += 1
            return look(*arguments, **options)  # type: ignore[arg-type]

        self.governor._planning._keeper.choose = counted  # type: ignore[method-assign, assignment]

    def run(self, num_steps: int, *, is_read: bool, asks_always: bool = True) -> list[Decision]:
        """Run steps, in each of which the exit is read, or in none but of drafts.

        asks_always: also where a step goes on like the one before.
        """
        found: list[Decision] = []
        for _ in range(num_steps):
            if not asks_always and found and self.governor.goes_on():
                assert found[-1].is_off
                decision = found[-1]
                self.num_held += 1
            else:
                (decision,) = self.governor.decide(LOADS)
                self.governor.shadow(LOADS, [decision])
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


def test_where_sessions_hardly_drafted_what_is_read_is_heard_once() -> None:
    session = HardText()
    session.run(800, is_read=False)
    pace, planning = session.governor.sessions.book._pace, session.governor._planning
    for _ in range(NUM_IN_VAIN):
        pace.note_end(100, 0)
    assert session.governor.sessions.is_in_vain
    planning._deaf_steps = MAX_DEAF * DEAF_REPLAN_STEPS
    session.num_looks = 0
    session.run(1, is_read=True)
    session.run(2 * DEAF_REPLAN_STEPS, is_read=False)
    assert session.num_looks == 1


def test_what_is_read_of_sessions_that_nothing_is_planned_for_is_not_heard() -> None:
    session = HardText()
    session.run(400, is_read=False)
    governor, planning = session.governor, session.governor._planning
    planning._num_to_hear = 0
    pinned = SessionLoad("pinned", WISHED, is_pinned=True)
    (decision,) = governor.decide([pinned])
    reads = {2: [Read(True, 0.9)] * 2}
    rounds = [RoundOutcome("pinned", decision, 4, 1, 2, Observation(2, reads))]
    governor.note_step(StepOutcome(rounds, 0, 16 * MS, 10 * MS, 26 * MS))
    assert planning._num_to_hear == 0
    session.run(1, is_read=True)
    assert planning._num_to_hear > 0


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


def test_of_steps_that_go_on_one_in_some_says_what_was_expected() -> None:
    session = HardText()
    session.run(1000, is_read=False)
    told = []
    while len(told) < 4 * QUIET_FORECAST_STEPS:
        if session.governor.goes_on():
            told.append(session.governor.expected_per_ns(1) is not None)
        else:
            session.run(1, is_read=False)
    assert 3 <= sum(told) <= 5


def test_steps_that_go_on_decide_what_would_have_been_decided() -> None:
    always, seldom = HardText(), HardText()
    expected = always.run(1000, is_read=False)
    assert seldom.run(1000, is_read=False, asks_always=False) == expected
    assert any(not each.is_off for each in expected[200:]), "nothing was ever tried"
    assert seldom.num_held > 800


def test_steps_that_go_on_teach_what_they_would_have_taught() -> None:
    always, seldom = HardText(), HardText()
    always.run(1003, is_read=False)
    seldom.run(1003, is_read=False, asks_always=False)
    books = [each.governor.evidence("s") for each in (always, seldom)]
    assert [book.num_positions for book in books if book] == [1003, 1003]
    assert books[0] and books[1] and books[0].survival(2) == books[1].survival(2)
    schedules = [each.governor.sessions.book._pages["s"].schedule for each in (always, seldom)]
    assert schedules[0]._round_index == schedules[1]._round_index == 1003
    assert schedules[0].share == pytest.approx(schedules[1].share)
    shares = [each.governor._lessons._plain_share for each in (always, seldom)]
    assert shares[0] == pytest.approx(shares[1])
    tokens = [each.governor._arbiter._num_tokens for each in (always, seldom)]
    assert tokens[0] == tokens[1]
    assert seldom.governor.costs.num_measured(1) < 0.6 * always.governor.costs.num_measured(1)
    for each in (always, seldom):
        assert each.governor.costs.pass_ns({0: 1}) == pytest.approx(10 * MS, rel=0.01)


def test_steps_that_go_on_are_read_when_they_would_have_been() -> None:
    plans = []
    for asks_always in (True, False):
        session = HardText()
        session.governor.sessions.book.note_shadow_cost(40.0, 4000.0)
        plan, decision = [], PLAIN_DECISION
        for step in range(1500):
            if not asks_always and step and session.governor.goes_on():
                exits: tuple[int, ...] | None = None
            else:
                (decision,) = session.governor.decide(LOADS)
                exits = session.governor.shadow(LOADS, [decision]).get("s")
            k = 0 if decision.is_off else decision.max_draft_len
            # What is in reads of a draft itself is none of the schedule's.
            plan.append(bool(exits) and not k)
            reads = {2: [Read(False, 0.5)]} if k or exits else {}
            rounds = [RoundOutcome("s", decision, k, 0, 1, Observation(1, reads))]
            took = StepOutcome(rounds, 0, 4 * k * MS, 10 * MS, (10 + 4 * k) * MS)
            session.governor.note_step(took)
        plans.append(plan)
    assert plans[0] == plans[1]
    assert sum(plans[0]) > 16


def test_a_guard_that_lets_go_is_heard_within_steps_that_go_on() -> None:
    session = HardText()
    session.run(400, is_read=False, asks_always=False)
    session.governor.sessions._guards["s"]._trip()
    session.governor._planning._num_to_hear = 0
    while session.governor.sessions._guards["s"].is_off:
        session.num_looks = 0
        session.run(1, is_read=False, asks_always=False)
    session.run(PLAIN_REPLAN_STEPS + 1, is_read=False, asks_always=False)
    assert session.num_looks >= 1


def test_no_step_goes_on_beside_drafts_or_before_anything_was_decided() -> None:
    governor = HardText().governor
    assert not governor.goes_on()
    session = HardText()
    session.run(400, is_read=False)
    decisions = session.run(1, is_read=False)
    while decisions[-1].is_off:
        decisions = session.run(1, is_read=False)
    assert not session.governor.goes_on()


def test_sessions_that_may_not_draft_go_on_for_ever() -> None:
    session = HardText()
    session.run(400, is_read=False)
    load = replace(LOADS[0], wished=PLAIN_DECISION)
    session.governor.decide([load])
    assert all(session.governor.goes_on() for _ in range(1000))
