"""Plans of draft lengths: against brute force, and in what order drafts are shed."""

from itertools import product
from math import prod
from random import Random

import pytest

from shared.control.step_costs import StepCosts
from shared.control.step_plan import Outlook, StepPlanner

MS = 1_000_000


def costs_of(fixed_ms: float, row_ms: float, flat_rows: int = 0) -> StepCosts:
    """Return costs that were measured at all rows up to 64: flat, then linear."""
    costs = StepCosts(12)
    for _ in range(30):
        for rows in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64):
            costs.note_pass({0: rows}, MS * (fixed_ms + row_ms * max(0, rows - flat_rows)))
            if rows <= 16:
                costs.note_draft(2, rows, 3, MS * 4 * (3.2 + 0.3 * rows))
    return costs


def outlook(*rates: float, is_fixed: bool = False) -> Outlook:
    kept = [prod(rates[: place + 1]) for place in range(len(rates))]
    return Outlook(kept, 2, 2, is_fixed)


def brute_force(planner: StepPlanner, outlooks: list[Outlook]) -> float:
    ranges = [range(len(each.kept) + 1) for each in outlooks]
    return max(planner.rate(lens).tokens_per_ns for lens in product(*ranges))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "machine", [(13.4, 1.6, 0), (14.0, 3.0, 8), (10.0, 0.05, 0)], ids=["cpu", "knee", "wide"]
)
def test_the_plan_is_nearly_as_good_as_the_best_of_all(
    machine: tuple[float, float, int], seed: int
) -> None:
    random = Random(seed)
    outlooks = [
        outlook(*[random.uniform(0.2, 0.98)] * random.randint(1, 4))
        for _ in range(random.randint(1, 4))
    ]
    planner = StepPlanner(costs_of(*machine).reader(), outlooks, 0.3 * MS)
    assert planner.best().tokens_per_ns > 0.98 * brute_force(planner, outlooks)


def test_a_single_session_s_rate_is_the_formula() -> None:
    costs = costs_of(13.4, 1.6)
    planner = StepPlanner(costs.reader(), [outlook(0.8, 0.8)], 1.0 * MS)
    plan = planner.rate([2])
    pass_ns, draft_ns = costs.pass_ns({2: 3}), costs.draft_ns(2, 1, 2)
    assert pass_ns is not None
    assert draft_ns is not None
    assert plan.step_ns == pytest.approx(pass_ns + draft_ns + MS)
    assert plan.tokens_per_ns == pytest.approx((1 + 0.8 + 0.64) / plan.step_ns)


def test_hopeless_drafts_are_not_planned() -> None:
    planner = StepPlanner(costs_of(13.4, 1.6).reader(), [outlook(0.05)] * 3, 0.0)
    assert planner.best().lens == (0, 0, 0)


def test_more_sessions_first_shorten_drafts_then_turn_them_off() -> None:
    costs = costs_of(13.4, 1.6)
    drafts = [
        sum(StepPlanner(costs.reader(), [outlook(*[0.9] * 4)] * size, 0.0).best().lens) / size
        for size in (1, 4, 8, 32)
    ]
    assert drafts == sorted(drafts, reverse=True)
    assert drafts[0] >= 3
    assert 1 <= drafts[1] < drafts[0]
    assert drafts[-1] < 0.5


def test_the_session_that_gains_least_goes_off_first() -> None:
    sessions = [outlook(0.95, 0.95), outlook(0.02), outlook(0.95, 0.95), outlook(0.02)]
    assert StepPlanner(costs_of(13.4, 1.6).reader(), sessions, 0.0).best().lens == (2, 0, 2, 0)
    sessions += [outlook(0.02)] * 2
    assert StepPlanner(costs_of(13.4, 1.6).reader(), sessions, 0.0).best().lens == (0,) * 6


def test_when_all_others_draft_the_last_plain_row_is_dearer_than_a_poor_draft() -> None:
    """It alone would run the layers below the exit, for which a whole read of weights is paid."""
    sessions = [outlook(0.95, 0.95), outlook(0.3)]
    planner = StepPlanner(costs_of(13.4, 1.6).reader(), sessions, 0.0)
    assert planner.best().lens[1] == 1
    assert planner.rate([2, 1]).tokens_per_ns > planner.rate([2, 0]).tokens_per_ns


def test_pinned_drafts_stay_whatever_they_cost() -> None:
    planner = StepPlanner(
        costs_of(13.4, 1.6).reader(),
        [outlook(0.05, 0.05, is_fixed=True), *[outlook(0.02)] * 3],
        0.0,
    )
    assert planner.rate_plain().lens == (2, 0, 0, 0)
    assert planner.best().lens == (2, 0, 0, 0)


def test_sessions_that_wish_to_be_plain_take_a_row_and_no_draft() -> None:
    planner = StepPlanner(costs_of(13.4, 1.6).reader(), [Outlook(), outlook(0.95, 0.95)], 0.0)
    assert planner.best().lens[0] == 0
    assert planner.best().lens[1] >= 1


def test_doubling_every_cost_changes_no_plan() -> None:
    sessions = [outlook(0.9, 0.8, 0.7), outlook(0.6, 0.5)]
    slow = StepCosts(12)
    for _ in range(30):
        for rows in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 40, 48, 64):
            slow.note_pass({0: rows}, 2 * MS * (13.4 + 1.6 * rows))
            if rows <= 16:
                slow.note_draft(2, rows, 3, 2 * MS * 4 * (3.2 + 0.3 * rows))
    fast_lens = StepPlanner(costs_of(13.4, 1.6).reader(), sessions, 0.2 * MS).best().lens
    assert StepPlanner(slow.reader(), sessions, 0.4 * MS).best().lens == fast_lens
