"""Times of steps: those of the cost model for one session, bands and heads for more."""

from dataclasses import replace
from itertools import pairwise

import pytest

from shared.control.replay.step_times import Curve, DraftLoad, StepTimes, times_of
from shared.control.replay.swept_costs import swept_costs
from shared.speculation.cost_model import round_ns
from tests.unit.control.replay.builders import EXITS, NUM_LAYERS, US, make_costs, make_times


@pytest.mark.parametrize("exit_layer", EXITS)
@pytest.mark.parametrize("draft_len", [0, 1, 2, 3, 8, 17])
def test_a_round_of_one_session_takes_what_the_cost_model_says(
    exit_layer: int, draft_len: int
) -> None:
    costs = make_costs()
    times = times_of(costs, NUM_LAYERS, overhead_ns=5.0)
    expected = round_ns(costs, exit_layer, draft_len) + 5.0
    assert times.round_ns(exit_layer, draft_len) == pytest.approx(expected)


def test_a_draft_phase_is_its_steps_with_the_sessions_still_in_them() -> None:
    times = make_times()
    phase = [DraftLoad(2, 1), DraftLoad(2, 3), DraftLoad(2, 3)]

    def closing(b: int) -> float:
        return times.closing_ns[2, 1] * (1 + 0.03 * (b - 1))

    def head(b: int) -> float:
        return 60 * US * (1 + 0.03 * (b - 1))

    # The first session closes in step 2 and is gone behind it.
    steps = [closing(3) + head(3), closing(3) + head(2), closing(2) + head(2), closing(2)]
    assert times.draft_phase_ns(phase) == pytest.approx(times.hand_over_ns + sum(steps))
    assert times.draft_phase_ns([]) == 0.0


def test_sessions_at_two_exits_share_the_layers_below_the_shallower() -> None:
    times = make_times()
    alone = times.draft_phase_ns([DraftLoad(4, 2), DraftLoad(4, 2)])
    mixed = times.draft_phase_ns([DraftLoad(4, 2), DraftLoad(2, 2)])
    apart = times.draft_phase_ns([DraftLoad(4, 2)]) + times.draft_phase_ns([DraftLoad(2, 2)])
    assert times.draft_phase_ns([DraftLoad(2, 2), DraftLoad(2, 2)]) < mixed < alone < apart


def test_a_mixed_pass_runs_its_lower_band_on_the_plain_rows_alone() -> None:
    times = make_times()
    verify = times.verify_ns
    mixed = times.pass_ns({0: 1, 2: 8}, 2)
    assert mixed == pytest.approx(verify[2, 9] + verify[0, 1] - verify[2, 1])
    assert times.pass_ns({0: 9}, 1) == pytest.approx(verify[0, 9])
    assert times.pass_ns({2: 0, 4: 9}, 1) == pytest.approx(verify[4, 9])


def test_further_sessions_and_further_heads_take_time() -> None:
    times = make_times()
    one = times.pass_ns({0: 4}, 4)
    apart = StepTimes(
        NUM_LAYERS, times.draft_ns, times.closing_ns, times.verify_ns, session_layer_ns=7.0
    )
    assert apart.pass_ns({0: 4}, 4) == pytest.approx(one + 3 * 7.0 * NUM_LAYERS)
    assert apart.pass_ns({2: 4}, 4, 9) == apart.pass_ns({2: 4}, 4)
    assert times.pass_ns({0: 4}, 4, 12) > one
    beside = times.draft_phase_ns([DraftLoad(4, 2, num_shadows=1)])
    assert beside > times.draft_phase_ns([DraftLoad(4, 2)])


def test_drafts_that_tell_chances_take_what_that_adds_to_their_steps() -> None:
    bare = make_times()
    times = replace(bare, chance_ns={1: 3.0, 2: 5.0})
    silent = [DraftLoad(2, 1), DraftLoad(2, 3)]
    assert times.draft_phase_ns(silent) == bare.draft_phase_ns(silent)
    # Both tell in step 1, the longer one in steps 2 and 3; nobody does in a closing step.
    telling = [DraftLoad(2, 1, by_chance=True), DraftLoad(2, 3, by_chance=True)]
    assert times.draft_phase_ns(telling) == pytest.approx(bare.draft_phase_ns(silent) + 11.0)
    mixed = [DraftLoad(2, 1), DraftLoad(2, 3, by_chance=True)]
    assert times.draft_phase_ns(mixed) == pytest.approx(bare.draft_phase_ns(silent) + 9.0)
    assert times.round_ns(2, 3) == bare.round_ns(2, 3)


def test_a_curve_is_linear_between_points_and_never_falls_behind_them() -> None:
    curve = Curve({2: 10.0, 4: 20.0, 8: 16.0})
    assert [curve.at(rows) for rows in (1, 2, 3, 4, 6)] == [10.0, 10.0, 15.0, 20.0, 18.0]
    assert curve.at(100) == 16.0
    rising = Curve({1: 1.0, 2: 3.0})
    assert all(rising.at(a) < rising.at(b) for a, b in pairwise(range(1, 9)))


def test_times_without_a_plain_step_are_refused() -> None:
    with pytest.raises(ValueError, match="layer 0"):
        StepTimes(NUM_LAYERS, {}, {}, {(2, 1): 5.0})


def test_swept_costs_know_what_steps_take() -> None:
    times = make_times()
    costs = swept_costs(times)
    for size in (1, 4, 16):
        plain_ns = costs.pass_ns({0: size})
        assert plain_ns == pytest.approx(times.pass_ns({0: size}, size), rel=0.05)
        for exit_layer in EXITS:
            phase_ns = costs.draft_ns(exit_layer, size, 4)
            expected = times.draft_phase_ns([DraftLoad(exit_layer, 4)] * size)
            assert phase_ns == pytest.approx(expected, rel=0.1)


def test_first_steps_of_a_phase_take_longer_by_what_the_deepest_exit_lost() -> None:
    bare = make_times()
    times = replace(bare, first_steps_ns={(2, 1): 50.0, (2, 2): 20.0, (4, 1): 90.0})
    one, two = DraftLoad(2, 1), DraftLoad(4, 3)
    assert times.draft_phase_ns([one]) == pytest.approx(bare.draft_phase_ns([one]) + 70.0)
    assert times.draft_phase_ns([one, two]) == pytest.approx(bare.draft_phase_ns([one, two]) + 90.0)
    assert times.pass_ns({2: 3}, 1) == bare.pass_ns({2: 3}, 1)


def test_between_processes_steps_and_passes_are_stretched_and_the_hand_over_is_not() -> None:
    bare = make_times()
    times = replace(bare, draft_stretch=1.5, pass_stretch=1.2, plain_stretch=1.3)
    steps_ns = bare.draft_phase_ns([DraftLoad(2, 4)]) - bare.hand_over_ns
    expected = bare.hand_over_ns + 1.5 * steps_ns
    assert times.draft_phase_ns([DraftLoad(2, 4)]) == pytest.approx(expected)
    assert times.pass_ns({2: 5}, 1, 2) == pytest.approx(1.2 * bare.pass_ns({2: 5}, 1, 2))
    assert times.pass_ns({0: 5}, 5, 2) == pytest.approx(1.3 * bare.pass_ns({0: 5}, 5, 2))
    # Where some rows are plain, layers below the exit take what whole passes take beyond others.
    below_ns = 1.3 * bare.pass_ns({0: 2}, 1) - 1.2 * bare.pass_ns({2: 2}, 1)
    mixed_ns = below_ns + 1.2 * bare.pass_ns({2: 7}, 1)
    assert times.pass_ns({0: 2, 2: 5}, 1) == pytest.approx(mixed_ns)
