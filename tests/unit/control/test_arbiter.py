"""The arbiter: plain steps against their neighbours, per level of load."""

import pytest

from shared.control.arbiter import MAX_OFF_TOKENS, NUM_NEEDED, OFF_TOKENS, Arbiter, level_of


@pytest.mark.parametrize(
    ("num_sessions", "level"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (32, 5)]
)
def test_levels_double(num_sessions: int, level: int) -> None:
    assert level_of(num_sessions) == level


def compare(arbiter: Arbiter, size: int, drafting_ns: float, plain_ns: float, times: int) -> None:
    """Run turns of eight steps with two tokens per session and one plain step."""
    for _ in range(times):
        for _ in range(8):
            arbiter.note_drafting(size, 2 * size, drafting_ns)
        arbiter.note_plain(size, size, plain_ns, is_probe=True)


def test_drafting_that_delivers_more_stays() -> None:
    arbiter = Arbiter()
    compare(arbiter, 4, 30.0, 20.0, 20)
    assert not arbiter.is_off(4)
    assert not arbiter.doubts(4)


def test_drafting_that_delivers_less_is_off_at_its_level_only() -> None:
    arbiter = Arbiter()
    compare(arbiter, 4, 50.0, 20.0, NUM_NEEDED)
    assert arbiter.is_off(4)
    assert arbiter.is_off(3)
    assert not arbiter.is_off(2)
    assert not arbiter.is_off(5)
    assert arbiter.num_levels_off == 1


def test_few_comparisons_only_raise_doubts() -> None:
    arbiter = Arbiter()
    compare(arbiter, 4, 50.0, 20.0, NUM_NEEDED - 1)
    assert not arbiter.is_off(4)
    assert arbiter.doubts(4)


def test_off_ends_after_a_number_of_tokens_that_doubles() -> None:
    arbiter = Arbiter()
    spans = []
    for _ in range(7):
        compare(arbiter, 2, 50.0, 20.0, NUM_NEEDED)
        num_tokens = 0
        while arbiter.is_off(2):
            arbiter.note_plain(2, 2, 20.0, is_probe=False)
            num_tokens += 2
        spans.append(num_tokens)
    assert spans[:3] == [2 * OFF_TOKENS, 4 * OFF_TOKENS, 8 * OFF_TOKENS]
    assert spans[-1] == 2 * MAX_OFF_TOKENS


def test_a_stray_step_decides_nothing() -> None:
    arbiter = Arbiter()
    for _ in range(12):
        compare(arbiter, 2, 30.0, 20.0, 1)
        arbiter.note_drafting(2, 4, 3000.0)
        for _ in range(7):
            arbiter.note_drafting(2, 4, 30.0)
    assert not arbiter.is_off(2)


def test_drifting_pace_favours_neither() -> None:
    arbiter = Arbiter()
    for turn in range(30):
        pace = 1.0 + 0.5 * (turn % 10)
        compare(arbiter, 2, 36.0 * pace, 20.0 * pace, 1)
    assert not arbiter.is_off(2)


def test_plain_steps_that_were_no_probes_are_not_compared() -> None:
    arbiter = Arbiter()
    for _ in range(20):
        for _ in range(8):
            arbiter.note_drafting(2, 4, 90.0)
        arbiter.note_plain(2, 2, 20.0, is_probe=False)
    assert not arbiter.is_off(2)
