"""Holding on to a plan: margins, looks in a row, short stays."""

import pytest

from shared.control.plan_keeper import (
    MAX_DOUBT,
    MIN_CHANGE_GAIN,
    MIN_OFF_LOSS,
    MIN_ON_GAIN,
    NUM_WORSE,
    PlanKeeper,
)
from shared.control.step_plan import StepPlan

TRIED = 1000


def plan(draft_len: int, rate: float, size: int = 4) -> StepPlan:
    return StepPlan((draft_len,) * size, rate, 1.0, expected_per_ns=rate)


PLAIN = plan(0, 1.0)


def look(
    keeper: PlanKeeper,
    current: StepPlan,
    *bests: StepPlan,
    num_tried: int = TRIED,
    tuned_gain: float = 1.0,
) -> StepPlan:
    by_exit = {best.arm: best for best in bests}
    return keeper.choose(
        current, PLAIN, by_exit, num_tried=num_tried, is_fresh=False, tuned_gain=tuned_gain
    )


def test_drafting_begins_at_the_second_look_that_promises_enough() -> None:
    keeper = PlanKeeper()
    good = plan(2, 1.0 + MIN_ON_GAIN + 0.01)
    assert look(keeper, PLAIN, good) is PLAIN
    assert look(keeper, PLAIN, good) is good


def test_a_look_that_promises_too_little_starts_the_count_anew() -> None:
    keeper = PlanKeeper()
    good, poor = plan(2, 1.06), plan(2, 1.02)
    for best in (good, poor, good):
        assert look(keeper, PLAIN, best) is PLAIN
    assert look(keeper, PLAIN, good) is good


CLEARLY_WORSE = 1.0 / (1.0 + MIN_OFF_LOSS) - 0.001


def test_drafting_ends_at_the_first_look_that_plain_steps_clearly_win() -> None:
    assert look(PlanKeeper(), plan(2, CLEARLY_WORSE), plan(1, 1.01)) is PLAIN


def test_drafts_that_are_stopped_in_time_are_not_left_for_what_their_plan_says() -> None:
    current = plan(4, CLEARLY_WORSE)
    assert look(PlanKeeper(), current) is PLAIN
    assert look(PlanKeeper(), current, tuned_gain=1.1) is current


def test_another_exit_must_beat_what_stops_bring_as_well() -> None:
    current = plan(4, 1.5)
    deeper = plan(2, 1.5 * (1.0 + MIN_CHANGE_GAIN + 0.01))._replace(arm=5)
    for tuned_gain, expected in ((1.0, deeper), (1.1, current)):
        keeper = PlanKeeper()
        assert look(keeper, current, deeper, tuned_gain=tuned_gain) is current
        assert look(keeper, current, deeper, tuned_gain=tuned_gain) is expected


def test_drafting_that_loses_little_ends_when_it_does_so_for_long() -> None:
    keeper = PlanKeeper()
    current = plan(2, 0.99)
    for _ in range(NUM_WORSE - 1):
        assert look(keeper, current, current) is current
    # One look that drafting wins, and it may lose for as long again.
    good = plan(2, 1.01)
    assert look(keeper, good, good) is good
    for _ in range(NUM_WORSE - 1):
        assert look(keeper, current, current) is current
    assert look(keeper, current, current) is PLAIN


def test_drafting_that_begins_again_may_lose_as_long_as_before() -> None:
    keeper = PlanKeeper()
    good, current = plan(2, 1.9), plan(2, 0.99)
    while look(keeper, current, current) is not PLAIN:
        pass
    while look(keeper, PLAIN, good) is not good:
        pass
    for _ in range(NUM_WORSE - 1):
        assert look(keeper, current, current) is current


def test_drafting_ends_with_a_much_better_plan_where_there_is_one() -> None:
    shorter = plan(1, 1.3)
    assert look(PlanKeeper(), plan(4, 0.9), shorter) is shorter


def test_another_length_is_taken_at_once() -> None:
    keeper = PlanKeeper()
    current, shorter = plan(4, 1.2), plan(3, 1.201)
    assert look(keeper, current, shorter) is shorter
    assert look(keeper, shorter, plan(2, 1.2)) is shorter


@pytest.mark.parametrize(("size", "least"), [(1, MIN_CHANGE_GAIN), (16, MIN_CHANGE_GAIN / 4.0)])
def test_another_exit_needs_a_gain_twice_a_smaller_one_for_many(size: int, least: float) -> None:
    keeper, current, plain = PlanKeeper(), plan(4, 1.2, size), plan(0, 1.0, size)
    poor = plan(4, 1.2 * (1.0 + least) - 0.001, size)._replace(arm=3)
    good = plan(4, 1.2 * (1.0 + least) + 0.001, size)._replace(arm=3)

    def choose(best: StepPlan) -> StepPlan:
        return keeper.choose(current, plain, {3: best}, num_tried=TRIED, is_fresh=False)

    assert choose(poor) is current
    assert choose(poor) is current
    assert choose(good) is current
    assert choose(good) is good


def at_exit(arm: int, rate: float) -> StepPlan:
    return plan(4, rate)._replace(arm=arm)


def test_exits_are_proven_each_by_looks_of_its_own() -> None:
    keeper = PlanKeeper()
    current = at_exit(2, 1.2)
    assert look(keeper, current, current, at_exit(3, 1.4)) is current
    # Not looked at exit 3 meanwhile: that neither proves nor refutes it.
    assert look(keeper, current, current, at_exit(4, 1.4)) is current
    better = at_exit(3, 1.4)
    assert look(keeper, current, current, better) is better


def test_two_better_exits_do_not_keep_each_other_out() -> None:
    keeper = PlanKeeper()
    current = at_exit(2, 1.2)
    assert look(keeper, current, at_exit(3, 1.41), at_exit(4, 1.4)) is current
    best = at_exit(4, 1.41)
    assert look(keeper, current, at_exit(3, 1.4), best) is best


def test_a_look_that_refutes_an_exit_starts_its_count_anew() -> None:
    keeper = PlanKeeper()
    current, good, poor = at_exit(2, 1.2), at_exit(3, 1.4), at_exit(3, 1.2)
    for best in (good, poor, good):
        assert look(keeper, current, current, best) is current
    assert look(keeper, current, current, good) is good


def test_what_was_never_tried_must_promise_more() -> None:
    keeper = PlanKeeper()
    good = plan(2, 1.0 + MIN_ON_GAIN + 0.01)
    for _ in range(4):
        assert look(keeper, PLAIN, good, num_tried=0) is PLAIN
    very_good = plan(2, 1.0 + MIN_ON_GAIN + MAX_DOUBT + 0.01)
    look(keeper, PLAIN, very_good, num_tried=0)
    assert look(keeper, PLAIN, very_good, num_tried=0) is very_good


def test_new_sessions_take_the_best_plan_at_once() -> None:
    good = plan(2, 1.01)
    found = PlanKeeper().choose(PLAIN, PLAIN, {0: good}, num_tried=TRIED, is_fresh=True)
    assert found is good


def flips(keeper: PlanKeeper, best_rate: float, num_looks: int) -> int:
    """Return how often the plan flips if drafting promises more than it is then seen to bring."""
    current, num_flips = PLAIN, 0
    for _ in range(num_looks):
        is_on = current.lens != PLAIN.lens
        current = plan(2, CLEARLY_WORSE) if is_on else PLAIN
        chosen = look(keeper, current, plan(2, best_rate) if not is_on else PLAIN)
        num_flips += (chosen.lens != PLAIN.lens) != is_on
        current = chosen
    return num_flips


def test_short_stays_become_rare() -> None:
    keeper = PlanKeeper()
    first, later = flips(keeper, 1.1, 50), flips(keeper, 1.1, 50)
    assert 2 <= first <= 8
    assert later <= 4


def test_with_fewer_sessions_short_stays_are_forgiven() -> None:
    keeper = PlanKeeper()
    flips(keeper, 1.1, 50)
    few_plain, few_good = plan(0, 1.0, 2), plan(2, 1.06, 2)
    for _ in range(2):
        bests = {0: few_good}
        found = keeper.choose(few_plain, few_plain, bests, num_tried=TRIED, is_fresh=False)
    assert found is few_good
