"""Yardsticks: closed forms where there are any, and who can never be beaten."""

from random import Random

import pytest

from shared.control.replay.step_times import StepTimes
from shared.control.replay.yardsticks import (
    DRAFT_LENS,
    arm_ns,
    arm_times,
    best_arm,
    best_in_hindsight,
    clairvoyant_ns,
    static_arms,
)
from shared.speculation.tape import Tape
from shared.speculation.vocabulary import LAYERSKIP, Decision
from tests.unit.control.replay.builders import (
    EXITS,
    make_times,
    random_text,
    random_track,
    track_of,
)

EXIT = 2


def kappa_times(kappa: float) -> StepTimes:
    """A draft costs kappa plain steps, and nothing else costs anything."""
    return StepTimes(
        num_layers=8,
        draft_ns={(EXIT, 1): kappa},
        closing_ns={(EXIT, 1): 0.0},
        verify_ns={(0, 1): 1.0, (EXIT, 1): 1.0},
    )


@pytest.mark.parametrize(
    ("alpha", "kappa", "draft_len", "speedup"),
    [
        (0.8, 0.2, 4, 1.868),
        (0.7, 0.2, 3, 1.583),
        (0.9, 0.1, 8, 3.403),
        (0.6, 0.3, 1, 1.231),
        (0.5, 0.55, 0, 1.0),
    ],
)
def test_the_best_arm_of_constant_acceptance_is_that_of_the_closed_form(
    alpha: float, kappa: float, draft_len: int, speedup: float
) -> None:
    num_tokens = 60_000
    tape = Tape(num_tokens, {EXIT: random_track(alpha, num_tokens, Random(7))}, 100)
    arms = static_arms([EXIT])
    times = arm_times([tape], arms, kappa_times(kappa).round_ns)
    best = best_arm(times)
    found = times[0][0] / times[0][best]
    assert found == pytest.approx(speedup, rel=0.02)
    # Neighbours may be as good within chance; the closed form's own length must be.
    own = times[0][[arm.max_draft_len for arm in arms].index(draft_len)]
    assert own == pytest.approx(times[0][best], rel=0.01)
    assert arms[best].is_off == (draft_len == 0)


def test_drafts_that_are_always_kept_take_as_few_rounds_as_can_be() -> None:
    tape = Tape(50, {EXIT: track_of("1" * 50)}, num_unused=100)
    times = kappa_times(0.1)
    for draft_len in (1, 4, 9):
        rounds, left = divmod(50, draft_len + 1)
        expected = rounds * (1 + 0.1 * draft_len) + (1 + 0.1 * left if left else 0)
        arm = Decision(LAYERSKIP, EXIT, draft_len)
        assert arm_ns(tape, arm, times.round_ns) == pytest.approx(expected)


def test_off_takes_a_plain_step_a_token() -> None:
    tape = random_text("a", 3).tape
    times = make_times()
    off = static_arms(EXITS)[0]
    assert off.is_off
    expected = tape.num_tokens * times.round_ns(0, 0)
    assert arm_ns(tape, off, times.round_ns) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(6))
def test_who_knows_more_is_never_slower(seed: int) -> None:
    rates = [(0.3, 0.5), (0.7, 0.85), (0.95, 0.97)]
    tapes = [random_text("a", 10 * seed + i, each).tape for i, each in enumerate(rates)]
    cost = make_times().round_ns
    times = arm_times(tapes, static_arms(EXITS), cost)
    o1, o2 = best_arm(times), best_in_hindsight(times)
    o3 = [clairvoyant_ns(tape, EXITS, max(DRAFT_LENS), cost) for tape in tapes]
    assert sum(o2) <= sum(row[o1] for row in times)
    assert all(best <= own for best, own in zip(o3, o2, strict=True))
    # Stopping each draft where it goes wrong is worth something on such texts.
    assert sum(o3) < 0.95 * sum(o2)


def test_the_clairvoyant_drafts_exactly_what_is_kept() -> None:
    tape = Tape(6, {EXIT: track_of("110110")}, num_unused=50)
    # Two drafts kept and the third token recovered, twice: 2 * (1 + 2 * 0.1).
    assert clairvoyant_ns(tape, [EXIT], 8, kappa_times(0.1).round_ns) == pytest.approx(2.4)
    # Dear drafts are left alone.
    assert clairvoyant_ns(tape, [EXIT], 8, kappa_times(1.1).round_ns) == pytest.approx(6.0)
