"""The session guard: what sessions lose before it acts, and that it leaves easy text alone."""

from random import Random

import pytest

from shared.control.session_guard import SessionGuard

PLAIN_NS = 100.0


def note(guard: SessionGuard, num_emitted: int, steps: float, num_drafted: int = 4) -> bool:
    """Note a round with a draft that took so many plain steps."""
    return guard.note_round(
        num_drafted=num_drafted,
        num_emitted=num_emitted,
        round_ns=steps * PLAIN_NS,
        plain_ns=PLAIN_NS,
    )


def pass_plain(guard: SessionGuard, num_rounds: int) -> None:
    for _ in range(num_rounds):
        note(guard, 1, 1.0, num_drafted=0)


def trip(guard: SessionGuard) -> int:
    """Lose until drafts are off; return the rounds that took."""
    num_rounds = 0
    while not guard.is_off:
        num_rounds += 1
        note(guard, 1, 2.0)
    return num_rounds


@pytest.mark.parametrize("steps", [1.2, 1.4, 1.8, 2.0])
def test_text_without_a_match_costs_at_most_four_plain_steps(steps: float) -> None:
    guard = SessionGuard()
    lost = 0.0
    while not guard.is_off:
        note(guard, 1, steps)
        lost += steps - 1.0
    # Slow losses leak meanwhile: 20 % per token takes a third of the memory.
    assert lost <= (4.0 if steps >= 1.4 else 4.5)


def test_no_fewer_than_four_rounds_turn_drafts_off_however_slow() -> None:
    guard = SessionGuard()
    assert [note(guard, 1, 400.0) for _ in range(4)] == [False, False, False, True]


@pytest.mark.parametrize(("steps", "is_tripped"), [(1.045, False), (1.055, True)])
def test_five_percent_for_long_is_the_border(steps: float, is_tripped: bool) -> None:
    guard = SessionGuard()
    for _ in range(400):
        note(guard, 1, steps)
    assert (guard.num_trips > 0) is is_tripped


def test_after_easy_text_the_gain_is_lost_first_but_not_more_than_its_memory() -> None:
    guard = SessionGuard()
    for _ in range(60):
        note(guard, 5, 2.5)
    assert guard.loss == pytest.approx(-32.0, rel=0.05)
    lost = num_rounds = 0.0
    while not guard.is_off:
        note(guard, 1, 1.5)
        lost += 0.5
        num_rounds += 1
    assert num_rounds <= 64
    assert lost <= 32.0 + 3.2


@pytest.mark.parametrize("seed", range(10))
def test_easy_text_in_bursts_never_trips(seed: int) -> None:
    random = Random(seed)
    guard = SessionGuard()
    for _ in range(60):
        for _ in range(random.randint(4, 16)):
            note(guard, random.randint(3, 5), 1.8)
        for _ in range(random.randint(2, 8)):
            note(guard, 1, 1.8)
    assert guard.num_trips == 0


def test_with_gains_forgotten_the_same_bursts_would_trip() -> None:
    clipped = 0.0
    worst = 0.0
    for _ in range(20):
        for emitted in [4] * 10 + [1] * 5:
            clipped = max(0.0, clipped * (1 - emitted / 64) + 1.8 - emitted)
            worst = max(worst, clipped)
    assert worst > 3.2
    guard = SessionGuard()
    for emitted in ([4] * 10 + [1] * 5) * 20:
        note(guard, emitted, 1.8)
    assert guard.num_trips == 0


def test_off_lasts_64_positions_then_begins_anew() -> None:
    guard = SessionGuard()
    assert trip(guard) == 4
    assert guard.loss == 0.0
    pass_plain(guard, 63)
    assert guard.is_off
    pass_plain(guard, 1)
    assert not guard.is_off
    assert trip(guard) == 4


def test_pauses_double_to_256_and_fall_back_after_512_quiet_positions() -> None:
    guard = SessionGuard()
    pauses = []
    for _ in range(5):
        trip(guard)
        num_rounds = 0
        while guard.is_off:
            pass_plain(guard, 1)
            num_rounds += 1
        pauses.append(num_rounds)
    assert pauses == [64, 128, 256, 256, 256]
    pass_plain(guard, 507)
    trip(guard)
    pass_plain(guard, 255)
    assert guard.is_off
    pass_plain(guard, 1)
    pass_plain(guard, 512)
    trip(guard)
    pass_plain(guard, 64)
    assert not guard.is_off


def test_one_stall_of_the_machine_does_not_turn_drafts_off() -> None:
    guard = SessionGuard()
    assert not note(guard, 1, 500.0)
    for _ in range(64):
        note(guard, 1, 1.0)
    assert guard.loss < 1.2


def test_plain_rounds_and_rounds_of_unknown_time_only_count() -> None:
    guard = SessionGuard()
    note(guard, 1, 3.0)
    loss = guard.loss
    assert not note(guard, 1, 50.0, num_drafted=0)
    assert not note(guard, 1, 0.0)
    assert not guard.note_round(num_drafted=4, num_emitted=1, round_ns=5.0, plain_ns=0.0)
    assert guard.loss == pytest.approx(loss * (63 / 64) ** 3)


def test_very_long_rounds_forget_all_that_was() -> None:
    guard = SessionGuard()
    note(guard, 1, 3.0)
    note(guard, 80, 79.0)
    assert guard.loss == -1.0
