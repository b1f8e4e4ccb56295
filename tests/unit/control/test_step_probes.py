"""Probes: how seldom, which, and when they come sooner."""

from itertools import pairwise

from shared.control.step_plan import StepPlan
from shared.control.step_probes import (
    COLD_LOSS,
    FIRST_STEPS,
    MAX_STEPS,
    MIN_STEPS,
    PROBE_LOSS,
    PlanView,
    StepProbes,
    num_steps_for,
)


def plan(draft_len: int, rate: float, step_ns: float) -> StepPlan:
    return StepPlan((draft_len,) * 2, rate, step_ns)


PLAIN = plan(0, 1.0, 10.0)
DRAFTING = PlanView(
    plan(2, 1.5, 20.0), PLAIN, [plan(1, 1.4, 15.0), plan(2, 1.5, 20.0), plan(4, 1.45, 30.0)]
)
OFF = PlanView(PLAIN, PLAIN, [plan(1, 0.95, 15.0), plan(2, 0.9, 19.0)])


def test_the_time_between_probes_keeps_to_the_budget() -> None:
    assert num_steps_for(0.3) * PROBE_LOSS >= 0.3 - PROBE_LOSS
    assert num_steps_for(-1.0) == num_steps_for(0.0) == MIN_STEPS
    assert num_steps_for(1e9) == MAX_STEPS


def test_plain_probes_lose_no_more_than_their_share() -> None:
    probes = StepProbes()
    num_probes = sum(probes.is_plain_due(i, DRAFTING, is_doubtful=False) for i in range(10_000))
    loss = (1 - 1.0 / 1.5) * 10.0 / 20.0
    assert num_probes >= 20
    assert num_probes * loss <= 1.1 * PROBE_LOSS * 10_000


def test_doubts_bring_plain_probes_sooner() -> None:
    calm, doubtful = StepProbes(), StepProbes()
    num_calm = sum(calm.is_plain_due(i, DRAFTING, is_doubtful=False) for i in range(1000))
    num_doubtful = sum(doubtful.is_plain_due(i, DRAFTING, is_doubtful=True) for i in range(1000))
    assert num_doubtful > 3 * num_calm


def test_plain_plans_need_no_plain_probe() -> None:
    probes = StepProbes()
    assert not any(probes.is_plain_due(i, OFF, is_doubtful=False) for i in range(2000))


def test_trials_while_drafting_are_the_next_shorter_and_longer_plans_in_turn() -> None:
    probes = StepProbes()
    trials = [probes.due_trial(i, DRAFTING, 100) for i in range(500)]
    lens = [each.max_len for each in trials if each is not None]
    assert set(lens) == {1, 4}
    assert len(lens) >= 4
    assert abs(lens.count(1) - lens.count(4)) <= 1


def test_trials_while_plain_are_the_best_plan_that_drafts() -> None:
    probes = StepProbes()
    trials = [each for i in range(500) if (each := probes.due_trial(i, OFF, 100)) is not None]
    assert {each.max_len for each in trials} == {1}


def test_trials_come_sooner_at_a_load_where_nothing_was_tried() -> None:
    cold, warm = StepProbes(), StepProbes()
    num_cold = sum(cold.due_trial(i, OFF, 0) is not None for i in range(FIRST_STEPS, 200))
    num_warm = sum(warm.due_trial(i, OFF, 100) is not None for i in range(FIRST_STEPS, 200))
    assert num_cold > 2 * num_warm > 0


def test_plans_that_lose_much_or_stretch_the_step_are_not_tried() -> None:
    used = plan(2, 1.0, 12.0)
    bad = PlanView(used, PLAIN, [used, plan(3, 0.6, 15.0)])
    long = PlanView(used, PLAIN, [used, plan(3, 0.95, 25.0)])
    assert bad.trials() == long.trials() == []
    assert StepProbes().due_trial(100, bad, 100) is None


def test_while_plain_drafts_that_are_taken_to_be_hopeless_are_tried_too() -> None:
    hopeless = PlanView(PLAIN, PLAIN, [plan(1, 0.1, 90.0)])
    probes = StepProbes()
    cold = [i for i in range(200) if probes.due_trial(i, hopeless, i // 100) is not None]
    assert len(cold) > 4
    assert any(probes.due_trial(i, hopeless, 100) is not None for i in range(200, 20_000))


def test_first_trials_that_lose_much_take_a_hundredth_of_the_time_behind_the_first_few() -> None:
    # Loses (1 - .2) * 40 / 10 = 3.2 plain steps.
    hopeless = PlanView(PLAIN, PLAIN, [plan(1, 0.2, 40.0)])
    probes = StepProbes()
    steps: list[int] = []
    for i in range(FIRST_STEPS, 3000):
        if probes.due_trial(i, hopeless, len(steps)) is not None:
            steps.append(i)
    distances = [later - earlier for earlier, later in pairwise(steps)]
    assert distances[:2] == [MIN_STEPS] * 2
    assert distances[2:4] == [num_steps_for(3.2, COLD_LOSS)] * 2 == [320] * 2


def test_trials_come_ever_more_seldom_while_nobody_drafts() -> None:
    probes = StepProbes()
    steps = [i for i in range(6000) if probes.due_trial(i, OFF, 100) is not None]
    distances = [later - earlier for earlier, later in pairwise(steps)]
    assert distances[0] < distances[4] < distances[-1] <= 8 * distances[0]
    assert distances[-1] == distances[-2], "not for ever"
    tried = [i for i in range(6000, 6020) if probes.due_trial(i, DRAFTING, 100) is not None]
    assert tried[0] <= 6000 + MIN_STEPS, "who drafts at last need not wait as long"
    again = [i for i in range(6020, 8000) if probes.due_trial(i, OFF, 100) is not None]
    assert again[2] - again[1] == distances[0]
