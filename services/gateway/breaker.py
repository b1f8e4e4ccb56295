"""Breaker: keeps requests off a cell that keeps failing. Knows nothing of calls, only outcomes.

closed --5 failures in a row--> open --30 s--> one trial --success--> closed
                                 ^                 |
                                 +-----failure-----+
"""

from collections.abc import Callable

MAX_FAILURES = 5
OPEN_S = 30.0


class Breaker:
    """The state of one cell as this gateway has seen it."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        max_failures: int = MAX_FAILURES,
        open_s: float = OPEN_S,
    ) -> None:
        """Start closed; `clock` tells seconds that never go back."""
        self._clock = clock
        self._max_failures = max_failures
        self._open_s = open_s
        self._num_failures = 0
        self._opened_at = 0.0
        self._has_trial = False

    @property
    def is_open(self) -> bool:
        """Whether it has seen too many failures and no success since."""
        return self._num_failures >= self._max_failures

    @property
    def wait_s(self) -> float:
        """Time until a request may be sent; 0 for now."""
        if not self.is_open:
            return 0.0
        if self._has_trial:
            return self._open_s
        return max(0.0, self._opened_at + self._open_s - self._clock())

    def begin(self) -> None:
        """Note that a request is sent; when open, it is the trial."""
        self._has_trial = self.is_open

    def succeed(self) -> None:
        """Note that the cell took a request."""
        self._num_failures, self._has_trial = 0, False

    def fail(self) -> None:
        """Note that the cell could not be reached or went away."""
        self._num_failures += 1
        self._opened_at, self._has_trial = self._clock(), False

    def give_up(self) -> None:
        """Note that a request is over; what it showed of the cell was noted before."""
        self._has_trial = False
