"""The grid of the golden tests leaves no pair out, and is small."""

from itertools import combinations, product

import pytest

from tests.golden.pairwise import pairwise


@pytest.mark.parametrize(
    ("sizes", "max_cases"),
    [((2, 3), 6), ((2, 3, 3, 2), 9), ((2, 2, 2, 2, 2, 2), 8), ((7, 8, 7, 3, 3, 2), 56)],
    ids=str,
)
def test_every_pair_of_values_meets(sizes: tuple[int, ...], max_cases: int) -> None:
    axes = [[f"{axis}-{value}" for value in range(size)] for axis, size in enumerate(sizes)]
    cases = pairwise(*axes)
    met = {frozenset(pair) for case in cases for pair in combinations(case, 2)}
    wanted = {
        frozenset(pair) for one, other in combinations(axes, 2) for pair in product(one, other)
    }
    assert met == wanted
    assert len(cases) <= max_cases
    assert cases == pairwise(*axes)
