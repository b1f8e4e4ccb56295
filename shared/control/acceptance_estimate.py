"""How many drafts of a session's next round will be kept: discounted counts, per place. Pure.

Of a round with a draft capped at d, k made and a kept, it is known for every place j <= d whether
the first j drafts were kept, and where the draft went on, whatever the stop threshold did:

    place           1 ......... a    a+1              a+2 ... d
    kept            1           1    0 (if a < d)     not reached
    place           1 ......... k    k+1              k+2 ... d
    made            1           1    0 (if k < d)     not reached

A draft that stopped by itself behind k kept tokens counts as not kept at k+1: a longer cap would
not have brought more. So rates do not depend on the caps they were found under, and short drafts
tell the first places of long ones. A session's rates shrink to those of all sessions with its
method, exit and threshold, moved to the session's own level.
"""

from operator import mul

# Per round noted: memories of about 33 and 1000 rounds.
SESSION_MEMORY = 0.97
POOL_MEMORY = 0.999
# Old counts weigh at least this share when a session drafts again after a long time.
LEAST_KEPT = 0.25
# Per round without a draft what a session showed fades, and it comes nearer to all sessions: text
# changes, and sessions that were turned off in a bad moment would stay so.
FADING = 0.998
# Rounds that a guess weighs: the rate of the place before, the level, the place's own rate.
POOL_WEIGHT = 8.0
LEVEL_WEIGHT = 4.0
PLACE_WEIGHT = 6.0
# Where counts are brought back to a unit of 1, before they overflow.
MAX_UNIT = 1e12
# Before anything was seen. Neither 0 nor 1 is ever believed.
FIRST_KEPT = 0.7
FIRST_MADE = 0.95
LEAST_RATE = 0.02


class PlaceCounts:
    """By place: how often it was reached, and how often passed; discounted.

    Rather than all old counts fading, every new one weighs more than those before it.
    """

    __slots__ = ("_passed", "_reached", "_unit")

    def __init__(self) -> None:
        """Begin without counts."""
        self._unit = 1.0
        self._reached: list[float] = []
        self._passed: list[float] = []

    def note(self, cap: int, num_passed: int, memory: float) -> None:
        """Count places 1 .. num_passed as passed, and the next one, if within the cap, as not."""
        self._unit /= memory
        if self._unit > MAX_UNIT:
            num_places = len(self._reached)
            self._reached, self._passed = self.reached(num_places), self.passed(num_places)
            self._unit = 1.0
        if cap > len(self._reached):
            self._reached += [0.0] * (cap - len(self._reached))
            self._passed += [0.0] * (cap - len(self._passed))
        for index in range(min(num_passed, cap)):
            self._reached[index] += self._unit
            self._passed[index] += self._unit
        if num_passed < cap:
            self._reached[num_passed] += self._unit

    def reached(self, num_places: int, weight: float = 1.0) -> list[float]:
        """Return how often each place was reached, times a weight; no more places than seen."""
        weight /= self._unit
        return [weight * count for count in self._reached[:num_places]]

    def passed(self, num_places: int, weight: float = 1.0) -> list[float]:
        """Return how often each place was passed, likewise."""
        weight /= self._unit
        return [weight * count for count in self._passed[:num_places]]

    def rates(self, num_places: int, first: float) -> list[float]:
        """Return each place's rate of passing, shrunk to that of the place before."""
        rates: list[float] = []
        rate = first
        for reached, passed in zip(self.reached(num_places), self.passed(num_places), strict=True):
            rate = (POOL_WEIGHT * rate + passed) / (POOL_WEIGHT + reached)
            rates.append(rate)
        return rates + [rate] * (num_places - len(rates))


class AcceptancePool:
    """What all sessions of a cell showed with one method, exit layer and stop threshold."""

    def __init__(self) -> None:
        """Begin with guesses."""
        self._kept = PlaceCounts()
        self._made = PlaceCounts()
        self._num_rounds = 0
        # Kept rates by number of places, until the next round: all sessions ask for the same.
        self._kept_rates: dict[int, list[float]] = {}

    @property
    def num_rounds(self) -> int:
        """Rounds noted."""
        return self._num_rounds

    def note(self, cap: int, num_drafted: int, num_accepted: int) -> None:
        """Take a round with a draft of any session."""
        self._num_rounds += 1
        self._kept_rates.clear()
        self._kept.note(cap, num_accepted, POOL_MEMORY)
        self._made.note(cap, num_drafted, POOL_MEMORY)

    def kept_rates(self, num_places: int) -> list[float]:
        """Return, by place, the share of drafts kept where all before were."""
        rates = self._kept_rates.get(num_places)
        if rates is None:
            rates = self._kept_rates[num_places] = self._kept.rates(num_places, FIRST_KEPT)
        return rates

    def made_rates(self, num_places: int) -> list[float]:
        """Return, by place, the share of drafts that went on so far."""
        return self._made.rates(num_places, FIRST_MADE)


class AcceptanceEstimate:
    """One session's chances, with one method, exit layer and stop threshold."""

    def __init__(self, pool: AcceptancePool) -> None:
        """Take the pool, which is noted into as well."""
        self._pool = pool
        self._kept = PlaceCounts()
        self._made = PlaceCounts()

    def note(self, cap: int, num_drafted: int, num_accepted: int, num_rounds_since: int) -> None:
        """Take a round with a draft.

        Args:
            cap: most drafts that the round might have had, at least 1.
            num_drafted: k, at least 1; num_accepted: a <= k.
            num_rounds_since: this round and the session's rounds without a draft before it, by
                which what is known has aged.
        """
        memory = max(LEAST_KEPT, SESSION_MEMORY**num_rounds_since)
        self._kept.note(cap, num_accepted, memory)
        self._made.note(cap, num_drafted, memory)
        self._pool.note(cap, num_drafted, num_accepted)

    def kept(self, num_places: int, num_rounds_off: int = 0) -> list[float]:
        """Return P(the first j drafts are made and kept) for j in [1, num_places]; falls with j.

        Args:
            num_places: the longest draft asked about.
            num_rounds_off: rounds of the session since the last that was noted.
        """
        weight = FADING**num_rounds_off
        return _running_product(_shrunk(self._kept, weight, self._pool.kept_rates(num_places)))

    def made(self, num_places: int, num_rounds_off: int = 0) -> list[float]:
        """Return P(at least j drafts are made) for j in [1, num_places]; a draft has one."""
        weight = FADING**num_rounds_off
        rates = _shrunk(self._made, weight, self._pool.made_rates(num_places))
        return _running_product([1.0, *rates[1:]])


def _shrunk(counts: PlaceCounts, weight: float, pool_rates: list[float]) -> list[float]:
    """Return rates by place: the pool's, moved to the level of the counts, then to the counts."""
    reached = counts.reached(len(pool_rates), weight)
    passed = counts.passed(len(pool_rates), weight)
    num_reached = sum(reached)
    if num_reached == 0.0:
        return pool_rates
    expected = sum(map(mul, reached, pool_rates))
    mean = _clip(expected / num_reached)
    level = _clip((LEVEL_WEIGHT * mean + sum(passed)) / (LEVEL_WEIGHT + num_reached))
    factor = level * (1.0 - mean) / (mean * (1.0 - level))
    rates = []
    for index, pool_rate in enumerate(pool_rates):
        odds = factor * pool_rate
        rate = odds / (1.0 - pool_rate + odds)
        if index < len(reached):
            rate = (PLACE_WEIGHT * rate + passed[index]) / (PLACE_WEIGHT + reached[index])
        rates.append(rate)
    return rates


def _clip(rate: float) -> float:
    return min(1.0 - LEAST_RATE, max(LEAST_RATE, rate))


def _running_product(rates: list[float]) -> list[float]:
    product = 1.0
    products = []
    for rate in rates:
        product *= rate
        products.append(product)
    return products
