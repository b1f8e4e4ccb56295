"""Survival: two shrinkings by hand, belief without counts, errors, longer drafts."""

from itertools import pairwise
from math import exp, log, sqrt

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.control.evidence.survival import Survival, estimate_survival


def logit(rate: float) -> float:
    return log(rate / (1 - rate))


def sigmoid(value: float) -> float:
    return 1 / (1 + exp(-value))


def test_without_counts_belief_comes_back() -> None:
    believed = (0.9, 0.8, 0.7)
    survival = estimate_survival([0.0] * 3, [0.0] * 3, believed, 32.0)
    assert survival.kept == pytest.approx((0.9, 0.9 * 0.8, 0.9 * 0.8 * 0.7))


def test_counts_shift_the_level_and_then_each_place() -> None:
    reached, matched, believed, n = [10.0, 6.0, 3.0], [6.0, 3.0, 2.0], (0.9, 0.8, 0.85), 4.0
    mean = (10 * 0.9 + 6 * 0.8 + 3 * 0.85) / 19
    delta = logit((n * mean + 11) / (n + 19)) - logit(mean)
    rates = [
        (12 * sigmoid(logit(p) + delta) + h) / (12 + r)
        for r, h, p in zip(reached, matched, believed, strict=True)
    ]
    known = [12 + r + (n + 19) / 4 for r in reached]
    kept = [rates[0], rates[0] * rates[1], rates[0] * rates[1] * rates[2]]
    parts = [(1 - rate) / (rate * eff) for rate, eff in zip(rates, known, strict=True)]
    errors = [s * sqrt(sum(parts[: j + 1])) for j, s in enumerate(kept)]
    survival = estimate_survival(reached, matched, believed, n)
    assert survival.kept == pytest.approx(kept)
    assert survival.errors == pytest.approx(errors)


def test_more_counts_of_the_same_leave_less_error() -> None:
    few = estimate_survival([8.0, 4.0], [4.0, 2.0], (0.5, 0.5), 4.0)
    many = estimate_survival([32.0, 16.0], [16.0, 8.0], (0.5, 0.5), 4.0)
    assert many.kept == pytest.approx(few.kept)
    assert all(b < a for a, b in zip(few.errors, many.errors, strict=True))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_longer_draft_never_survives_better(data: st.DataObject) -> None:
    num_places = data.draw(st.integers(1, 8))
    rows = st.lists(st.floats(0, 70), min_size=num_places, max_size=num_places)
    reached = data.draw(rows)
    shares = data.draw(st.lists(st.floats(0, 1), min_size=num_places, max_size=num_places))
    believed = data.draw(st.lists(st.floats(0.02, 0.98), min_size=num_places, max_size=num_places))
    matched = [r * share for r, share in zip(reached, shares, strict=True)]
    weight = data.draw(st.floats(4, 48))
    survival = estimate_survival(reached, matched, believed, weight).places(12)
    assert all(a >= b for a, b in pairwise((1.0, *survival.kept)))
    assert all(0 < s < 1 for s in survival.kept)
    assert all(0 <= e < float("inf") for e in survival.errors)


def test_behind_the_last_place_known_the_last_rate_goes_on() -> None:
    survival = Survival((0.8, 0.4), (0.08, 0.06)).places(4)
    assert survival.kept == pytest.approx((0.8, 0.4, 0.2, 0.1))
    step = 0.15**2 - 0.1**2
    assert survival.errors[2:] == pytest.approx(
        (0.2 * sqrt(0.15**2 + step), 0.1 * sqrt(0.15**2 + 2 * step))
    )


def test_fewer_places_are_the_first_ones() -> None:
    survival = Survival((0.8, 0.4), (0.08, 0.06))
    assert survival.places(1) == Survival((0.8,), (0.08,))
    assert survival.places(0) == Survival((), ())
    with pytest.raises(ValueError, match="negative"):
        survival.places(-1)


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="2 reached, 1 matched, 2 rates"):
        estimate_survival([1.0, 1.0], [1.0], (0.5, 0.5), 4.0)
