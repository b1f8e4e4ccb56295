"""The chance that the first j drafts of a round are all kept, and how surely it is known. Pure.

Counts by place are shrunk twice: the session's level towards the level of what is believed of it
beforehand, and each place towards the believed shape, moved to that level.

    believed   p[1] .............. p[J]      weight n of the level, n1 of a place
    counted    H[1]/R[1] ......... H[J]/R[J]
    level      pool = (n*pm + sum H) / (n + sum R),  pm = the believed rates where counts are
    place      alpha[j] = (n1*moved[j] + H[j]) / (n1 + R[j])
    survival   S(j) = alpha[1] * ... * alpha[j]
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from operator import mul

# J: the longest draft that counts are kept for.
NUM_PLACES = 8
# n1: virtual rounds that the believed shape weighs at each place.
SHAPE_WEIGHT = 12.0
# What the counts of all places tell of one of them.
LEVEL_SHARE = 0.25
LEAST_COUNT = 1e-9


@dataclass(frozen=True, slots=True)
class Survival:
    """By place j = 1 .. d, at index j - 1; a longer draft's chance is never the larger.

    kept: S(j), the chance that the first j drafts are all kept, in (0, 1).
    errors: standard error of S(j), at least 0.
    """

    kept: tuple[float, ...]
    errors: tuple[float, ...]

    def places(self, num_places: int) -> "Survival":
        """Return the first places; behind the last one known the last rate goes on.

        Raises:
            ValueError: the number is negative.
        """
        if num_places < 0:
            raise ValueError(f"the number of places must not be negative, not {num_places}")
        if num_places == len(self.kept):
            return self
        if num_places < len(self.kept):
            return Survival(self.kept[:num_places], self.errors[:num_places])
        return self._longer(num_places)

    def _longer(self, num_places: int) -> "Survival":
        kept, errors = list(self.kept), list(self.errors)
        before, last = (1.0, *kept)[-2:]
        rate = last / before
        variance = (errors[-1] / last) ** 2
        place_variance = variance - (errors[-2] / before) ** 2 if len(errors) > 1 else variance
        while len(kept) < num_places:
            last *= rate
            variance += place_variance
            kept.append(last)
            errors.append(last * sqrt(variance))
        return Survival(tuple(kept), tuple(errors))


def estimate_survival(
    reached: Sequence[float], matched: Sequence[float], believed: Sequence[float], weight: float
) -> Survival:
    """Return what counts and belief together say.

    Args:
        reached: R[j], how often a virtual round came to place j; decayed, at least 0.
        matched: H[j], how often the exit's choice was right there, at most R[j].
        believed: p[j], each inside (0, 1).
        weight: n, virtual rounds that the believed level weighs, above 0.

    Raises:
        ValueError: the three differ in length, or there is no place.
    """
    if not len(reached) == len(matched) == len(believed) > 0:
        raise ValueError(f"{len(reached)} reached, {len(matched)} matched, {len(believed)} rates")
    num_reached = sum(reached)
    # Counts that have faded to nothing have no mean.
    is_counted = num_reached > LEAST_COUNT
    mean = sum(map(mul, reached, believed)) / num_reached if is_counted else believed[0]
    level = (weight * mean + sum(matched)) / (weight + num_reached)
    # A shift of all logits is a factor on all odds.
    factor = level * (1.0 - mean) / (mean * (1.0 - level))
    known = SHAPE_WEIGHT + LEVEL_SHARE * (weight + num_reached)
    survival, variance = 1.0, 0.0
    kept, errors = [], []
    for num, num_matched, rate in zip(reached, matched, believed, strict=True):
        odds = factor * rate
        moved = odds / (1.0 - rate + odds)
        alpha = (SHAPE_WEIGHT * moved + num_matched) / (SHAPE_WEIGHT + num)
        survival *= alpha
        variance += (1.0 - alpha) / (alpha * (known + num))
        kept.append(survival)
        errors.append(survival * sqrt(variance))
    return Survival(tuple(kept), tuple(errors))
