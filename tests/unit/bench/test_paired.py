"""Medians of pairs, their intervals, and what these say of a bound."""

from random import Random

import pytest

from shortstack.bench.paired import Finding, Interval, judge_bound, paired_interval


def test_the_interval_holds_the_median_and_narrows_with_more_pairs() -> None:
    draw = Random(1)
    few = paired_interval([draw.gauss(5, 1) for _ in range(10)])
    many = paired_interval([draw.gauss(5, 1) for _ in range(1000)])
    for found in (few, many):
        assert found.low <= found.median <= found.high
        assert found.low < 5 < found.high
    assert many.width < few.width / 3


def test_equal_pairs_leave_no_doubt_and_equal_seeds_no_chance() -> None:
    assert paired_interval([2.0, 2.0, 2.0]) == Interval(2.0, 2.0, 2.0)
    assert paired_interval([7.0]) == Interval(7.0, 7.0, 7.0)
    values = [1.0, 2.0, 5.0, 9.0]
    assert paired_interval(values, seed=3) == paired_interval(values, seed=3)


@pytest.mark.parametrize(
    ("low", "median", "high", "finding"),
    [
        (0.1, 0.5, 0.9, Finding.MET),
        (0.9, 0.95, 1.2, Finding.MET),
        (0.9, 1.05, 1.2, Finding.MISSED),
        (0.1, 0.5, 1.5, Finding.NOT_RESOLVED),
        # Wide, but all of it beyond the bound.
        (1.1, 5.0, 9.0, Finding.MISSED),
    ],
)
def test_an_interval_wider_than_wished_says_nothing_unless_it_lies_beyond_the_bound(
    low: float, median: float, high: float, finding: Finding
) -> None:
    assert judge_bound(Interval(low, median, high), 1.0, 1.0) is finding
