"""Takes the noise out of measured times: a line over the layers, through all exits. Pure.

The layers of a model are alike, so what a part takes is linear in how many of them it runs, while
each measurement has the machine's moods in it; the best of hundreds of settings would be the one
that was measured in the best mood. So times are moved onto the line of all of them:

    F(E)     = f + E * a                      closing step
    D(E)     = F(E) + h                       draft step; h is the head's median
    V(E, n)  = v_n - E * b_n                  verify pass, a line for each number of rows
    T_off    = V(0, 1)                        a plain step is a verify pass from layer 0 on

Lines are Theil-Sen's: slope and height are medians, which a third of wild points leaves alone
(Sen 1968, doi:10.1080/01621459.1968.10480934).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import median

from shared.speculation.cost_model import CostTable

# Through two points there is always a line: nothing would be told from it.
MIN_EXITS = 3

Point = tuple[int, float]


@dataclass(frozen=True, slots=True)
class Line:
    """A height in ns over layers; nowhere below the least that was measured."""

    at_zero: float
    slope: float
    floor: float

    def at(self, layer: int) -> float:
        """Return the height at a layer."""
        return max(self.at_zero + self.slope * layer, self.floor)


def fit_line(points: Sequence[Point]) -> Line:
    """Return the line of medians through points (layer, ns).

    Raises:
        ValueError: there are fewer than two different layers.
    """
    slopes = [(y1 - y0) / (x1 - x0) for (x0, y0), (x1, y1) in combinations(points, 2) if x1 != x0]
    if not slopes:
        raise ValueError("a line needs points at two layers")
    slope = median(slopes)
    return Line(median(y - slope * x for x, y in points), slope, min(y for _, y in points))


def smooth_costs(costs: CostTable) -> CostTable:
    """Return the table with all times on their lines; as it is where exits are too few."""
    exits = costs.exits
    if len(exits) < MIN_EXITS:
        return costs
    closing = fit_line([(e, costs.closing_step_ns[e]) for e in exits])
    head_ns = median(costs.head_ns(e) for e in exits)
    verify = {n: fit_line(_verify_points(costs, n)) for n in _row_counts(costs)}
    return replace(
        costs,
        closing_step_ns={e: closing.at(e) for e in exits},
        draft_step_ns={e: closing.at(e) + head_ns for e in exits},
        verify_ns={(e, n): verify[n].at(e) for e, n in costs.verify_ns},
        plain_step_ns=verify[1].at(0) if 1 in verify else costs.plain_step_ns,
    )


def _row_counts(costs: CostTable) -> set[int]:
    return {num_rows for _, num_rows in costs.verify_ns}


def _verify_points(costs: CostTable, num_rows: int) -> list[Point]:
    points = [(e, ns) for (e, n), ns in costs.verify_ns.items() if n == num_rows]
    return [*points, (0, costs.plain_step_ns)] if num_rows == 1 else points


def scatter(measured: CostTable, smoothed: CostTable) -> float:
    """Return how far measured times lie from the smoothed ones: the median share, 0 or more."""
    return median(abs(a / b - 1) for a, b in _pairs(measured, smoothed))


def _pairs(measured: CostTable, smoothed: CostTable) -> Iterator[tuple[float, float]]:
    yield measured.plain_step_ns, smoothed.plain_step_ns
    for exit_layer in measured.exits:
        yield measured.closing_step_ns[exit_layer], smoothed.closing_step_ns[exit_layer]
        yield measured.draft_step_ns[exit_layer], smoothed.draft_step_ns[exit_layer]
    for key, ns in measured.verify_ns.items():
        yield ns, smoothed.verify_ns[key]
