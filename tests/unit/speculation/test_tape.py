"""Replays of a tape: closed forms, edges, and agreement with rounds played out token by token."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ids import TokenId
from shared.speculation.acceptance import cut_at_finish, judge
from shared.speculation.tape import (
    ExitTrack,
    Replay,
    Tape,
    TapeRound,
    replay,
    rounds_of,
    sum_replays,
)
from shared.speculation.vocabulary import StopParams

STOP_ID = 1
WRONG_ID = 2


def make_tape(matches: str, confidences: list[float] | None = None, num_unused: int = 0) -> Tape:
    """Return a tape with one exit, at layer 1, from a text such as "x.xx"."""
    bits = [mark == "x" for mark in matches]
    track = ExitTrack(bits, [1.0] * len(bits) if confidences is None else confidences)
    return Tape(len(bits), {1: track}, num_unused)


def lengths(rounds: list[TapeRound]) -> list[tuple[int, int]]:
    return [(each.draft_len, each.num_accepted) for each in rounds]


def play(tape: Tape, exit_layer: int, draft_len: int, threshold: float) -> list[TapeRound]:
    """Play rounds out as a cell does: draft ids one by one, judge them, cut at the end.

    Behind a wrong draft the exit goes on with wrong ids, as sure of them as the tape is there.
    """
    track = tape.tracks[exit_layer]
    text = [TokenId(10 + index) for index in range(tape.num_tokens)]
    if tape.num_unused:
        text[-1] = TokenId(STOP_ID)
    padded = [*text, *[TokenId(WRONG_ID)] * (tape.num_unused + draft_len + 1)]
    stop = StopParams(tape.num_tokens + tape.num_unused, frozenset({STOP_ID}))
    rounds, start = [], 0
    while start < tape.num_tokens:
        drafts: list[TokenId] = []
        for index in range(start, start + min(draft_len, stop.max_new_tokens - start - 1)):
            is_right = index < tape.num_tokens and track.matches[index]
            drafts.append(text[index] if is_right else TokenId(WRONG_ID))
            is_unsure = index < tape.num_tokens and track.confidences[index] < threshold
            is_end = drafts == text[start : index + 1] and drafts[-1] == STOP_ID
            if is_unsure or is_end:
                break
        verdict = judge(drafts, padded[start : start + len(drafts) + 1])
        committed = [*drafts[: verdict.num_accepted], verdict.next_token]
        num_emitted, _ = cut_at_finish(committed, start, stop)
        rounds.append(TapeRound(start, len(drafts), verdict.num_accepted, num_emitted))
        start += num_emitted
    return rounds


@st.composite
def tapes(draw: st.DrawFn) -> Tape:
    num_tokens = draw(st.integers(1, 40))
    matches = draw(st.lists(st.booleans(), min_size=num_tokens, max_size=num_tokens))
    levels = st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0])
    confidences = draw(st.lists(levels, min_size=num_tokens, max_size=num_tokens))
    num_unused = draw(st.integers(0, 5))
    return Tape(num_tokens, {3: ExitTrack(matches, confidences)}, num_unused)


@given(tapes(), st.integers(0, 9), st.sampled_from([0.0, 0.3, 0.31, 0.8, 1.0]))
def test_a_replay_equals_rounds_played_out_token_by_token(
    tape: Tape, draft_len: int, threshold: float
) -> None:
    played = play(tape, 3, draft_len, threshold)
    assert list(rounds_of(tape, 3, draft_len, threshold)) == played
    counted = replay(tape, 3, draft_len, threshold)
    assert counted.rounds == Counter(each[1:] for each in played)


@given(tapes(), st.integers(0, 9), st.sampled_from([0.0, 0.5, 1.0]))
def test_rounds_cover_the_text_without_gaps(tape: Tape, draft_len: int, threshold: float) -> None:
    start = 0
    for each in rounds_of(tape, 3, draft_len, threshold):
        assert each.start == start
        assert 0 <= each.num_accepted <= each.draft_len <= draft_len
        start += each.num_emitted
    assert start == tape.num_tokens


@given(tapes(), st.sampled_from([0.0, 0.5, 1.0]))
def test_longer_drafts_never_take_more_rounds(tape: Tape, threshold: float) -> None:
    num_rounds = [replay(tape, 3, draft_len, threshold).num_rounds for draft_len in range(10)]
    assert num_rounds == sorted(num_rounds, reverse=True)


@given(tapes(), st.integers(1, 9))
def test_a_higher_threshold_never_takes_fewer_rounds(tape: Tape, draft_len: int) -> None:
    num_rounds = [replay(tape, 3, draft_len, each).num_rounds for each in (0.0, 0.5, 1.0)]
    assert num_rounds == sorted(num_rounds)


def test_an_exit_that_always_agrees_keeps_whole_drafts() -> None:
    counted = replay(make_tape("x" * 20), 1, 4)
    assert counted.rounds == {(4, 4, 5): 4}
    assert counted.summary.mean_emitted_len == 5
    assert counted.survival(4) == [1.0] * 4


def test_an_exit_that_never_agrees_gives_one_token_a_round() -> None:
    counted = replay(make_tape("." * 10), 1, 4)
    assert counted.num_rounds == counted.num_tokens == 10
    # The limit shortens the last drafts, and the very last round is plain.
    assert counted.rounds_by_draft_len == {4: 6, 3: 1, 2: 1, 1: 1, 0: 1}
    assert counted.survival(2) == [0.0, 0.0]


def test_a_rhythm_of_agreement_gives_its_closed_form() -> None:
    # Two right choices, then a wrong one: every round keeps two drafts and recovers the third.
    counted = replay(make_tape("xx." * 6, num_unused=9), 1, 4)
    assert counted.rounds == {(4, 2, 3): 6}
    assert counted.survival(4) == [1.0, 1.0, 0.0, 0.0]


def test_no_drafts_are_plain_rounds() -> None:
    counted = replay(make_tape("xxxx"), 1, 0)
    assert counted.rounds == {(0, 0, 1): 4}
    assert counted.summary.num_plain_rounds == 4
    assert counted.survival(3) == [0.0, 0.0, 0.0]


def test_the_unsure_token_stays_in_the_draft_and_ends_it() -> None:
    tape = make_tape("xxxxxxxx", [0.9, 0.9, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9], num_unused=8)
    assert lengths(list(rounds_of(tape, 1, 5, 0.5))) == [(3, 3), (4, 4)]


def test_a_threshold_counts_from_below() -> None:
    tape = make_tape("xxxx", [0.5] * 4, num_unused=4)
    assert lengths(list(rounds_of(tape, 1, 4, 0.5))) == [(4, 4)]
    assert lengths(list(rounds_of(tape, 1, 4, 0.51))) == [(1, 1), (1, 1)]


def test_a_draft_of_the_stop_token_ends_the_draft_and_the_text() -> None:
    assert list(rounds_of(make_tape("xxx", num_unused=9), 1, 8)) == [TapeRound(0, 3, 3, 3)]


def test_a_limit_leaves_room_for_the_token_behind_the_draft() -> None:
    assert list(rounds_of(make_tape("xxx"), 1, 8)) == [TapeRound(0, 2, 2, 3)]


def test_behind_a_wrong_draft_the_tape_stands_in() -> None:
    tape = make_tape(".xxxxx", [0.9, 0.9, 0.1, 0.9, 0.9, 0.9], num_unused=9)
    first = next(rounds_of(tape, 1, 5, 0.5))
    assert (first.draft_len, first.num_accepted) == (3, 0)


def test_an_empty_text_has_no_rounds() -> None:
    assert replay(make_tape(""), 1, 4).num_rounds == 0


def test_replays_add_up() -> None:
    parts = [replay(make_tape(marks), 1, 2) for marks in ("xxxx.x", "..")]
    total = sum_replays(parts)
    assert total.num_rounds == sum(each.num_rounds for each in parts)
    assert total.num_tokens == 8
    assert sum_replays([]) == Replay({})


def test_what_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(ValueError, match="no exit 2"):
        replay(make_tape("x"), 2, 1)
    with pytest.raises(ValueError, match="negative"):
        replay(make_tape("x"), 1, -1)


def test_a_tape_must_be_of_one_length() -> None:
    with pytest.raises(ValueError, match="2 matches, 1 confidences"):
        ExitTrack([True, False], [0.5])
    with pytest.raises(ValueError, match="exit 1 has 1 places, the text 2"):
        Tape(2, {1: ExitTrack([True], [0.5])})


def test_a_path_ends_behind_the_draft_whose_product_is_too_small() -> None:
    track = ExitTrack([True] * 6, [0.9, 0.8, 0.9, 0.5, 1.0, 1.0])
    # From 0: .9, .72, .648, .324; from 1: .8, .72, .36; from 2 on .45 is the least.
    assert track.path_lens(0.4) == [4, 3, None, None, None, None]
    assert track.path_lens(0.6) == [4, 3, 2, 1, None, None]
    assert track.path_lens(0.95) == [1, 1, 1, 1, None, None]
    assert track.path_lens(0.0) == [None] * 6


def test_chances_may_take_the_place_of_confidences() -> None:
    track = ExitTrack([True, False], [0.5, 0.5], [0.9, 0.1])
    assert track.by_chance.confidences == [0.9, 0.1]
    assert track.by_chance.matches == [True, False]
    with pytest.raises(ValueError, match="no chances: record it again"):
        _ = ExitTrack([True], [0.5]).by_chance
    with pytest.raises(ValueError, match="1 matches, 2 chances"):
        ExitTrack([True], [0.5], [0.5, 0.5])


def test_a_chance_of_nothing_stops_every_path() -> None:
    assert ExitTrack([True] * 3, [0.9, 0.0, 0.9]).path_lens(0.2) == [2, 1, None]
