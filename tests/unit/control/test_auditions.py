"""Arms that cannot be read in passing: played soon, seldom, and for good where they are better."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest

from shared.control.auditions import AUDITION_STEPS, Auditions
from shared.control.evidence.observation import Observation, Read
from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.step_plan import StepPlan
from shared.control.step_probes import PlanView
from shared.control.steps import RoundOutcome, SessionLoad, StepOutcome
from shared.speculation.arm import arm_of
from shared.speculation.vocabulary import KANGAROO, LAYERSKIP, Decision

MS = 1_000_000
RAW, ADAPTED = 2, arm_of(KANGAROO, 2)
WISHED = Decision(LAYERSKIP, RAW, 8)
PLAIN = StepPlan((0,), 0.05, 20.0)


def plan_at(arm: int, rate: float) -> StepPlan:
    return StepPlan((4,), rate, 30.0, expected_per_ns=rate, arm=arm)


def played(auditions: Auditions, view: PlanView, num_steps: int) -> list[int]:
    """Return the steps in which an audition was played."""
    return [step for step in range(num_steps) if auditions.due_plan(step, view) is not None]


def test_an_unknown_arm_plays_some_steps_in_a_row_and_then_seldom() -> None:
    raw, adapted = plan_at(RAW, 0.1), plan_at(ADAPTED, 0.09)
    view = PlanView(raw, PLAIN, [raw], {RAW: raw, ADAPTED: adapted})
    steps = played(Auditions(), view, 1000)
    first = steps[0]
    assert steps[:AUDITION_STEPS] == list(range(first, first + AUDITION_STEPS))
    assert 0 < first < 50
    # A tenth of 6 steps is lost every time: 150 steps for 0.6 of one.
    assert len(steps) <= 8 * AUDITION_STEPS


def test_what_is_expected_to_lose_more_plays_less() -> None:
    raw = plan_at(RAW, 0.1)
    views = [
        PlanView(raw, PLAIN, [raw], {ADAPTED: plan_at(ADAPTED, rate)}) for rate in (0.095, 0.05)
    ]
    near, far = (len(played(Auditions(), view, 4000)) for view in views)
    assert near > 3 * far > 0


def test_exits_that_are_read_anyway_and_the_arm_in_use_play_none() -> None:
    raw, adapted = plan_at(RAW, 0.1), plan_at(ADAPTED, 0.1)
    read = PlanView(adapted, PLAIN, [adapted], {RAW: raw, ADAPTED: adapted})
    assert played(Auditions(), read, 2000) == []


def test_an_audition_ends_when_sessions_come() -> None:
    raw, adapted = plan_at(RAW, 0.1), plan_at(ADAPTED, 0.09)
    view = PlanView(raw, PLAIN, [raw], {ADAPTED: adapted})
    auditions = Auditions()
    played(auditions, view, 26)
    two = raw._replace(lens=(4, 4))
    assert auditions.due_plan(26, PlanView(two, PLAIN._replace(lens=(0, 0)), [two])) is None


class TwoArms:
    """A session with an early read-out and an adapter, on a machine without noise."""

    def __init__(self, raw_rate: float, adapted_rate: float) -> None:
        self.rates = {RAW: raw_rate, ADAPTED: adapted_rate}
        self.random = Random(1)
        self.governor = LoadGovernor(StepCosts(12))
        self.load = SessionLoad("s", WISHED, arms=(RAW, ADAPTED))

    def run(self, num_steps: int) -> Counter[str]:
        """Run steps; count what they drafted with."""
        used: Counter[str] = Counter()
        for _ in range(num_steps):
            (decision,) = self.governor.decide([self.load])
            self.governor.shadow([self.load], [decision])
            used[decision.method] += 1
            self.governor.note_step(self._outcome(decision))
        return used

    def _outcome(self, decision: Decision) -> StepOutcome:
        k = 0 if decision.is_off else decision.max_draft_len
        arm = ADAPTED if decision.method == KANGAROO else RAW
        kept = 0
        while kept < k and self.random.random() < self.rates[arm]:
            kept += 1
        own = [Read(index < kept, 0.5) for index in range(min(k, kept + 1))]
        own += [None] * (kept + 1 - len(own))
        raw = [Read(self.random.random() < self.rates[RAW], 0.5) for _ in range(kept + 1)]
        reads = {RAW: own if k and arm == RAW else raw}
        if k and arm == ADAPTED:
            reads[ADAPTED] = own
        draft_ms = 0.5 + (k + 1) * 3.5 if k else 0.0
        pass_ms = 13.4 + 1.6 * (k + 1)
        rounds = [RoundOutcome("s", decision, k, kept, kept + 1, Observation(kept + 1, reads))]
        return StepOutcome(rounds, 0, int(MS * draft_ms), int(MS * pass_ms))


@pytest.mark.parametrize("raw_rate", [0.5, 0.7])
def test_a_better_arm_is_found_and_kept(raw_rate: float) -> None:
    session = TwoArms(raw_rate, 0.95)
    session.run(400)
    assert session.run(200)[KANGAROO] > 150


def test_a_worse_arm_is_hardly_ever_played() -> None:
    session = TwoArms(0.9, 0.3)
    session.run(100)
    assert session.run(1000)[KANGAROO] <= 60


def test_an_arm_is_not_drafted_with_before_its_first_audition() -> None:
    cell = TwoArms(raw_rate=0.3, adapted_rate=0.9)
    heard = cell.run(20)
    assert KANGAROO not in heard
    assert cell.run(300)[KANGAROO] > 200


def test_a_session_with_no_other_arm_drafts_with_it_at_once() -> None:
    cell = TwoArms(raw_rate=0.3, adapted_rate=0.9)
    cell.load = SessionLoad("s", replace(WISHED, method=KANGAROO), arms=(ADAPTED,))
    assert cell.run(20)[KANGAROO] > 10


def test_an_arm_that_loses_every_time_plays_ever_more_seldom() -> None:
    raw = plan_at(RAW, 0.1)
    view = PlanView(raw, PLAIN, [raw], {ADAPTED: plan_at(ADAPTED, 0.05)})
    auditions = Auditions()
    steps = played(auditions, view, 30_000)
    begins = steps[::AUDITION_STEPS]
    distances = [later - earlier for earlier, later in pairwise(begins)]
    assert distances == [750, 1500, 3000, 6000, 6000, 6000, 6000]
    # Where it is in use it has won: the next time it is heard as if for the first one.
    used = PlanView(plan_at(ADAPTED, 0.12), PLAIN, [raw], {ADAPTED: plan_at(ADAPTED, 0.12)})
    assert auditions.due_plan(30_000, used) is None
    assert len([i for i in range(30_001, 33_000) if auditions.due_plan(i, view)]) > AUDITION_STEPS
