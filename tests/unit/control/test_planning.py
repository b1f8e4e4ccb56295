"""When plans are looked at: behind the order of drafts, and by what a step goes until then."""

from collections.abc import Sequence

from shared.control.load_governor import LoadGovernor
from shared.control.planning import FIRST_LEN, MAX_REPLAN_STEPS
from shared.control.step_costs import StepCosts
from shared.control.steps import SessionLoad
from shared.speculation.vocabulary import Decision
from tests.unit.control.test_load_governor import WISHED, loads_of, outcome_of

NUM_WARM_UP_STEPS = 120


class Counting:
    """A governor under an engine that tunes behind every order; counts looks on both sides."""

    def __init__(self, *, tunes: bool = True) -> None:
        self.governor = LoadGovernor(StepCosts(12))
        self.tunes = tunes
        self.num_before = self.num_behind = 0

    def step(self, loads: Sequence[SessionLoad], num_kept: int = 99) -> list[Decision]:
        planning = self.governor._planning
        before = planning._num_looks
        decisions = self.governor.decide(loads)
        self.num_before += planning._num_looks - before
        before = planning._num_looks
        if self.tunes:
            self.governor.tune()
        self.num_behind += planning._num_looks - before
        self.governor.note_step(outcome_of(list(loads), decisions, num_kept))
        return decisions

    def warmed_up(self, size: int) -> "Counting":
        """Decode with so many sessions until a plan that drafts is in force."""
        for _ in range(NUM_WARM_UP_STEPS):
            decisions = self.step(loads_of(size))
        while any(each.reason == "probe" for each in decisions):
            decisions = self.step(loads_of(size))
        assert self.governor._planning.is_drafting
        self.num_before = self.num_behind = 0
        return self


def test_looks_are_made_behind_the_order() -> None:
    engine = Counting().warmed_up(1)
    for _ in range(10):
        engine.step(loads_of(1))
    assert (engine.num_before, engine.num_behind) == (0, 10)


def test_many_sessions_are_looked_at_every_few_steps() -> None:
    engine = Counting().warmed_up(16)
    for _ in range(10 * MAX_REPLAN_STEPS):
        engine.step(loads_of(16))
    assert (engine.num_before, engine.num_behind) == (0, 10)


def test_a_look_that_nobody_made_behind_the_order_is_made_by_the_decision() -> None:
    engine = Counting(tunes=False).warmed_up(1)
    for _ in range(10):
        engine.step(loads_of(1))
    assert (engine.num_before, engine.num_behind) == (10, 0)


def test_who_joins_or_leaves_waits_for_no_look() -> None:
    engine = Counting().warmed_up(5)
    for size in (6, 4, 8):
        decisions = engine.step(loads_of(size))
        assert not any(each.is_off for each in decisions)
    assert (engine.num_before, engine.num_behind) == (0, 3)


def test_many_more_or_less_sessions_are_looked_at_at_once() -> None:
    engine = Counting().warmed_up(2)
    engine.step(loads_of(5))
    assert engine.num_before == 1
    engine.step(loads_of(1))
    assert engine.num_before == 2


def test_a_new_session_begins_by_the_plan_of_the_one_before_it() -> None:
    engine = Counting().warmed_up(1)
    engine.governor.forget("s0")
    [decision] = engine.step([SessionLoad("other", WISHED)])
    assert decision.max_draft_len == FIRST_LEN == WISHED.max_draft_len
    assert (engine.num_before, engine.num_behind) == (0, 1)


def test_a_new_session_behind_plain_steps_is_looked_at_at_once() -> None:
    engine = Counting()
    for _ in range(NUM_WARM_UP_STEPS):
        engine.step(loads_of(1), num_kept=0)
    assert not engine.governor._planning.is_drafting
    engine.num_before = 0
    engine.governor.forget("s0")
    engine.step([SessionLoad("other", WISHED)])
    assert engine.num_before == 1


def test_a_session_whose_guard_trips_is_plain_in_the_very_next_step() -> None:
    engine = Counting().warmed_up(1)
    guard = engine.governor.sessions._guards["s0"]
    while not guard.is_off:
        guard.note_round(num_drafted=4, num_emitted=1, round_ns=4.0, plain_ns=1.0)
    [decision] = engine.governor.decide(loads_of(1))
    assert (decision.is_off, decision.reason) == (True, "guard")


def test_a_session_that_ends_between_order_and_look_leaves_nothing() -> None:
    engine = Counting().warmed_up(1)
    engine.governor.decide(loads_of(1))
    engine.governor.forget("s0")
    engine.governor.tune()
    assert not engine.governor._planning._draft_lens
    assert "s0" not in engine.governor.sessions
