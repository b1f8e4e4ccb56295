"""When all exits are read: bursts, periods, the share of time, and independence of outcomes."""

from itertools import pairwise
from random import Random

import pytest

from shared.control.evidence.shadow_pace import MAX_SHARE, NUM_IN_VAIN, ShadowPace
from shared.control.evidence.shadow_schedule import ShadowSchedule


def pace_of(shadow_us: float, round_us: float) -> ShadowPace:
    pace = ShadowPace()
    pace.note_cost(shadow_us, round_us)
    return pace


def run(schedule: ShadowSchedule, lens: list[int], pressed: range = range(0)) -> list[bool]:
    plan = []
    for index, num_positions in enumerate(lens):
        is_full = schedule.plan_round(is_pressed=index in pressed)
        assert schedule.plan_round(is_pressed=index in pressed) == is_full
        plan.append(is_full)
        schedule.note_round(num_positions)
    return plan


def bursts_of(plan: list[bool]) -> list[tuple[int, int]]:
    """First round and length of each."""
    bursts: list[tuple[int, int]] = []
    for index, is_full in enumerate(plan):
        if is_full and index and plan[index - 1]:
            bursts[-1] = (bursts[-1][0], bursts[-1][1] + 1)
        elif is_full:
            bursts.append((index, 1))
    return bursts


@pytest.mark.parametrize(("num_positions", "num_rounds"), [(8, 4), (4, 4), (3, 6), (1, 16)])
def test_the_first_burst_has_four_rounds_and_sixteen_positions(
    num_positions: int, num_rounds: int
) -> None:
    plan = run(ShadowSchedule("a", ShadowPace()), [num_positions] * 40)
    assert bursts_of(plan) == [(0, num_rounds)]


@pytest.mark.parametrize("shadow_us", [20.0, 60.0, 400.0, 900.0])
def test_rounds_that_are_not_asked_about_are_those_that_are_not_read(shadow_us: float) -> None:
    asked = ShadowSchedule("a", pace_of(shadow_us, 4000.0))
    expected = run(asked, [1] * 3000)
    schedule = ShadowSchedule("a", pace_of(shadow_us, 4000.0))
    plan: list[bool] = []
    while len(plan) < 3000:
        num_unread = schedule.num_unread()
        if num_unread:
            plan += [False] * num_unread
            schedule.note_plain(num_unread)
        else:
            assert schedule.plan_round()
            plan.append(True)
            schedule.note_round(1)
    assert plan[:3000] == expected
    assert sum(expected) > 16


def test_a_burst_is_given_after_an_alarm() -> None:
    schedule = ShadowSchedule("a", ShadowPace())
    run(schedule, [4] * 10)
    schedule.begin_burst()
    assert bursts_of(run(schedule, [4] * 10)) == [(0, 4)]


def test_the_period_follows_from_costs() -> None:
    assert ShadowPace().period() is None
    assert pace_of(90.0, 4000.0).period() == 10
    assert pace_of(91.0, 4000.0).period() == 11
    assert pace_of(36.0, 4000.0).period() == 4
    assert pace_of(0.0, 4000.0).is_always


def test_costs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="shadow"):
        ShadowPace().note_cost(-1.0, 100.0)
    with pytest.raises(ValueError, match="shadow"):
        ShadowPace().note_cost(1.0, 0.0)


def test_bursts_come_once_per_period_at_an_offset_of_the_session() -> None:
    starts = set()
    for key in "abcdef":
        plan = run(ShadowSchedule(key, pace_of(450.0, 4000.0)), [4] * 600)
        bursts = bursts_of(plan)[1:]
        assert len(bursts) >= 10
        assert all(length == 4 for _, length in bursts)
        assert len({start % 50 for start, _ in bursts}) == 1
        assert {b[0] - a[0] for a, b in pairwise(bursts)} == {50}
        starts.add(bursts[0][0] % 50)
    assert len(starts) > 1


def test_cheap_shadow_is_read_always() -> None:
    schedule = ShadowSchedule("a", pace_of(30.0, 4000.0))
    assert all(run(schedule, [2] * 300))
    assert schedule.share <= 0.01


@pytest.mark.parametrize("num_positions", [1, 2, 4, 9])
@pytest.mark.parametrize("shadow_us", [30.0, 60.0, 700.0, 5000.0])
def test_the_share_of_time_stays_within_one_percent(shadow_us: float, num_positions: int) -> None:
    pace = pace_of(shadow_us, 3000.0)
    schedules = [ShadowSchedule(key, pace) for key in "abcd"]
    num_paid = 0
    for schedule in schedules:
        plan = run(schedule, [num_positions] * 12_000)
        num_paid += sum(plan)
        assert schedule.share <= 0.01
    assert pace.share <= 0.01
    # And the share is made use of.
    assert num_paid * shadow_us > 0.004 * 4 * 12_000 * 3000.0


def test_under_pressure_nothing_is_read_and_given_bursts_are_put_off() -> None:
    plan = run(ShadowSchedule("a", ShadowPace()), [4] * 40, pressed=range(0, 10))
    assert bursts_of(plan) == [(10, 4)]
    plan = run(ShadowSchedule("a", ShadowPace()), [4] * 40, pressed=range(2, 10))
    assert bursts_of(plan) == [(0, 2), (10, 4)]


def test_under_pressure_paid_bursts_are_lost_not_gathered() -> None:
    pace = pace_of(450.0, 4000.0)
    plan = run(ShadowSchedule("a", pace), [4] * 1000, pressed=range(300, 500))
    calm = run(ShadowSchedule("a", pace), [4] * 1000)
    assert not any(plan[300:500])
    assert {start % 50 for start, _ in bursts_of(plan)[1:]} == {bursts_of(calm)[1][0] % 50}


def test_a_round_that_was_not_planned_is_none_of_a_burst() -> None:
    schedule = ShadowSchedule("a", ShadowPace())
    assert schedule.plan_round()
    schedule.note_round(16)
    schedule.note_round(16)
    assert bursts_of(run(schedule, [16] * 10)) == [(0, 4)]


def test_offsets_are_the_same_in_every_process() -> None:
    plan = run(ShadowSchedule("session-7", pace_of(450.0, 4000.0)), [4] * 200)
    # crc32("session-7") mod 50
    assert bursts_of(plan)[1][0] % 50 == 3399686939 % 50


def test_the_plan_depends_on_counters_and_costs_alone() -> None:
    random = Random(2)
    lens = [random.randrange(1, 9) for _ in range(2000)]
    plans = [run(ShadowSchedule("a", pace_of(450.0, 4000.0)), lens) for _ in range(2)]
    assert plans[0] == plans[1]


def end_session(pace: ShadowPace, drafting: list[bool], num_positions: int = 1) -> None:
    """Let a session end that could have drafted, and did in some rounds."""
    schedule = ShadowSchedule("a", pace)
    for is_drafting in drafting:
        schedule.plan_round()
        schedule.note_round(num_positions, is_drafting=is_drafting)
    schedule.note_end()


def end_in_vain(pace: ShadowPace, num_sessions: int) -> None:
    """Let sessions end that could have drafted and did not."""
    for _ in range(num_sessions):
        end_session(pace, [False] * 200)


def test_behind_sessions_that_did_not_draft_others_are_read_a_quarter_as_often() -> None:
    pace, calm = (pace_of(100.0, 2000.0) for _ in range(2))
    end_in_vain(pace, NUM_IN_VAIN)
    assert pace.num_sharing == 4
    keys = [f"session-{index}" for index in range(40)]
    seldom, often = (
        [run(ShadowSchedule(key, each), [1] * 4000) for key in keys] for each in (pace, calm)
    )
    num_seldom, num_often = (sum(map(sum, plans)) for plans in (seldom, often))
    assert 0.15 * num_often < num_seldom < 0.35 * num_often
    # Each is read at once, a quarter as long.
    assert {bursts_of(plan)[0] for plan in often} == {(0, 16)}
    assert {bursts_of(plan)[0] for plan in seldom} == {(0, 4)}
    end_in_vain(pace, 3 * NUM_IN_VAIN)
    plans = [run(ShadowSchedule(key, pace), [1] * 8) for key in keys]
    # One in four, and by its hash: not by what another one showed.
    assert 4 <= sum(plan[0] for plan in plans) <= 16
    assert {bursts_of(plan)[0] for plan in plans if plan[0]} == {(0, 4)}


def test_a_session_that_drafts_lets_others_be_read_as_ever() -> None:
    pace = pace_of(100.0, 2000.0)
    end_in_vain(pace, NUM_IN_VAIN)
    end_session(pace, [True] * 100, 4)
    assert pace.num_sharing == 1


def test_the_longer_nobody_drafts_the_fewer_sessions_are_read_down_to_one_in_sixteen() -> None:
    pace = pace_of(100.0, 2000.0)
    found = []
    for _ in range(8 * NUM_IN_VAIN):
        end_in_vain(pace, 1)
        found.append(pace.num_sharing)
    assert found[:7] == [1] * 7
    assert [found[num - 1] for num in (8, 15, 16, 31, 32, 64)] == [4, 4, 8, 8, 16, 16]
    assert pace.max_share == pytest.approx(MAX_SHARE / 16)


def test_that_nobody_drafts_among_many_says_nothing_of_one() -> None:
    pace = pace_of(100.0, 2000.0)
    pace.level = 3
    end_in_vain(pace, 4 * NUM_IN_VAIN)
    assert pace.num_sharing == 16
    pace.level = 0
    assert pace.num_sharing == 1
    end_session(pace, [True] * 100, 4)
    pace.level = 3
    assert pace.num_sharing == 16


def test_trials_alone_are_no_drafts_to_speak_of() -> None:
    pace = pace_of(100.0, 2000.0)
    end_in_vain(pace, NUM_IN_VAIN)
    end_session(pace, [index % 32 == 0 for index in range(100)])
    assert pace.num_sharing == 4


def test_sessions_that_may_not_draft_say_nothing() -> None:
    pace = pace_of(100.0, 2000.0)
    for index in range(2 * NUM_IN_VAIN):
        schedule = ShadowSchedule(f"plain-{index}", pace)
        schedule.note_round(1)
        schedule.note_end()
    assert pace.num_sharing == 1
