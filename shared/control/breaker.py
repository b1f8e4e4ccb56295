"""Breaker: keeps calls off a peer that keeps failing. Knows nothing of calls, only outcomes. Pure.

closed --failures in a row--> open --a while--> one trial --success--> closed
                                ^                   |
                                +------failure------+   for twice as long, up to a limit
"""

from collections.abc import Callable


class Breaker:
    """The state of one peer as its caller has seen it."""

    def __init__(
        self,
        clock: Callable[[], float],
        max_failures: int,
        open_s: float,
        max_open_s: float | None = None,
    ) -> None:
        """Start closed.

        Args:
            clock: tells seconds that never go back.
            max_failures: failures in a row that open it.
            open_s: time until the first trial.
            max_open_s: most time until a trial, which every failed trial doubles; None keeps it.
        """
        self._clock = clock
        self._max_failures = max_failures
        self._first_open_s = self._open_s = open_s
        self._max_open_s = open_s if max_open_s is None else max_open_s
        self._num_failures = 0
        self._opened_at = 0.0
        self._has_trial = False

    @property
    def is_open(self) -> bool:
        """Whether it has seen too many failures and no success since."""
        return self._num_failures >= self._max_failures

    @property
    def wait_s(self) -> float:
        """Time until a call may be made; 0 for now."""
        if not self.is_open:
            return 0.0
        if self._has_trial:
            return self._open_s
        return max(0.0, self._opened_at + self._open_s - self._clock())

    def begin(self) -> None:
        """Note that a call is made; when open, it is the trial."""
        self._has_trial = self.is_open

    def succeed(self) -> None:
        """Note that the peer took a call."""
        self._num_failures, self._has_trial = 0, False
        self._open_s = self._first_open_s

    def fail(self) -> None:
        """Note that the peer could not be reached or went away."""
        if self._has_trial:
            self._open_s = min(2 * self._open_s, self._max_open_s)
        self._num_failures += 1
        self._opened_at, self._has_trial = self._clock(), False

    def give_up(self) -> None:
        """Note that a call is over; what it showed of the peer was noted before."""
        self._has_trial = False
