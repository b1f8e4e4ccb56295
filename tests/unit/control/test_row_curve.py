"""Times over rows: what is read between, below and beyond measured knots; noise and order."""

from itertools import pairwise
from math import log
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.control.row_curve import KNOTS, MEMORY_BOUND_ROWS, RowCurve


def taught(times: dict[int, float], num_times: int = 40) -> RowCurve:
    """Return a curve that saw exact times at these rows, many times each."""
    curve = RowCurve()
    for _ in range(num_times):
        for rows, time in times.items():
            if curve.is_known:
                curve.correct([(rows, 1.0)], log(time / curve.at(rows)))
            else:
                curve.start([(rows, 1.0)], time)
    return curve


def test_nothing_is_known_at_first() -> None:
    curve = RowCurve()
    assert not curve.is_known
    assert curve.at(4) == 0.0


def test_one_measurement_is_read_as_if_some_rows_of_it_were_fixed() -> None:
    curve = taught({4: 24.0}, 1)
    unit = 24.0 / (4 + MEMORY_BOUND_ROWS)
    assert curve.at(4) == pytest.approx(24.0)
    assert curve.at(1) == pytest.approx(unit * (1 + MEMORY_BOUND_ROWS))
    assert curve.at(12) == pytest.approx(unit * (12 + MEMORY_BOUND_ROWS))


def test_between_knots_times_are_linear() -> None:
    curve = taught({8: 10.0, 12: 20.0})
    low, high = curve.at(8), curve.at(12)
    assert (low, high) == (pytest.approx(10.0, rel=0.02), pytest.approx(20.0, rel=0.02))
    assert curve.at(10) == pytest.approx((low + high) / 2)
    assert curve.at(11) == pytest.approx((low + 3 * high) / 4)


def test_beyond_the_last_knot_the_slope_of_the_upper_half_goes_on() -> None:
    curve = taught({1: 15.0, 8: 20.0, 16: 36.0})
    assert curve.at(24) == pytest.approx(52.0, rel=1e-2)
    assert curve.at(2 * KNOTS[-1]) > curve.at(KNOTS[-1])


def test_times_never_fall_with_rows_whatever_was_measured() -> None:
    curve = taught({1: 20.0, 2: 10.0, 4: 30.0, 8: 25.0})
    times = [curve.at(rows) for rows in range(1, 20)]
    assert times == sorted(times)
    assert 10.0 < curve.at(1) < 20.0


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 600), st.floats(0.1, 1e9)), min_size=1, max_size=30))
def test_any_measurements_leave_a_monotone_positive_curve(
    measurements: list[tuple[int, float]],
) -> None:
    curve = RowCurve()
    for rows, time in measurements:
        if curve.is_known:
            curve.correct([(rows, 1.0)], log(time / curve.at(rows)))
        else:
            curve.start([(rows, 1.0)], time)
    times = [curve.at(rows) for rows in (1, 1.5, 2, 3, 7, 8, 20, 33, 100, 500, 700)]
    assert all(time > 0 for time in times)
    assert all(b >= a * (1 - 1e-9) for a, b in pairwise(times))


def test_noise_is_averaged_out() -> None:
    random = Random(1)
    curve = taught({4: 10.0}, 1)
    for _ in range(1000):
        found = 10.0 * random.lognormvariate(0.0, 0.3)
        curve.correct([(4, 1.0)], log(found / curve.at(4)))
    assert curve.at(4) == pytest.approx(10.0, rel=0.08)


def test_a_sum_of_readings_teaches_all_of_them() -> None:
    curve = taught({2: 10.0, 16: 40.0})
    for _ in range(2000):
        read = 0.2 * curve.at(2) + 0.8 * curve.at(16)
        curve.correct([(2, 0.2), (16, 0.8)], log(68.0 / read))
    assert 0.2 * curve.at(2) + 0.8 * curve.at(16) == pytest.approx(68.0, rel=0.01)
    assert curve.num_measured(16) > 1000
