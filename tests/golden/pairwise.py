"""Cases of a grid such that any two values of different axes meet in one of them.

A slip that takes one value of one axis, or two of two, shows in such a grid as surely as in the
product of all axes, which has many times the cases.
"""

from collections.abc import Hashable, Sequence
from itertools import combinations, product
from typing import Any

# An axis and the index of a value on it, twice.
Pair = tuple[tuple[int, int], tuple[int, int]]


def pairwise(*axes: Sequence[Hashable]) -> list[tuple[Any, ...]]:
    """Return cases in which all pairs of values of different axes occur; the same ones every time.

    Greedy: each case begins with a pair that is still to be met, and takes on every other axis the
    value that meets most of them.

    axes: two at least.
    """
    assert len(axes) > 1, "one axis has no pairs"
    missing: dict[Pair, None] = {
        ((one, i), (other, j)): None
        for one, other in combinations(range(len(axes)), 2)
        for i, j in product(range(len(axes[one])), range(len(axes[other])))
    }
    cases = []
    while missing:
        case = dict(next(iter(missing)))
        for axis in range(len(axes)):
            if axis not in case:
                case[axis] = _best_value(axis, len(axes[axis]), case, missing, len(cases))
        for pair in combinations(sorted(case.items()), 2):
            missing.pop(pair, None)
        cases.append(tuple(axes[axis][index] for axis, index in sorted(case.items())))
    return cases


def _best_value(
    axis: int, num_values: int, case: dict[int, int], missing: dict[Pair, None], turn: int
) -> int:
    """Return the index that meets most missing pairs; among equals, cases take turns."""

    def num_met(index: int) -> int:
        mine = (axis, index)
        return sum((min(mine, each), max(mine, each)) in missing for each in case.items())

    return max(
        range(num_values), key=lambda index: (num_met(index), -((index - turn) % num_values))
    )
