"""A time as a function of rows, learned from single noisy measurements. Pure.

Times are kept at knots and read linearly between those that were measured, never falling. Beyond
the last of them a time goes on with the slope of the curve's upper half; where that is not known,
as if MEMORY_BOUND_ROWS rows' worth of it were fixed: who decodes reads weights first of all.

    time                                .
      |                          .  '   the slope of [last / 2, last]
      |                .  -  o
      |  o  o  -  o -
      +--1--2-----4----------8------------ rows

A measurement moves the knots around it by a share of log(measured / read): by half of it at first,
by MIN_RATE in the end. So the middle of measurements is found, rather than their mean.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Mapping, Sequence
from math import exp

KNOTS = (1, 2, 3, 4, 5, 6, *((base << power) // 4 for power in range(3, 12) for base in (4, 5, 6)))
"""Rows at which times are kept: the small numbers, then 8, 10, 12, 16, 20, 24, 32 and so on."""

MEMORY_BOUND_ROWS = 8
MIN_RATE = 0.01
# Measurements that what was read from other knots weighs, at a new one.
READ_WEIGHT = 1.0
# Measurements that a knot needs before slopes are taken from it.
NUM_TRUSTED = 4


class RowCurve:
    """Times over rows. Units are the caller's."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._knot_times = [0.0] * len(KNOTS)
        self._counts = [0.0] * len(KNOTS)
        # What is read: measured knots, and their times made monotone.
        self._known: list[int] = []
        self._rows: list[int] = []
        self._times: list[float] = []
        self._slope = 0.0

    @property
    def is_known(self) -> bool:
        """Whether anything was measured."""
        return bool(self._rows)

    def at(self, rows: float) -> float:
        """Return the time at so many rows, > 0; 0 while nothing is known."""
        known = self._rows
        if not known:
            return 0.0
        upper = bisect_left(known, rows)
        if upper == len(known):
            return self._times[-1] + self._slope * (rows - known[-1])
        if upper == 0:
            return self._times[0] * (rows + MEMORY_BOUND_ROWS) / (known[0] + MEMORY_BOUND_ROWS)
        low, low_time = known[upper - 1], self._times[upper - 1]
        return low_time + (self._times[upper] - low_time) * (rows - low) / (known[upper] - low)

    def num_measured(self, rows: float) -> float:
        """Return how many measurements stand behind a reading: those of its rarer knot."""
        return min(self._counts[index] for index, _ in _around(rows))

    def measured(self) -> dict[int, tuple[float, float]]:
        """Return (time, measurements) by rows, where there were any."""
        return {
            KNOTS[index]: (self._knot_times[index], self._counts[index]) for index in self._known
        }

    def restore(self, times: Mapping[int, float], count: float) -> None:
        """Begin with times that were measured elsewhere, as if so often; others' rows are left.

        Args:
            times: by rows, > 0.
            count: measurements that each of them weighs.
        """
        for rows, time in times.items():
            if rows in KNOTS and time > 0.0:
                index = KNOTS.index(rows)
                self._knot_times[index] = time
                if self._counts[index] == 0.0:
                    self._learn_of(index)
                self._counts[index] = count
        if self._known:
            self._read_off()

    def start(self, parts: Sequence[tuple[float, float]], time: float) -> None:
        """Take the first measurement: the sum of weight * at(rows) over parts (rows, weight)."""
        unit = time / sum(weight * (rows + MEMORY_BOUND_ROWS) for rows, weight in parts)
        for rows, _ in parts:
            for index, share in _around(rows):
                self._knot_times[index] = unit * (KNOTS[index] + MEMORY_BOUND_ROWS)
                if self._counts[index] == 0.0:
                    self._learn_of(index)
                self._counts[index] = max(self._counts[index], share)
        self._read_off()

    def correct(self, parts: Sequence[tuple[float, float]], log_ratio: float) -> None:
        """Move the knots that a sum was read from, so that it would have been nearer.

        Args:
            parts: (rows, weight) of a sum of weight * at(rows).
            log_ratio: log of the measured over the read sum, outliers cut.
        """
        parts = [(rows, weight * self.at(rows)) for rows, weight in parts]
        total = sum(time for _, time in parts)
        shares: dict[int, float] = {}
        for rows, time in parts:
            for index, share in _around(rows):
                shares[index] = shares.get(index, 0.0) + share * time / total
        norm = sum(share * share for share in shares.values())
        new = []
        for index, share in shares.items():
            count = self._counts[index]
            if count == 0.0:
                self._knot_times[index] = self.at(KNOTS[index])
                new.append(index)
            rate = max(1.0 / (count + 1.0 + READ_WEIGHT), MIN_RATE)
            self._knot_times[index] *= exp(rate * log_ratio * share / norm)
            self._counts[index] = count + share
        for index in new:
            self._learn_of(index)
        self._read_off()

    def _read_off(self) -> None:
        """Pool neighbours that fall into their weighted mean, and find the slope behind the last.

        Pool adjacent violators (Ayer et al. 1955), weighted by what was measured.
        """
        pools: list[tuple[float, float, int]] = []
        for index in self._known:
            pool = (self._knot_times[index], min(self._counts[index], 1.0 / MIN_RATE), 1)
            while pools and pools[-1][0] > pool[0]:
                before = pools.pop()
                weight = before[1] + pool[1]
                mean = (before[0] * before[1] + pool[0] * pool[1]) / weight
                pool = (mean, weight, before[2] + pool[2])
            pools.append(pool)
        self._times = [time for time, _, num_knots in pools for _ in range(num_knots)]
        self._slope = self._last_slope()

    def _learn_of(self, index: int) -> None:
        """Take a knot among those that are known."""
        insort(self._known, index)
        self._rows = [KNOTS[each] for each in self._known]

    def _last_slope(self) -> float:
        last, last_time = self._rows[-1], self._times[-1]
        for place in range(bisect_right(self._rows, last // 2) - 1, -1, -1):
            if self._counts[self._known[place]] >= NUM_TRUSTED:
                rise = last_time - self._times[place]
                return min(rise / (last - self._rows[place]), last_time / last)
        return last_time / (last + MEMORY_BOUND_ROWS)


def _around(rows: float) -> tuple[tuple[int, float], ...]:
    """Return (index, share) of the knots around so many rows."""
    upper = bisect_right(KNOTS, rows)
    if upper == 0:
        return ((0, 1.0),)
    low = KNOTS[upper - 1]
    if rows == low or upper == len(KNOTS):
        return ((upper - 1, 1.0),)
    share = (rows - low) / (KNOTS[upper] - low)
    return ((upper - 1, 1.0 - share), (upper, share))
