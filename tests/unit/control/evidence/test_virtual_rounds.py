"""Virtual rounds: where they begin, what cuts them, how counts fade."""

from random import Random

import pytest

from shared.control.evidence.observation import Observation
from shared.control.evidence.virtual_rounds import MEMORY, VirtualRounds
from tests.unit.control.evidence.tapes import plain_observation

BITS = [1, 1, 0, 1, 1, 1, 0, 1]


def test_rounds_of_three_along_eight_bits_skip_the_bonus_position() -> None:
    rounds = VirtualRounds([4], num_places=3, memory=1.0)
    rounds.note(plain_observation({4: BITS}))
    assert rounds.reached(4) == [3.0, 2.0, 2.0]
    assert rounds.matched(4) == [3.0, 2.0, 1.0]
    assert rounds.totals.reached == {4: [3, 2, 2]}
    assert rounds.totals.matched == {4: [3, 2, 1]}
    assert (rounds.totals.num_positions, rounds.totals.num_sessions) == (8, 1)


def test_an_unknown_bit_cuts_the_round_and_counts_nothing() -> None:
    rounds = VirtualRounds([4], num_places=3, memory=1.0)
    rounds.note(plain_observation({4: [1, 1, None, 1, 0]}))
    assert rounds.reached(4) == [2.0, 2.0, 0.0]
    assert rounds.matched(4) == [2.0, 1.0, 0.0]


def test_a_round_in_which_an_exit_was_not_read_cuts_its_virtual_round() -> None:
    rounds = VirtualRounds([2, 4], memory=1.0)
    rounds.note(plain_observation({2: [1, 1], 4: [1, 1]}))
    rounds.note(plain_observation({2: [1]}))
    rounds.note(plain_observation({2: [1], 4: [1]}))
    assert rounds.reached(2)[:5] == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert rounds.reached(4)[:3] == [2.0, 1.0, 0.0]


def test_a_round_without_positions_changes_nothing() -> None:
    rounds = VirtualRounds([4], memory=0.9)
    rounds.note(plain_observation({4: [1]}))
    rounds.note(Observation(0))
    rounds.note(plain_observation({4: [1]}))
    assert rounds.reached(4)[:2] == pytest.approx([0.9, 1.0])


def test_counts_fade_per_position_read_or_not() -> None:
    rounds = VirtualRounds([2, 4], num_places=2, memory=0.5)
    rounds.note(plain_observation({2: [1, 0], 4: [0, None]}))
    rounds.note(plain_observation({2: [1]}))
    assert rounds.reached(2) == pytest.approx([1 + 0.25, 0.5])
    assert rounds.matched(2) == pytest.approx([1 + 0.25, 0.0])
    assert rounds.reached(4) == pytest.approx([0.25, 0.0])


@pytest.mark.parametrize("round_len", [1, 9])
def test_a_tape_cut_into_short_or_long_rounds_gives_the_same_counts(round_len: int) -> None:
    random = Random(7)
    bits = {e: [random.random() < 0.7 for _ in range(300)] for e in (2, 6)}
    whole, cut = VirtualRounds(bits), VirtualRounds(bits)
    whole.note(plain_observation(bits))
    for start in range(0, 300, round_len):
        cut.note(plain_observation({e: row[start : start + round_len] for e, row in bits.items()}))
    for exit_layer in bits:
        assert cut.reached(exit_layer) == pytest.approx(whole.reached(exit_layer))
        assert cut.matched(exit_layer) == pytest.approx(whole.matched(exit_layer))
    assert cut.totals == whole.totals


def test_counts_stay_sound_after_very_many_positions() -> None:
    rounds = VirtualRounds([4], num_places=1)
    for _ in range(5000):
        rounds.note(plain_observation({4: [0]}))
    assert rounds.reached(4) == pytest.approx([1 / (1 - MEMORY)], rel=1e-6)
    assert rounds.totals.reached == {4: [5000]}


def test_an_exit_that_turns_up_later_is_taken_in() -> None:
    rounds = VirtualRounds([4], memory=0.5)
    rounds.note(plain_observation({4: [1]}))
    rounds.note(plain_observation({3: [1]}))
    assert rounds.exits == (4, 3)
    assert rounds.reached(3)[0] == pytest.approx(1.0)
    assert rounds.reached(4)[0] == pytest.approx(0.5)
    assert rounds.reached(99) == [0.0] * 8


def test_fading_at_once_spares_the_whole_counts() -> None:
    rounds = VirtualRounds([4], num_places=3, memory=1.0)
    rounds.note(plain_observation({4: BITS}))
    rounds.fade(0.25)
    assert rounds.reached(4) == pytest.approx([0.75, 0.5, 0.5])
    assert rounds.totals.reached == {4: [3, 2, 2]}


def test_reads_that_are_not_one_per_position_are_refused() -> None:
    rounds = VirtualRounds([4])
    reads = plain_observation({4: [1, 1]}).reads
    with pytest.raises(ValueError, match="2 reads of an exit at 3 positions"):
        rounds.note(Observation(3, reads))
