"""Rounds over a tape: those of a static setting, and what each of them shows."""

from random import Random

import pytest

from shared.control.evidence.observation import Read
from shared.control.replay.rounds import look, play_round
from shared.speculation.tape import Tape, TapeRound, rounds_of
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision
from tests.unit.control.replay.builders import random_track, track_of

# Test 5 of the evidence: eight positions.
BITS = "11011101"


def drafting(exit_layer: int, draft_len: int, threshold: float = 0.0) -> Decision:
    return Decision(LAYERSKIP, exit_layer, draft_len, threshold)


def play_all(tape: Tape, decision: Decision) -> list[TapeRound]:
    rounds, place = [], 0
    while place < tape.num_tokens:
        rounds.append(play_round(tape, place, decision))
        place += rounds[-1].num_emitted
    return rounds


@pytest.mark.parametrize(("draft_len", "accepted"), [(2, [2, 2, 0, 1]), (1, [1, 0, 1, 1, 1])])
def test_accepted_counts_of_known_bits(draft_len: int, accepted: list[int]) -> None:
    tape = Tape(8, {2: track_of(BITS)}, num_unused=50)
    assert [each.num_accepted for each in play_all(tape, drafting(2, draft_len))] == accepted


@pytest.mark.parametrize("seed", range(12))
def test_rounds_are_those_of_the_static_replay(seed: int) -> None:
    random = Random(seed)
    num_tokens = random.randrange(1, 60)
    tape = Tape(num_tokens, {3: random_track(0.8, num_tokens, random)}, random.choice([0, 3, 40]))
    for draft_len in (0, 1, 2, 5, 17):
        for threshold in (0.0, 0.4, 0.8):
            decision = drafting(3, draft_len, threshold)
            expected = list(rounds_of(tape, 3, draft_len, threshold))
            assert play_all(tape, decision) == expected


def test_an_exit_that_was_not_recorded_is_an_error() -> None:
    with pytest.raises(ValueError, match="no exit 5"):
        play_round(Tape(3, {2: track_of("111")}), 0, drafting(5, 1))


def reads_of(bits: str) -> list[Read]:
    return [Read(bit == "1", 0.9 if bit == "1" else 0.3) for bit in bits]


def test_a_full_acceptance_shows_one_place_more_only_if_the_closing_row_is_read() -> None:
    tape = Tape(4, {2: track_of("1101")}, num_unused=9)
    decision = drafting(2, 1)
    played = play_round(tape, 0, decision)
    assert played.num_emitted == 2
    assert look(tape, played, decision, ()).reads[2] == [*reads_of("1"), None]
    assert look(tape, played, decision, {2}).reads[2] == reads_of("11")


def test_nothing_behind_the_first_mismatch_is_shown() -> None:
    tape = Tape(5, {2: track_of("10111"), 4: track_of("11111")}, num_unused=9)
    decision = drafting(2, 4)
    seen = look(tape, play_round(tape, 0, decision), decision, {2, 4})
    assert seen.num_positions == 2
    assert seen.reads == {2: reads_of("10"), 4: reads_of("11")}


def test_a_plain_round_shows_what_is_read_and_nothing_for_nothing() -> None:
    tape = Tape(3, {2: track_of("010"), 4: track_of("110")})
    played = play_round(tape, 1, PLAIN_DECISION)
    assert look(tape, played, PLAIN_DECISION, ()).reads == {}
    # An exit that was never recorded shows nothing.
    assert look(tape, played, PLAIN_DECISION, {2, 6}).reads == {2: reads_of("1")}


def test_nothing_behind_the_end_of_a_text_is_shown() -> None:
    tape = Tape(3, {2: track_of("111")}, num_unused=9)
    decision = drafting(2, 8)
    played = play_round(tape, 0, decision)
    assert (played.num_accepted, played.num_emitted) == (3, 3)
    assert look(tape, played, decision, {2}).num_positions == 3
