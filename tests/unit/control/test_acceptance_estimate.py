"""Chances of drafts: counts by place, censoring by caps and thresholds, pools and fading."""

from itertools import pairwise
from random import Random

import pytest

from shared.control.acceptance_estimate import (
    FIRST_KEPT,
    POOL_WEIGHT,
    AcceptanceEstimate,
    AcceptancePool,
    PlaceCounts,
)


def test_places_up_to_the_first_failure_are_counted() -> None:
    counts = PlaceCounts()
    counts.note(4, 2, 1.0)
    counts.note(4, 4, 1.0)
    counts.note(2, 0, 1.0)
    assert counts.reached(4) == [3.0, 2.0, 2.0, 1.0]
    assert counts.passed(4) == [2.0, 2.0, 1.0, 1.0]


def test_old_counts_fade() -> None:
    counts = PlaceCounts()
    counts.note(1, 1, 0.5)
    counts.note(1, 0, 0.5)
    counts.note(1, 1, 0.5)
    assert counts.reached(1) == [pytest.approx(1.75)]
    assert counts.passed(1) == [pytest.approx(1.25)]


def test_counts_stay_sound_after_very_many_rounds() -> None:
    counts = PlaceCounts()
    for _ in range(5000):
        counts.note(2, 1, 0.97)
    assert counts.reached(2)[0] == pytest.approx(1 / 0.03, rel=1e-6)
    assert counts.passed(2) == [pytest.approx(1 / 0.03, rel=1e-6), 0.0]


def test_before_any_round_the_first_guess_holds_at_all_places() -> None:
    estimate = AcceptanceEstimate(AcceptancePool())
    assert estimate.kept(3) == pytest.approx([FIRST_KEPT, FIRST_KEPT**2, FIRST_KEPT**3])


def test_a_pool_shrinks_each_place_to_the_one_before() -> None:
    pool = AcceptancePool()
    pool.note(1, 1, 1)
    first = (POOL_WEIGHT * FIRST_KEPT + 1) / (POOL_WEIGHT + 1)
    assert pool.kept_rates(3) == pytest.approx([first] * 3)


def draws(rate: float, cap: int, random: Random, stop_rate: float = 0.0) -> tuple[int, int]:
    made = 1
    while made < cap and random.random() >= stop_rate:
        made += 1
    kept = 0
    while kept < made and random.random() < rate:
        kept += 1
    return made, kept


@pytest.mark.parametrize("caps", [(4,), (1, 4), (1, 2, 3, 4)])
def test_mixed_caps_tell_the_same_as_long_ones(caps: tuple[int, ...]) -> None:
    random = Random(5)
    estimate = AcceptanceEstimate(AcceptancePool())
    means = [0.0] * 4
    for index in range(4000):
        cap = caps[index % len(caps)]
        estimate.note(cap, *draws(0.8, cap, random), 1)
        means = [mean + kept / 4000 for mean, kept in zip(means, estimate.kept(4), strict=True)]
    assert means == pytest.approx([0.8, 0.64, 0.512, 0.41], abs=0.05)


def test_drafts_that_stop_by_themselves_count_as_not_kept_behind_their_end() -> None:
    random = Random(7)
    estimate = AcceptanceEstimate(AcceptancePool())
    kept, made = [0.0] * 3, [0.0] * 3
    for _ in range(4000):
        estimate.note(3, *draws(0.9, 3, random, stop_rate=0.5), 1)
        kept = [a + b / 4000 for a, b in zip(kept, estimate.kept(3), strict=True)]
        made = [a + b / 4000 for a, b in zip(made, estimate.made(3), strict=True)]
    assert kept == pytest.approx([0.9, 0.9 * 0.45, 0.9 * 0.45**2], abs=0.05)
    assert made == pytest.approx([1.0, 0.5, 0.25], abs=0.05)


def test_a_session_that_differs_from_the_pool_is_told_from_it() -> None:
    pool = AcceptancePool()
    for _ in range(500):
        pool.note(4, 4, 4)
    bad, new = AcceptanceEstimate(pool), AcceptanceEstimate(pool)
    for _ in range(30):
        bad.note(4, 4, 0, 1)
    assert bad.kept(1)[0] < 0.3
    assert new.kept(1)[0] > 0.85


def test_a_session_s_level_moves_places_that_it_never_reached() -> None:
    pool = AcceptancePool()
    random = Random(9)
    for _ in range(500):
        pool.note(4, *draws(0.6, 4, random))
    good = AcceptanceEstimate(pool)
    before = good.kept(4)
    for _ in range(30):
        good.note(1, 1, 1, 1)
    after = good.kept(4)
    assert after[3] / after[2] > before[3] / before[2] + 0.05


def test_chances_never_rise_with_the_place() -> None:
    random = Random(11)
    estimate = AcceptanceEstimate(AcceptancePool())
    for _ in range(300):
        estimate.note(6, *draws(0.7, 6, random), random.randint(1, 50))
        kept = estimate.kept(8)
        assert all(0.0 < b <= a < 1.0 for a, b in pairwise(kept))


def test_what_a_session_showed_fades_while_it_does_not_draft() -> None:
    pool = AcceptancePool()
    for _ in range(500):
        pool.note(2, 2, 2)
    estimate = AcceptanceEstimate(pool)
    for _ in range(30):
        estimate.note(2, 2, 0, 1)
    assert estimate.kept(1)[0] < estimate.kept(1, 500)[0] < estimate.kept(1, 5000)[0]
