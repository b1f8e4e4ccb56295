"""The governor's decisions, step by step: reasons, pins, probes, and what it keeps of sessions."""

from dataclasses import replace

import pytest

from shared.control.evidence.observation import Observation, Read
from shared.control.load_governor import LoadGovernor
from shared.control.step_costs import StepCosts
from shared.control.steps import RoundOutcome, SessionLoad, StepOutcome, draft_shape
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision

MS = 1_000_000
WISHED = Decision(LAYERSKIP, 2, 4)
REASONS = {"policy", "no_costs", "shorter", "shed", "arbiter", "guard", "probe", "prompts"}


def loads_of(size: int, wished: Decision = WISHED) -> list[SessionLoad]:
    return [SessionLoad(f"s{index}", wished) for index in range(size)]


def pass_ms(num_plain: int, num_resumed: int) -> float:
    below = 13.4 + 1.6 * num_plain if num_plain else 0.0
    return 0.15 * below + 0.85 * (13.4 + 1.6 * (num_plain + num_resumed))


def outcome_of(
    loads: list[SessionLoad], decisions: list[Decision], num_kept: int = 99, prefill: int = 0
) -> StepOutcome:
    """Return what a step does on a machine without noise; of each draft so many are kept."""
    lens = [0 if each.is_off else each.max_draft_len for each in decisions]
    num_rows, num_steps = draft_shape(lens)
    draft_ms = 0.5 + (num_steps + 1) * (3.2 + 0.3 * num_rows) if num_steps else 0.0
    num_plain = lens.count(0) + prefill
    rounds = [
        RoundOutcome(
            load.key, decision, k, min(k, num_kept), min(k, num_kept) + 1, seen(k, num_kept)
        )
        for load, decision, k in zip(loads, decisions, lens, strict=True)
    ]
    ns = int(MS * pass_ms(num_plain, sum(k + 1 for k in lens if k)))
    return StepOutcome(rounds, prefill, int(MS * draft_ms), ns)


def seen(num_drafted: int, num_kept: int) -> Observation:
    """Return what a round showed, the exit read behind its last draft as well."""
    num_positions = min(num_drafted, num_kept) + 1
    reads = [Read(index < num_kept, 0.5) for index in range(num_positions)]
    return Observation(num_positions, {WISHED.exit_layer: reads})


def run(
    governor: LoadGovernor, loads: list[SessionLoad], num_steps: int, num_kept: int = 99
) -> list[list[Decision]]:
    """Run steps; return their decisions."""
    found = []
    for _ in range(num_steps):
        found.append(governor.decide(loads))
        governor.note_step(outcome_of(loads, found[-1], num_kept))
    return found


def test_the_first_step_is_plain_the_second_lets_one_session_draft() -> None:
    governor = LoadGovernor(StepCosts(12))
    first, second = run(governor, loads_of(4), 2)
    assert [each.reason for each in first] == ["no_costs"] * 4
    assert all(each.is_off for each in first)
    assert second[0] == replace(WISHED, reason="probe")
    assert all(each.is_off for each in second[1:])


def test_good_drafts_of_one_session_are_granted_as_they_are() -> None:
    governor = LoadGovernor(StepCosts(12))
    decisions = [step[0] for step in run(governor, loads_of(1), 200)][50:]
    assert decisions.count(WISHED) > 0.9 * len(decisions)
    assert all(each is WISHED or each.reason == "probe" for each in decisions)


def test_hopeless_drafts_are_shed() -> None:
    governor = LoadGovernor(StepCosts(12))
    decisions = [step[0] for step in run(governor, loads_of(1), 300, num_kept=0)][100:]
    assert {each.reason for each in decisions} <= {"shed", "probe"}
    assert sum(each.is_off for each in decisions) > 0.9 * len(decisions)


def test_drafts_are_shortened_to_what_pays_and_say_so() -> None:
    governor = LoadGovernor(StepCosts(12))
    steps = run(governor, loads_of(3), 200, num_kept=2)[150:]
    planned = [each for step in steps for each in step if each.reason != "probe"]
    assert set(planned) == {replace(WISHED, max_draft_len=2, reason="shorter")}


@pytest.mark.parametrize("num_kept", [0, 1, 99])
def test_decisions_never_exceed_wishes_and_have_known_reasons(num_kept: int) -> None:
    governor = LoadGovernor(StepCosts(12))
    for size in (1, 5, 16, 3):
        loads = [
            SessionLoad(f"s{index}", replace(WISHED, max_draft_len=1 + index % 5))
            for index in range(size)
        ]
        for step in run(governor, loads, 80, num_kept):
            for load, decision in zip(loads, step, strict=True):
                assert decision.max_draft_len <= load.wished.max_draft_len
                assert decision.reason in REASONS


def test_pinned_sessions_and_plain_wishes_get_what_they_wish() -> None:
    governor = LoadGovernor(StepCosts(12))
    pinned = SessionLoad("pinned", replace(WISHED, reason="pinned"), is_pinned=True)
    plain = SessionLoad("plain", PLAIN_DECISION)
    for step in run(governor, [pinned, plain, *loads_of(3)], 150, num_kept=0):
        assert step[0] is pinned.wished
        assert step[1] is plain.wished


def test_a_wish_cut_by_room_is_granted_within_the_plan_in_force() -> None:
    governor = LoadGovernor(StepCosts(12))
    run(governor, loads_of(1), 100)
    short = replace(WISHED, max_draft_len=1, reason="limit")
    assert governor.decide(loads_of(1, short))[0].max_draft_len <= 1


def test_nothing_is_probed_beside_prompts() -> None:
    governor = LoadGovernor(StepCosts(12))
    loads = loads_of(3)
    run(governor, loads, 100)
    for _ in range(300):
        decisions = governor.decide(loads, num_prompts=1)
        assert all(each.reason != "probe" for each in decisions)
        governor.note_step(outcome_of(loads, decisions, prefill=32))


def test_a_lost_draft_says_nothing_of_acceptance() -> None:
    governor = LoadGovernor(StepCosts(12))
    loads = loads_of(1)
    run(governor, loads, 100)
    for _ in range(100):
        decisions = governor.decide(loads)
        lost = [RoundOutcome("s0", decisions[0], 0, 0, 1)]
        governor.note_step(StepOutcome(lost, 0, 0, int(MS * pass_ms(1, 0))))
    assert governor.decide(loads)[0].max_draft_len >= 3


def test_sessions_that_ended_are_not_kept() -> None:
    governor = LoadGovernor(StepCosts(12))
    for index in range(50):
        loads = [SessionLoad(f"t{index}", WISHED)]
        decisions = governor.decide(loads)
        governor.forget(f"t{index}")
        governor.note_step(outcome_of(loads, decisions))
    assert all(f"t{index}" not in governor.sessions for index in range(50))
    assert not governor._planning._draft_lens


def test_prompts_alone_teach_what_passes_take() -> None:
    governor = LoadGovernor(StepCosts(12))
    governor.note_step(StepOutcome([], 64, 0, 100 * MS))
    assert governor.costs.pass_ns({0: 64}) == pytest.approx(100 * MS)


def test_the_same_steps_give_the_same_decisions() -> None:
    first = run(LoadGovernor(StepCosts(12)), loads_of(5), 200, 1)
    assert run(LoadGovernor(StepCosts(12)), loads_of(5), 200, 1) == first


def test_sessions_that_join_take_part_in_the_plan_at_once() -> None:
    governor = LoadGovernor(StepCosts(12))
    run(governor, loads_of(2), 200)
    assert all(not each.is_off for each in governor.decide(loads_of(3)))


def test_a_step_that_follows_the_plan_says_what_it_expects() -> None:
    governor, loads = LoadGovernor(StepCosts(12)), loads_of(1)
    assert governor.expected_per_ns(1) is None
    decisions = run(governor, loads, 40)[-1]
    while decisions[0].reason == "probe":
        decisions = run(governor, loads, 1)[-1]
    outcome = outcome_of(loads, decisions)
    delivered = outcome.rounds[0].num_emitted / (outcome.draft_ns + outcome.pass_ns)
    expected = governor.expected_per_ns(1)
    assert expected is not None and 0.7 < expected / delivered < 1.3
    # Of a step of other sessions the plan says nothing.
    assert governor.expected_per_ns(2) is None
    governor.decide([SessionLoad("pinned", WISHED, is_pinned=True)])
    assert governor.expected_per_ns(1) is None


def read_first(governor: LoadGovernor, groups: list[list[SessionLoad]], num_steps: int) -> int:
    """Run each group in turn on text that no draft fits; return who was read in its first step."""
    num_read = 0
    for loads in groups:
        for index in range(num_steps):
            decisions = governor.decide(loads)
            read = governor.shadow(loads, decisions)
            num_read += len(read) if index == 0 else 0
            governor.note_step(outcome_of(loads, decisions, 0))
        for load in loads:
            governor.forget(load.key)
    return num_read


def test_that_nobody_drafts_among_many_leaves_a_lone_session_read_as_ever() -> None:
    governor = LoadGovernor(StepCosts(12))
    many = [
        [SessionLoad(f"many-{group}-{index}", WISHED) for index in range(4)] for group in range(8)
    ]
    lone = [[SessionLoad(f"lone-{index}", WISHED)] for index in range(6)]
    later = [[SessionLoad(f"later-{index}", WISHED) for index in range(4)]]
    assert read_first(governor, many[:2], 40) == 8
    assert read_first(governor, many[2:], 40) < 24
    assert read_first(governor, lone, 40) == len(lone)
    assert read_first(governor, later, 40) < 4
