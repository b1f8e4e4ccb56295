"""The alarm: a change is noticed, chance is not, and never twice in a short while."""

from itertools import pairwise
from random import Random

import pytest

from shared.control.evidence.change_alarm import ChangeAlarm
from shared.control.evidence.prior import Prior
from shared.control.evidence.tape_ring import TapeRing
from tests.unit.control.evidence.tapes import plain_observation

KNOWN = Prior({2: (0.9,) * 8, 4: (0.9,) * 8}, 32.0)


class Watched:
    """An alarm and its tape, fed bit by bit."""

    def __init__(self, prior: Prior) -> None:
        self.tape = TapeRing(())
        self.alarm = ChangeAlarm(prior)

    def feed(self, bits: list[bool], exit_in_use: int | None = 4, exit_read: int = 4) -> list[int]:
        """Return the positions, from 1, at which it went off."""
        fired = []
        for bit in bits:
            observation = plain_observation({exit_read: [bit]})
            self.tape.note(observation)
            if self.alarm.note(observation, self.tape, exit_in_use):
                fired.append(self.tape.num_positions)
        return fired


def random_bits(random: Random, rate: float, num_bits: int) -> list[bool]:
    return [random.random() < rate for _ in range(num_bits)]


def test_a_change_is_noticed_within_the_recent_positions() -> None:
    random = Random(3)
    for _ in range(20):
        watched = Watched(KNOWN)
        watched.feed(random_bits(random, 0.9, 200))
        fired = watched.feed(random_bits(random, 0.3, 48))
        assert fired and fired[0] - (watched.tape.num_positions - 48) <= 24


def test_it_goes_off_again_only_after_a_distance() -> None:
    watched = Watched(KNOWN)
    watched.feed([True] * 100)
    fired = watched.feed([False] * 24 + [True] * 24 + [False] * 24 + [True] * 200)
    assert len(fired) >= 2
    assert all(b - a >= 48 for a, b in pairwise(fired))


def test_chance_rarely_sets_it_off() -> None:
    random = Random(5)
    fired = Watched(KNOWN).feed(random_bits(random, 0.9, 20_000))
    assert len(fired) < 40


def test_a_belief_that_is_wrong_sets_it_off_once_enough_is_read() -> None:
    assert Watched(KNOWN).feed([False] * 60)[0] == 16


def test_a_guess_does_not_set_it_off() -> None:
    assert Watched(Prior.none([4])).feed([True] * 400) == []


@pytest.mark.parametrize(("exit_in_use", "exit_read"), [(None, 4), (2, 4)])
def test_only_the_exit_in_use_counts(exit_in_use: int | None, exit_read: int) -> None:
    assert Watched(KNOWN).feed([False] * 100, exit_in_use, exit_read) == []


def test_after_an_alarm_the_recent_mean_is_the_slow_one() -> None:
    watched = Watched(KNOWN)
    watched.feed([True] * 100)
    first = watched.feed([False] * 12)[0]
    # 16 matches of 24 stay near the mean at the alarm, and far from that of before.
    pattern = [True, True, False]
    assert watched.feed(pattern * 32) == [] and first < watched.tape.num_positions
