"""The drain rate follows what was measured, and claims to know only what it does."""

import pytest

from services.gateway.drain_rate import MIN_DEPARTURES, DrainRate


def run(rate: DrainRate, gaps_s: list[float], start_s: float = 0.0) -> float:
    """Let one place after another come free, all being taken in between; return the time."""
    now_s = start_s
    for gap_s in gaps_s:
        rate.note_full(now_s)
        now_s += gap_s
        rate.note_free(now_s)
    return now_s


def test_a_steady_pace_is_found_whatever_was_guessed() -> None:
    rate = DrainRate(1)
    now_s = run(rate, [0.2] * 300)
    assert rate.wait_s(10, now_s) == pytest.approx(2.0, rel=0.01)
    now_s = run(rate, [0.6] * 300, now_s)
    assert rate.wait_s(10, now_s) == pytest.approx(6.0, rel=0.01)


def test_time_with_free_places_does_not_count() -> None:
    rate = DrainRate(1)
    now_s = run(rate, [0.2] * 300)
    rate.note_free(now_s + 1000)
    now_s = run(rate, [0.2] * 10, now_s + 2000)
    assert rate.wait_s(10, now_s) == pytest.approx(2.0, rel=0.01)


def test_a_gap_that_has_not_ended_makes_the_wait_longer() -> None:
    rate = DrainRate(1)
    now_s = run(rate, [0.2] * 300)
    rate.note_full(now_s)
    assert rate.wait_s(1, now_s + 60) > 1.0


def test_nothing_is_sure_until_enough_was_seen() -> None:
    rate = DrainRate(1)
    now_s = run(rate, [1.0] * (MIN_DEPARTURES - 1))
    assert rate.sure_wait_s(100) == 0.0
    run(rate, [1.0], now_s)
    assert 70 < rate.sure_wait_s(100) < 90
    assert rate.sure_wait_s(4) == 0.0


def test_places_that_come_free_together_leave_less_that_is_sure() -> None:
    even, bursts = DrainRate(16), DrainRate(16)
    run(even, [1.0] * 320)
    run(bursts, ([16.0] + [0.0] * 15) * 20)
    assert bursts.wait_s(100, 320.0) == pytest.approx(even.wait_s(100, 320.0), rel=0.5)
    assert even.sure_wait_s(100) > 70
    assert bursts.sure_wait_s(16) == 0.0
    assert bursts.sure_wait_s(100) < 0.5 * even.sure_wait_s(100)
