"""The virtual clock: one session as its yardstick, many that share, and controllers over it."""

import copy
from collections.abc import Callable, Sequence
from random import Random

import pytest

from shared.control.load_governor import LoadGovernor
from shared.control.policies.base import PolicyContext, SessionPolicy
from shared.control.policies.registry import EVALUATED_ONLY, SESSION_POLICIES, make_baseline
from shared.control.replay.cell import Controller, PlayedStep, ReplayCell, StepSpend
from shared.control.replay.controllers import (
    GovernorController,
    PolicyController,
    StaticController,
)
from shared.control.replay.step_times import StepTimes
from shared.control.replay.swept_costs import swept_costs
from shared.control.replay.texts import RecordedText
from shared.control.replay.yardsticks import arm_ns, clairvoyant_ns, static_arms
from shared.control.steps import SessionLoad, StepOutcome
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision
from tests.unit.control.replay.builders import EXITS, NUM_LAYERS, make_times, random_text

WISHED = Decision(LAYERSKIP, 2, 8)
LONGEST = 18


def run(cell: ReplayCell, texts: Sequence[RecordedText]) -> list[PlayedStep]:
    for index, text in enumerate(texts):
        cell.admit(f"s{index}", text)
    steps = []
    while cell.num_sessions:
        steps.append(cell.step())
    return steps


def cell_of(controller: Controller, times: StepTimes | None = None) -> ReplayCell:
    return ReplayCell(times or make_times(), controller, WISHED, EXITS)


class Watching(StaticController):
    """Keeps what it is told."""

    def __init__(self, arm: Decision, wanted: frozenset[int] = frozenset()) -> None:
        super().__init__(arm)
        self.wanted = wanted
        self.outcomes: list[StepOutcome] = []
        self.spends: list[StepSpend] = []
        self.forgotten: list[str] = []

    def reads(self, key: str, decision: Decision) -> frozenset[int]:
        return self.wanted

    def note_step(self, outcome: StepOutcome, spend: StepSpend) -> None:
        self.outcomes.append(outcome)
        self.spends.append(spend)

    def forget(self, key: str) -> None:
        self.forgotten.append(key)


class RandomArms(StaticController):
    """Another arm in every round, thresholds and all."""

    def __init__(self, seed: int) -> None:
        super().__init__(PLAIN_DECISION)
        self._random = Random(seed)

    def decide(self, loads: Sequence[SessionLoad]) -> list[Decision]:
        random = self._random
        return [
            Decision(LAYERSKIP, random.choice(EXITS), random.randrange(LONGEST + 1)) for _ in loads
        ]


@pytest.mark.parametrize("arm", static_arms(EXITS)[::3])
def test_one_session_under_a_static_setting_takes_its_yardstick(arm: Decision) -> None:
    text, times = random_text("a", 1), make_times()
    cell = cell_of(StaticController(arm), times)
    steps = run(cell, [text])
    assert cell.now_ns == pytest.approx(arm_ns(text.tape, arm, times.round_ns), rel=1e-6)
    assert sum(step.num_tokens for step in steps) == text.tape.num_tokens
    assert steps[-1].end_ns == cell.now_ns == sum(step.spend.step_ns for step in steps)


def test_sessions_share_steps_and_leave_when_their_text_ends() -> None:
    times = make_times()
    short, long = random_text("a", 1, num_tokens=10), random_text("b", 2, num_tokens=30)
    watching = Watching(PLAIN_DECISION)
    steps = run(cell_of(watching, times), [short, long])
    assert [len(step.rounds) for step in steps] == [2] * 10 + [1] * 20
    assert watching.forgotten == ["s0", "s1"]
    both = times.pass_ns({0: 2}, 2) + times.overhead_ns
    assert steps[0].spend.step_ns == pytest.approx(both, rel=1e-6)
    assert both < 2 * times.round_ns(0, 0)


def test_a_dropped_session_is_the_newest_and_is_forgotten() -> None:
    watching = Watching(PLAIN_DECISION)
    cell = cell_of(watching)
    cell.admit("old", random_text("a", 1))
    cell.admit("new", random_text("a", 2))
    cell.drop()
    assert (cell.num_sessions, watching.forgotten) == (1, ["new"])


def test_reads_are_shown_and_paid_for() -> None:
    text = random_text("a", 1)
    arm = Decision(LAYERSKIP, 4, 3)
    blind, own, all_exits = (Watching(arm, frozenset(wanted)) for wanted in ((), (4,), EXITS))
    times = [cell_of(each) for each in (blind, own, all_exits)]
    for cell in times:
        run(cell, [text])
    assert times[0].now_ns < times[1].now_ns < times[2].now_ns
    # The closing row is no shadow; an exit that does not draft is.
    assert all(spend.shadow_ns == 0 == spend.num_shadowed for spend in own.spends)
    assert all(spend.shadow_ns > 0 and spend.num_shadowed == 1 for spend in all_exits.spends)
    shadow_ns = sum(spend.shadow_ns for spend in all_exits.spends)
    assert times[1].now_ns + shadow_ns == pytest.approx(times[2].now_ns, rel=1e-5)
    for outcome in all_exits.outcomes:
        (each,) = outcome.rounds
        assert each.observation is not None
        assert set(each.observation.reads) == set(EXITS)
        assert all(None not in reads for reads in each.observation.reads.values())


def test_what_is_shown_of_a_text_does_not_depend_on_how_it_was_cut_into_rounds() -> None:
    text = random_text("a", 5)

    def shown(arm: Decision) -> dict[int, list[object]]:
        watching = Watching(arm, frozenset(EXITS))
        run(cell_of(watching), [text])
        seen: dict[int, list[object]] = {exit_layer: [] for exit_layer in EXITS}
        for outcome in watching.outcomes:
            assert outcome.rounds[0].observation is not None
            for exit_layer, reads in outcome.rounds[0].observation.reads.items():
                seen[exit_layer] += reads
        return seen

    expected = shown(PLAIN_DECISION)
    assert len(expected[2]) == text.tape.num_tokens
    for arm in (Decision(LAYERSKIP, 2, 1), Decision(LAYERSKIP, 4, 9, 0.99)):
        assert shown(arm) == expected


def policies() -> dict[str, Callable[[RecordedText], SessionPolicy]]:
    times = make_times()
    context = PolicyContext(EXITS, NUM_LAYERS, WISHED, LONGEST, times.round_ns)

    def maker(name: str) -> Callable[[RecordedText], SessionPolicy]:
        def make(text: RecordedText) -> SessionPolicy:
            policy = make_baseline(name, context)
            assert policy is not None
            return policy

        return make

    return {name: maker(name) for name in (*SESSION_POLICIES, *EVALUATED_ONLY)}


def controllers() -> dict[str, Controller]:
    found: dict[str, Controller] = {
        name: PolicyController(make, EXITS) for name, make in policies().items()
    }
    governor = LoadGovernor(swept_costs(make_times()))
    return {**found, "goodput": GovernorController(governor), "random": RandomArms(3)}


@pytest.mark.parametrize("name", sorted(controllers()))
def test_nobody_is_faster_than_who_knows_the_future(name: str) -> None:
    times = make_times()
    for seed, rates in enumerate([(0.2, 0.4), (0.75, 0.9), (0.97, 0.99)]):
        text = random_text("a", seed, rates)
        cell = cell_of(controllers()[name], times)
        steps = run(cell, [text])
        least_ns = clairvoyant_ns(text.tape, EXITS, LONGEST, times.round_ns)
        # Steps are whole nanoseconds.
        assert cell.now_ns >= least_ns - len(steps)
        assert sum(step.num_tokens for step in steps) == text.tape.num_tokens


@pytest.mark.parametrize("name", sorted(controllers()))
def test_the_same_replay_gives_the_same_rounds(name: str) -> None:
    texts = [random_text("a", seed, num_tokens=60) for seed in range(3)]

    def rounds(controller: Controller) -> list[object]:
        return [step.rounds for step in run(cell_of(controller), texts)]

    first = controllers()[name]
    second = copy.deepcopy(first) if name in ("goodput", "random") else controllers()[name]
    assert rounds(first) == rounds(second)


def test_the_governor_sees_all_exits_at_first_and_seldom_later() -> None:
    controller = GovernorController(LoadGovernor(swept_costs(make_times())))
    cell = cell_of(controller)
    steps = run(cell, [random_text("a", 2, (0.7, 0.8), num_tokens=600)])
    assert steps[0].spend.num_shadowed == 1
    shadow_ns = sum(step.spend.shadow_ns for step in steps)
    assert 0 < shadow_ns < 0.02 * cell.now_ns
