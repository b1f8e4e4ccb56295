"""Streams side by side: records that never mix, few live sets, and what is kept of them."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from shared.control.skip_search.search_budget import SearchBudget
from shared.control.skip_search.search_options import SearchOptions
from shared.control.skip_search.stream_book import StreamBook
from shared.control.skip_search.stream_record import Kept, Observation, Phase, StreamRecord
from shared.control.skip_search.windows import Piece, next_piece
from shared.speculation.skip_set import SkipSet

OPTIONS = SearchOptions(num_layers=8)
SETS = [SkipSet.from_wire(range(first, first + 5)) for first in range(2, 9)]


def open_book(max_live_sets: int = 4) -> StreamBook:
    return StreamBook(OPTIONS, lambda observations, seed: None, max_live_sets)


def record_of(skip_set: SkipSet, num_evaluations: int = 1) -> StreamRecord:
    return StreamRecord(skip_set, num_evaluations_ever=num_evaluations)


def test_a_stream_without_a_record_begins_with_the_start_set() -> None:
    stream = open_book().open("a")
    assert stream.skip_set == OPTIONS.start_set
    assert stream.version == 1


def test_streams_are_counted_by_where_their_search_stands() -> None:
    book = open_book()
    book.open("a")
    book.open("b").record.phase = Phase.LOCKED
    assert book.num_by_phase() == {"search": 1.0, "locked": 1.0, "off": 0.0}


def test_records_of_two_streams_never_mix() -> None:
    book = open_book()
    first, second = book.open("a"), book.open("b")
    for _ in range(8):
        first.note_round(first.skip_set, 4, 4)
        second.note_round(second.skip_set, 4, 1)
    assert (first.record.acceptance, second.record.acceptance) == (1.0, 0.25)
    trials = [stream.next_trial(8, ()) for stream in (first, second)]
    assert trials[0] is not None and trials[1] is not None
    assert trials[0].challengers != trials[1].challengers
    first.note_trial(trials[0], dict.fromkeys(trials[0].sets, 0.5))
    assert (first.record.num_evaluations, second.record.num_evaluations) == (3, 0)
    assert first.next_trial(8, ()) is None, "a window came before its interval was over"
    assert book.open("a") is first


def test_streams_beyond_the_live_sets_share_the_nearest_and_keep_their_records() -> None:
    book = open_book(max_live_sets=4)
    for index in range(4):
        book.adopt(f"s{index}", record_of(SETS[index]))
    streams = [book.open(f"s{index}") for index in range(4)]
    book.adopt("late", record_of(SETS[6]))
    late = book.open("late")
    assert late.skip_set == SETS[3]
    late.note_round(late.skip_set, 4, 0)
    assert late.record.acceptance is None, "acceptance of a foreign set was taken for its own"
    book.close(streams[0])
    assert late.skip_set == SETS[6]


def test_only_a_record_that_is_further_is_taken_up() -> None:
    book = open_book()
    stream = book.open("a")
    book.adopt("a", record_of(SETS[1], 5))
    assert stream.skip_set == SETS[1]
    book.adopt("a", record_of(SETS[2], 5))
    assert stream.skip_set == SETS[1]


def test_neighbours_are_sets_that_searches_ended_with() -> None:
    book = open_book()
    stream, other, third = book.open("a"), book.open("b"), book.open("c")
    other.record.phase = Phase.LOCKED
    assert book.neighbours(stream) == [other.record.skip_set]
    assert book.neighbours(third) == book.neighbours(stream)
    assert book.neighbours(other) == []


def full_record() -> StreamRecord:
    return StreamRecord(
        SETS[2],
        version=4,
        phase=Phase.LOCKED,
        num_evaluations=70,
        num_misses=9,
        num_evaluations_ever=170,
        num_candidates=171,
        num_windows=60,
        num_given_up=2,
        scores=[0.5, 0.25, 1.0, 0.0],
        observations=[Observation(SETS[1], -0.5, 3), Observation(SETS[4], 0.125, 4)],
        library=[Kept("window 9", SETS[2])],
        acceptance=0.75,
        num_rounds=1234,
        acceptance_at_lock=0.875,
        num_low_rounds=3,
        reply_len=81.5,
    )


def test_a_record_is_read_as_it_was_written() -> None:
    record = full_record()
    assert StreamRecord.from_json(record.to_json(8), 8, 5) == record


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda values: values.pop("phase"), "phase"),
        (lambda values: values.update(phase="asleep"), "asleep"),
        (lambda values: values.update(skip_set="ffffff"), "does not fit"),
        (lambda values: values.update(skip_set="1"), "skips 1 sub-layers, not 5"),
        (lambda values: values.update(num_misses=-1), "out of range"),
        (lambda values: values.update(scores=[1.5]), "no share"),
        (lambda values: values.update(acceptance="x"), "x"),
        (lambda values: values.update(observations=[[1, 2]]), "unpack"),
        (lambda values: values.update(reply_len=float("nan")), "out of range"),
    ],
)
def test_a_spoilt_record_is_refused(spoil: Callable[[dict[str, Any]], Any], message: str) -> None:
    values = json.loads(full_record().to_json(8))
    spoil(values)
    with pytest.raises(ValueError, match=message):
        StreamRecord.from_json(json.dumps(values), 8, 5)
    with pytest.raises(ValueError, match=r"lacks or garbles|Expecting"):
        StreamRecord.from_json("[]", 8, 5)


@pytest.mark.parametrize(
    ("committed_len", "scored_to", "reply_len", "expected"),
    [
        # The prompt has 10 tokens, W is 32: the first 32 of the reply are left out.
        (10 + 63, 0, 0.0, None),
        (10 + 64, 0, 0.0, Piece(42, 74)),
        (100, 0, 0.0, Piece(68, 100)),
        # Nothing is scored twice.
        (100, 90, 0.0, None),
        (130, 98, 0.0, Piece(98, 130)),
        # Replies of 24 tokens never have that many: pieces of them do.
        (10 + 19, 0, 24.0, None),
        (10 + 20, 0, 24.0, Piece(22, 30)),
        (10 + 24, 0, 24.0, Piece(22, 34)),
    ],
)
def test_windows_are_of_the_reply_and_never_the_same_twice(
    committed_len: int, scored_to: int, reply_len: float, expected: Piece | None
) -> None:
    assert next_piece(10, committed_len, scored_to, 32, 32, reply_len) == expected


def test_a_search_takes_no_more_than_its_share() -> None:
    budget = SearchBudget(0.02)
    step_ns, look_ns = 10_000_000, 25_000_000
    num_looks = 0
    for _ in range(20_000):
        budget.earn(step_ns)
        expected_ns = budget.expected_ns(32, 15_000_000.0)
        if budget.can_pay(expected_ns):
            assert expected_ns is not None
            budget.pay(32, expected_ns, look_ns)
            num_looks += 1
            assert budget.is_measured
    assert num_looks > 100
    assert budget.spent_ns <= 0.02 * budget.steps_ns + look_ns
    assert not budget.can_pay(None)
    assert not SearchBudget(0.0).can_pay(0.0)


def test_the_looks_of_a_trial_are_paid_from_what_was_saved_for_them() -> None:
    budget = SearchBudget(0.02)
    for _ in range(300):
        budget.earn(1_000_000)
    trial_ns = 4 * 1_000_000.0
    assert budget.can_pay(trial_ns)
    for num_left in (4, 3, 2, 1):
        assert budget.can_pay(num_left * 1_000_000.0)
        budget.pay(32, num_left * 1_000_000.0, 1_000_000)
    # Two looks more had been saved: that lapsed.
    assert not budget.can_pay(1.0)


def test_a_stream_is_given_up_by_what_drafts_bring_its_sessions_in_the_mean() -> None:
    stream = open_book().open("a")
    stream.record.num_evaluations = 100
    for speedup in (None, 1.5, 0.2, 0.2):
        stream.note_speedup(speedup)
    assert stream.record.phase is Phase.SEARCH, "one session's drafts pay"
    for _ in range(40):
        stream.note_speedup(0.2)
    assert stream.is_off
