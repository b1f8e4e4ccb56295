"""Tokens per second of the last minute, whatever the clock did between."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.gateway.throughput import WINDOW_S, Throughput


class Clock:
    """Goes on when told to."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def test_the_second_that_still_runs_is_not_told() -> None:
    clock = Clock(100.0)
    throughput = Throughput(clock)
    throughput.note(7)
    clock.now_s = 100.9
    throughput.note(1)
    assert throughput.per_second() == [0] * WINDOW_S
    clock.now_s = 101.0
    assert throughput.per_second() == [0] * (WINDOW_S - 1) + [8]


@given(
    start_s=st.floats(0, 1000),
    steps=st.lists(
        st.tuples(st.sampled_from([0.0, 0.3, 1.0, 7.7, 59.0, 61.0, 200.0]), st.integers(0, 9)),
        max_size=30,
    ),
)
def test_every_second_has_its_own_count(start_s: float, steps: list[tuple[float, int]]) -> None:
    clock = Clock(start_s)
    throughput, expected = Throughput(clock), Counter[int]()
    for step_s, num_tokens in steps:
        clock.now_s += step_s
        throughput.note(num_tokens)
        expected[int(clock.now_s)] += num_tokens
        now = int(clock.now_s)
        assert throughput.per_second() == [
            expected[second] for second in range(now - WINDOW_S, now)
        ]
