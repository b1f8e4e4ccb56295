"""Priors by the store's counts: their levels, and that each is worked out once."""

import pytest

from services.verify.known_priors import MAX_KNOWN, KnownPriors
from shared.control.store.prior_counts import PriorCounts, PriorKey

KEY = PriorKey("mk", "tenant", "task")


def counts(num_matched: int, num_reached: int = 4000) -> dict[str, int]:
    return {"pos": num_reached, "sessions": 9, "r:2:1": num_reached, "h:2:1": num_matched}


def first_rate(key: PriorKey, told: PriorCounts) -> float:
    prior = KnownPriors().prior_of(key, told)
    assert prior is not None
    return prior.rates_of(2)[0]


def test_each_level_is_drawn_towards_the_one_above() -> None:
    everyone = first_rate(KEY, PriorCounts(counts(800)))
    tenant = first_rate(KEY, PriorCounts(counts(800), counts(2000)))
    task = first_rate(KEY, PriorCounts(counts(800), counts(2000), counts(3200)))
    assert everyone == pytest.approx(0.2, abs=0.02)
    assert everyone < tenant < 0.5
    assert tenant < task < 0.8


def test_the_store_may_know_nothing() -> None:
    known = KnownPriors()
    assert known.prior_of(KEY, None) is None
    assert known.prior_of(KEY, PriorCounts()) is None


def test_counts_are_worked_out_once_until_they_are_read_anew() -> None:
    known, told = KnownPriors(), PriorCounts(counts(800))
    first = known.prior_of(KEY, told)
    assert known.prior_of(KEY, told) is first
    other = known.prior_of(KEY, PriorCounts(counts(2000)))
    assert other is not None
    assert other.rates_of(2)[0] > 0.4


def test_kinds_are_told_apart_and_the_oldest_is_forgotten() -> None:
    known, told = KnownPriors(), PriorCounts(counts(800))
    priors = [known.prior_of(PriorKey("mk", f"t{i}"), told) for i in range(MAX_KNOWN + 1)]
    assert known.prior_of(PriorKey("mk", f"t{MAX_KNOWN}"), told) is priors[-1]
    assert known.prior_of(PriorKey("mk", "t0"), told) is not priors[0]


def test_counts_that_are_none_are_refused_every_time() -> None:
    known, broken = KnownPriors(), PriorCounts({"pos": 9, "sessions": 1, "r:2:1": 1, "h:2:1": 5})
    for _ in range(2):
        with pytest.raises(ValueError, match=r"\S"):
            known.prior_of(KEY, broken)
