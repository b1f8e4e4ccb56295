"""Distributions: every value in one bucket, and exemplars where a trace was active."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.telemetry.distribution import Distribution

BOUNDS = (0.1, 1.0, 10.0)


def counts_of(distribution: Distribution) -> dict[str, float]:
    return {bucket[0]: bucket[1] for bucket in distribution.buckets()}


def test_a_bound_belongs_to_its_own_bucket() -> None:
    distribution = Distribution(BOUNDS)
    for value in (0.1, 0.1000001, 1.0, 11.0):
        distribution.observe(value)
    assert counts_of(distribution) == {"0.1": 1, "1.0": 3, "10.0": 3, "+Inf": 4}


def test_a_value_may_have_been_seen_several_times() -> None:
    distribution = Distribution(BOUNDS)
    distribution.observe(2.0, 3)
    distribution.observe(0.05, 0)
    assert (distribution.count, distribution.total) == (3, 6.0)


@given(st.lists(st.floats(0, 100)))
def test_buckets_hold_all_values_at_or_below_their_bounds(values: list[float]) -> None:
    distribution = Distribution(BOUNDS)
    for value in values:
        distribution.observe(value)
    expected = [sum(value <= bound for value in values) for bound in BOUNDS]
    assert list(counts_of(distribution).values()) == [*expected, len(values)]
    assert distribution.total == pytest.approx(sum(values))


def test_the_last_traced_value_of_a_bucket_is_its_exemplar() -> None:
    distribution = Distribution(BOUNDS)
    distribution.observe(0.2, trace_id="a" * 32)
    distribution.observe(0.3, trace_id="b" * 32)
    distribution.observe(0.4)
    exemplars = {bucket[0]: bucket[2] for bucket in distribution.buckets() if len(bucket) == 3}
    assert list(exemplars) == ["1.0"]
    assert exemplars["1.0"].labels == {"trace_id": "b" * 32}
    assert exemplars["1.0"].value == 0.3
