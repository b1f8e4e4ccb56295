"""Throughput: the tokens that a gateway has emitted in each second of the last minute.

A round costs one look at the clock and one addition.
"""

from collections.abc import Callable
from time import monotonic

WINDOW_S = 60


class Throughput:
    """Counts per second, of the last `WINDOW_S` seconds."""

    def __init__(self, read_clock_s: Callable[[], float] = monotonic) -> None:
        """Start empty."""
        self._read_clock_s = read_clock_s
        # One more than is told: the second that is still running.
        self._counts = [0] * (WINDOW_S + 1)
        self._second = int(read_clock_s())

    def note(self, num_tokens: int) -> None:
        """Count tokens that were emitted now."""
        second = int(self._read_clock_s())
        if second != self._second:
            self._advance(second)
        self._counts[second % len(self._counts)] += num_tokens

    def per_second(self) -> list[int]:
        """Return the counts of the last full seconds, the oldest first."""
        self._advance(int(self._read_clock_s()))
        oldest = self._second + 1
        return [self._counts[(oldest + age) % len(self._counts)] for age in range(WINDOW_S)]

    def _advance(self, second: int) -> None:
        """Clear the seconds in which nothing was counted."""
        for passed in range(max(self._second + 1, second - WINDOW_S), second + 1):
            self._counts[passed % len(self._counts)] = 0
        self._second = second
