"""Drain rate: how fast places come free while all of them are taken. Pure; times are arguments.

Only the time in which every place is taken counts: requests that end when there is room for more
say nothing about how fast a queue would move.
"""

from math import sqrt

# Before anything was measured: a place is held for so long.
PRIOR_HELD_S = 1.0
# Departures that must have been seen, and those that count at least, however few the places.
MIN_DEPARTURES = 20


class DrainRate:
    """A running mean of the gaps between departures, and how much they scatter."""

    def __init__(self, num_places: int) -> None:
        """Start with a guess that the first departures outweigh."""
        self._num_needed = max(MIN_DEPARTURES, num_places)
        # Requests that came together end together: a mean over less than the requests that run at
        # a time would take that for a fast queue, then for one that stands still.
        self._keep = 1 - 1 / max(MIN_DEPARTURES, 2 * num_places)
        self._num = 1.0
        self._sum_s = PRIOR_HELD_S / num_places
        self._sum_squares = self._sum_s**2
        self._num_seen = 0
        self._since_s: float | None = None

    def note_full(self, now_s: float) -> None:
        """Note that all places are taken from now on."""
        if self._since_s is None:
            self._since_s = now_s

    def note_free(self, now_s: float) -> None:
        """Note that one of them comes free; `note_full` follows if it is taken again."""
        if self._since_s is None:
            return
        gap_s = now_s - self._since_s
        self._num = self._num * self._keep + 1
        self._sum_s = self._sum_s * self._keep + gap_s
        self._sum_squares = self._sum_squares * self._keep + gap_s**2
        self._num_seen += 1
        self._since_s = None

    def wait_s(self, num_places: int, now_s: float) -> float:
        """Return the time in which so many places are expected to come free."""
        # What has not ended yet counts too, or a queue that stands still would look fast for ever.
        open_gap_s = 0.0 if self._since_s is None else now_s - self._since_s
        return num_places * (self._sum_s + open_gap_s) / self._num

    def sure_wait_s(self, num_places: int) -> float:
        """Return a time in which so many places hardly come free; 0 where too little is known.

        Two standard deviations below the mean, for as many independent gaps that scatter as those
        measured did, or as random arrivals do if those were more even.
        """
        if self._num_seen < self._num_needed:
            return 0.0
        mean_s = self._sum_s / self._num
        if not mean_s:
            return 0.0
        scatter = max(1.0, self._sum_squares / self._num / mean_s**2 - 1)
        return max(0.0, num_places - 2 * sqrt(scatter * num_places)) * mean_s
