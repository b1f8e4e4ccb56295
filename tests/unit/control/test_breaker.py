"""A breaker lets calls through until too many fail in a row, then one trial at a time."""

from shared.control.breaker import Breaker


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_breaker_opens_again_when_its_trial_fails() -> None:
    clock = Clock()
    breaker = Breaker(clock, max_failures=2, open_s=10)
    breaker.fail()
    assert breaker.wait_s == 0
    breaker.fail()
    assert breaker.wait_s == 10
    clock.now_s += 10
    assert breaker.wait_s == 0
    breaker.begin()
    assert breaker.wait_s > 0
    breaker.fail()
    assert breaker.wait_s == 10


def test_every_failed_trial_doubles_the_wait_up_to_its_limit_and_a_success_forgets_it() -> None:
    clock = Clock()
    breaker = Breaker(clock, max_failures=1, open_s=1, max_open_s=5)
    breaker.fail()
    waits = []
    for _ in range(5):
        waits.append(breaker.wait_s)
        clock.now_s += breaker.wait_s
        breaker.begin()
        breaker.fail()
    assert waits == [1, 2, 4, 5, 5]
    clock.now_s += breaker.wait_s
    breaker.begin()
    breaker.succeed()
    breaker.fail()
    assert breaker.wait_s == 1


def test_failures_of_calls_that_began_before_it_opened_do_not_double_the_wait() -> None:
    breaker = Breaker(Clock(), max_failures=1, open_s=1, max_open_s=30)
    for _ in range(10):
        breaker.begin()
        breaker.give_up()
    for _ in range(10):
        breaker.fail()
    assert breaker.wait_s == 1


def test_a_trial_that_its_client_gave_up_leaves_room_for_another() -> None:
    clock = Clock()
    breaker = Breaker(clock, max_failures=1, open_s=10)
    breaker.fail()
    clock.now_s += 10
    breaker.begin()
    breaker.give_up()
    assert breaker.wait_s == 0


def test_failures_count_only_in_a_row() -> None:
    breaker = Breaker(Clock(), max_failures=2, open_s=10)
    for _ in range(5):
        breaker.fail()
        breaker.succeed()
    assert not breaker.is_open
