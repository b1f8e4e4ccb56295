"""Drafts beside prompts: dear where their rows are computed for, worth it where they are not."""

from dataclasses import replace

import pytest

from shared.control.beside_prompts import Riders, pays_beside_prompts
from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.step_plan import StepPlan
from shared.control.steps import SessionLoad
from shared.speculation.vocabulary import PLAIN_DECISION
from tests.unit.control.test_load_governor import WISHED, loads_of, outcome_of, run

MS = 1_000_000
EXIT_LAYER = 2


def costs_of(row_ms: float) -> StepCosts:
    """Return the costs of a machine whose pass takes 20 ms and so much per row; a draft step 4."""
    costs = StepCosts(12)
    for _ in range(20):
        for num_rows in (1, 2, 4, 8, 16, 32, 64):
            costs.note_pass({0: num_rows}, MS * (20 + row_ms * num_rows))
        costs.note_draft(EXIT_LAYER, 1, 3, 16 * MS)
    return costs


def plan_of(lens: tuple[int, ...], num_kept: float, step_ms: float) -> StepPlan:
    step_ns = MS * step_ms
    rate = (len(lens) + num_kept) / step_ns
    return StepPlan(lens, rate, step_ns, expected_per_ns=rate, arm=EXIT_LAYER)


@pytest.mark.parametrize(
    ("row_ms", "num_prompts", "num_kept", "pays"),
    [
        # Two tokens more for 16 ms of drafts: later they would take 2 * 36 / 3 ms.
        (0.0, 1, 2.0, True),
        # With many sessions to come they would take 2 * 20 / 31 ms.
        (0.0, 30, 2.0, False),
        # Computed for, the four rows of the draft cost 5 ms each as well.
        (5.0, 1, 2.0, False),
        # Nothing gained costs nothing where nothing is drafted.
        (5.0, 30, 0.0, True),
    ],
)
def test_what_drafts_bring_is_weighed_against_what_it_would_take_later(
    row_ms: float, num_prompts: int, num_kept: float, pays: bool
) -> None:
    plan = plan_of((3 if num_kept else 0,), num_kept, 36 if num_kept else 20)
    riders = Riders(num_rows=32, num_prompts=num_prompts)
    assert pays_beside_prompts(costs_of(row_ms), plan, EXIT_LAYER, EXIT_LAYER, riders) is pays


def test_drafts_wait_while_many_prompts_do_and_go_on_behind_them() -> None:
    governor = LoadGovernor(StepCosts(12))
    loads = loads_of(2)
    run(governor, loads, 100)
    assert not any(each.is_off for each in governor.decide(loads))
    for _ in range(10):
        decisions = governor.decide(loads, num_prompts=30)
        governor.note_step(outcome_of(loads, decisions, prefill=64))
    assert [(each.is_off, each.reason) for each in decisions] == [(True, "prompts")] * 2
    assert governor.expected_per_ns(2) is None
    assert not any(each.is_off for each in governor.decide(loads))


def test_who_is_pinned_drafts_beside_any_prompts() -> None:
    governor = LoadGovernor(StepCosts(12))
    pinned = SessionLoad("pinned", replace(WISHED, reason="pinned"), is_pinned=True)
    loads = [pinned, *loads_of(1)]
    run(governor, loads, 100)
    for _ in range(3):
        decisions = governor.decide(loads, num_prompts=30)
        governor.note_step(outcome_of(loads, decisions, prefill=64))
    assert decisions == [pinned.wished, replace(PLAIN_DECISION, reason="prompts")]
