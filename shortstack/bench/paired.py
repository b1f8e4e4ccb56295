"""What two things measured in turn differ by: the median of pairs, with a bootstrap interval. Pure.

Machines have moods; both members of a pair had the same one. Nothing is assumed of how the pairs
are spread (percentile bootstrap: Efron 1979).
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

NUM_RESAMPLES = 2000
TAIL = 0.025


class Finding(StrEnum):
    """What an interval says of a bound."""

    MET = "met"
    MISSED = "MISSED"
    NOT_RESOLVED = "not resolved"


@dataclass(frozen=True, slots=True)
class Interval:
    """A median, or another figure of pairs, and the interval that holds it with 95 %."""

    low: float
    median: float
    high: float

    @property
    def width(self) -> float:
        """From end to end."""
        return self.high - self.low


def paired_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """Return the median of at least one pair's difference or ratio, with its interval."""
    draw = random.Random(seed)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(NUM_RESAMPLES))
    cut = int(NUM_RESAMPLES * TAIL)
    return Interval(medians[cut], median(values), medians[-1 - cut])


def ratio_interval(pairs: Sequence[tuple[float, float]], seed: int = 0) -> Interval:
    """Return the sum of the first members over that of the second, with its interval.

    For what comes in bursts: a median of ratios would not see work that falls into few pairs.
    """
    draw = random.Random(seed)
    ratios = sorted(_ratio(draw.choices(pairs, k=len(pairs))) for _ in range(NUM_RESAMPLES))
    cut = int(NUM_RESAMPLES * TAIL)
    return Interval(ratios[cut], _ratio(pairs), ratios[-1 - cut])


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    return sum(first for first, _ in pairs) / sum(second for _, second in pairs)


def judge_bound(found: Interval, bound: float, max_width: float) -> Finding:
    """Say whether the median is at most the bound.

    max_width: a wider interval says nothing, unless all of it lies on one side of the bound.
    """
    if found.low > bound:
        return Finding.MISSED
    if found.high <= bound:
        return Finding.MET
    if found.width > max_width:
        return Finding.NOT_RESOLVED
    return Finding.MET if found.median <= bound else Finding.MISSED
