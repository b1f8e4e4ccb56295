"""What is believed of a session before it has shown anything. Pure.

    PlaceTotals   virtual rounds of many positions, counted by exit and place; never decayed
    Prior         rates by exit and place made of them, level upon level:
                  shipped with the model -> all sessions -> a tenant's -> one task of that tenant

Totals of cells and sessions add up in any order, so a store needs no more than increments.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shared.control.evidence.survival import NUM_PLACES

# Virtual rounds that the level above weighs at each place.
ABOVE_WEIGHT = 200.0
LEAST_RATE = 0.02
# n0, in virtual rounds: with a task's own prior, with another, with none.
TASK_WEIGHT = 48.0
PRIOR_WEIGHT = 32.0
NO_PRIOR_WEIGHT = 8.0
NO_PRIOR_RATE = 0.7
# Two priors promise the same whose rates, and by parts of it their weights, differ by less.
ALIKE = 0.02
# Positions from which on a task's totals are believed to be the task's own.
MIN_TASK_POSITIONS = 2000


@dataclass(slots=True)
class PlaceTotals:
    """Counts by exit layer; a row holds places 1 .. J at index 0 .. J - 1.

    reached, matched: R and H of virtual rounds; whole numbers, unless scaled.
    num_positions: committed positions at which an exit was read; num_sessions: whose they were.
    """

    reached: dict[int, list[float]] = field(default_factory=dict)
    matched: dict[int, list[float]] = field(default_factory=dict)
    num_positions: float = 0
    num_sessions: float = 0

    def open_row(self, exit_layer: int, num_places: int = NUM_PLACES) -> None:
        """Make room for an exit's counts; nothing if there is."""
        if exit_layer not in self.reached:
            self.reached[exit_layer] = [0] * num_places
            self.matched[exit_layer] = [0] * num_places

    def add(self, other: "PlaceTotals", weight: float = 1) -> None:
        """Add another's counts, times a weight; the exits become those of both."""
        for exit_layer in other.reached:
            self.open_row(exit_layer, len(other.reached[exit_layer]))
            for mine, theirs in (
                (self.reached[exit_layer], other.reached[exit_layer]),
                (self.matched[exit_layer], other.matched[exit_layer]),
            ):
                for index, count in enumerate(theirs):
                    mine[index] += weight * count
        self.num_positions += weight * other.num_positions
        self.num_sessions += weight * other.num_sessions

    def scaled(self, weight: float) -> "PlaceTotals":
        """Return the counts times a weight: older days count less."""
        scaled = PlaceTotals()
        scaled.add(self, weight)
        return scaled

    def copy(self) -> "PlaceTotals":
        """Return the same counts, with lists of their own."""
        return self.scaled(1)

    def without(self, earlier: "PlaceTotals") -> "PlaceTotals":
        """Return what came to these counts after an earlier copy of them."""
        later = self.copy()
        later.add(earlier, -1)
        return later

    @staticmethod
    def merged(parts: Iterable["PlaceTotals"]) -> "PlaceTotals":
        """Return the sum of many."""
        total = PlaceTotals()
        for each in parts:
            total.add(each)
        return total

    def to_pairs(self) -> dict[str, int]:
        """Return the counts that are not 0 as flat fields, to be stored by increments.

        `r:<E>:<j>`, `h:<E>:<j>` with j from 1, `pos`, `sessions`. Scaled counts are rounded.
        """
        pairs = {"pos": round(self.num_positions), "sessions": round(self.num_sessions)}
        for letter, rows in (("r", self.reached), ("h", self.matched)):
            for exit_layer, row in rows.items():
                for place, count in enumerate(row, 1):
                    pairs[f"{letter}:{exit_layer}:{place}"] = round(count)
        return {name: count for name, count in pairs.items() if count}

    @classmethod
    def from_pairs(cls, pairs: Mapping[str, int | str]) -> "PlaceTotals":
        """Return the counts of flat fields, in any order.

        Fields of other kinds and places beyond J are of later versions, and are left out.

        Raises:
            ValueError: a field is malformed or negative, or more matched than were reached.
        """
        totals = cls()
        for name, value in pairs.items():
            kind, _, rest = name.partition(":")
            if kind not in ("r", "h", "pos", "sessions"):
                continue
            count = _as_count(name, value)
            if name == "pos":
                totals.num_positions = count
            elif name == "sessions":
                totals.num_sessions = count
            else:
                totals._put(name, kind, rest, count)
        totals._check()
        return totals

    def _put(self, name: str, kind: str, rest: str, count: int) -> None:
        exit_layer, _, place = rest.partition(":")
        if not (exit_layer.isdecimal() and place.isdecimal() and int(place) > 0):
            raise ValueError(f"field {name!r} is not r:<exit>:<place> or h:<exit>:<place>")
        if int(place) <= NUM_PLACES:
            self.open_row(int(exit_layer))
            rows = self.reached if kind == "r" else self.matched
            rows[int(exit_layer)][int(place) - 1] = count

    def _check(self) -> None:
        for exit_layer, row in self.reached.items():
            for place, reached in enumerate(row, 1):
                matched = self.matched[exit_layer][place - 1]
                if matched > reached:
                    raise ValueError(
                        f"exit {exit_layer}, place {place}: {matched} matched of {reached} reached"
                    )


def _as_count(name: str, value: int | str) -> int:
    try:
        count = int(value)
    except ValueError:
        raise ValueError(f"field {name!r} holds {value!r}, not a whole number") from None
    if count < 0:
        raise ValueError(f"field {name!r} holds {count}; counts are never negative")
    return count


@dataclass(frozen=True, slots=True)
class Prior:
    """Rates by exit and place, and how many virtual rounds the belief in them weighs.

    rates: p[j] of places 1 .. J, each in [0.02, 0.98].
    weight: n0, at the start of a session; it fades from there on.
    is_known: whether anything was ever counted; else the rates are a guess.
    is_task: made of enough positions of the session's own task.
    """

    rates: Mapping[int, tuple[float, ...]]
    weight: float
    is_known: bool = True
    is_task: bool = False

    @classmethod
    def none(cls, exits: Iterable[int]) -> "Prior":
        """Return the belief of who knows nothing."""
        rates = {exit_layer: _guess() for exit_layer in exits}
        return cls(rates, NO_PRIOR_WEIGHT, is_known=False)

    @classmethod
    def from_totals(
        cls, totals: PlaceTotals, above: "Prior | None", *, is_task: bool = False
    ) -> "Prior":
        """Return the level below `above`: its rates, drawn to the counts.

        Where no level above knows an exit, a place is drawn from the one before it instead, at the
        weight of a guess; and few sessions then weigh less, as they tell little of the next one.

        Args:
            totals: of one level; of exits never read it says nothing.
            above: the next wider level.
            is_task: the totals are of one task.
        """
        is_above_known = above is not None and above.is_known
        rates = dict(above.rates) if above is not None else {}
        for exit_layer, reached in totals.reached.items():
            if any(reached):
                rates_above = rates.get(exit_layer) if is_above_known else None
                rates[exit_layer] = _drawn(rates_above, reached, totals.matched[exit_layer])
        is_known = is_above_known or any(map(any, totals.reached.values()))
        is_task = is_task and totals.num_positions >= MIN_TASK_POSITIONS
        if is_task:
            weight = TASK_WEIGHT
        elif is_above_known:
            weight = PRIOR_WEIGHT
        else:
            # Sessions differ by as much as n0 says, so the mean of k of them is worth this much.
            num_sessions = totals.num_sessions
            weight = max(NO_PRIOR_WEIGHT, PRIOR_WEIGHT * num_sessions / (num_sessions + 1.0))
        return cls(rates, weight, is_known, is_task)

    def rates_of(self, exit_layer: int) -> tuple[float, ...]:
        """Return p[1] .. p[J] of an exit; a guess if the prior does not hold it."""
        return self.rates.get(exit_layer) or _guess()

    def is_like(self, other: "Prior") -> bool:
        """Say whether another prior promises about the same of every exit and place."""
        if other is self:
            return True
        if other.rates.keys() != self.rates.keys():
            return False
        return abs(other.weight - self.weight) < ALIKE * self.weight and all(
            abs(mine - theirs) < ALIKE
            for exit_layer, rates in self.rates.items()
            for mine, theirs in zip(rates, other.rates[exit_layer], strict=True)
        )

    def weight_of(self, exit_layer: int) -> float:
        """Return n0 for an exit: that of a guess if the prior does not hold it."""
        return self.weight if exit_layer in self.rates else NO_PRIOR_WEIGHT


def _guess() -> tuple[float, ...]:
    return (NO_PRIOR_RATE,) * NUM_PLACES


def _drawn(
    above: tuple[float, ...] | None, reached: list[float], matched: list[float]
) -> tuple[float, ...]:
    weight = ABOVE_WEIGHT if above else NO_PRIOR_WEIGHT
    rate = NO_PRIOR_RATE
    rates = []
    for index, (num, num_matched) in enumerate(zip(reached, matched, strict=True)):
        guess = above[index] if above else rate
        rate = (weight * guess + num_matched) / (weight + num)
        rates.append(min(1.0 - LEAST_RATE, max(LEAST_RATE, rate)))
    return tuple(rates)
