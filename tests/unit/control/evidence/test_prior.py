"""Totals that add up in any order, flat fields, and levels of belief."""

from random import Random

import pytest

from shared.control.evidence.prior import NO_PRIOR_RATE, PlaceTotals, Prior


def totals_of(
    reached: dict[int, list[float]],
    matched: dict[int, list[float]],
    num_positions: int = 100,
    num_sessions: int = 1,
) -> PlaceTotals:
    rows = [
        {e: row + [0] * (8 - len(row)) for e, row in each.items()} for each in (reached, matched)
    ]
    return PlaceTotals(rows[0], rows[1], num_positions, num_sessions)


def random_totals(random: Random) -> PlaceTotals:
    totals = PlaceTotals(num_positions=random.randrange(999), num_sessions=random.randrange(9))
    for exit_layer in random.sample(range(40), random.randrange(4)):
        totals.open_row(exit_layer)
        for index in range(8):
            reached = random.randrange(50)
            totals.reached[exit_layer][index] = reached
            totals.matched[exit_layer][index] = random.randint(0, reached)
    return totals


@pytest.mark.parametrize("seed", range(10))
def test_totals_add_up_in_any_order(seed: int) -> None:
    random = Random(seed)
    parts = [random_totals(random) for _ in range(4)]
    assert PlaceTotals.merged(parts).to_pairs() == PlaceTotals.merged(parts[::-1]).to_pairs()


@pytest.mark.parametrize("seed", range(10))
def test_what_came_later_is_the_difference(seed: int) -> None:
    random = Random(seed)
    earlier, more = random_totals(random), random_totals(random)
    both = PlaceTotals.merged([earlier, more])
    assert both.without(earlier).to_pairs() == more.to_pairs()


@pytest.mark.parametrize("seed", range(10))
def test_flat_fields_come_back(seed: int) -> None:
    pairs = random_totals(Random(seed)).to_pairs()
    assert 0 not in pairs.values()
    assert PlaceTotals.from_pairs(pairs).to_pairs() == pairs
    as_text = {name: str(count) for name, count in reversed(list(pairs.items()))}
    assert PlaceTotals.from_pairs(as_text).to_pairs() == pairs


def test_priors_are_alike_that_promise_about_the_same() -> None:
    prior = Prior({2: (0.5, 0.4), 4: (0.8, 0.7)}, 30.0)
    assert prior.is_like(Prior({4: (0.81, 0.69), 2: (0.49, 0.41)}, 30.2))
    for other in (
        Prior({2: (0.5, 0.4), 4: (0.8, 0.75)}, 30.0),
        Prior({2: (0.5, 0.4)}, 30.0),
        Prior({2: (0.5, 0.4), 3: (0.8, 0.7)}, 30.0),
        Prior(prior.rates, 48.0),
    ):
        assert not prior.is_like(other)
        assert not other.is_like(prior)


def test_flat_fields_have_names_that_increments_can_add() -> None:
    totals = totals_of({4: [9, 7]}, {4: [7, 0]}, num_positions=9)
    assert totals.to_pairs() == {"pos": 9, "sessions": 1, "r:4:1": 9, "r:4:2": 7, "h:4:1": 7}


def test_copies_do_not_share_counts() -> None:
    totals = totals_of({4: [9]}, {4: [7]})
    copy = totals.copy()
    totals.add(totals_of({4: [1]}, {4: [1]}))
    assert copy.reached[4][0] == 9
    assert totals.reached[4][0] == 10


def test_older_days_weigh_less() -> None:
    scaled = totals_of({4: [10]}, {4: [5]}).scaled(0.7)
    assert scaled.reached[4][0] == pytest.approx(7.0)
    assert scaled.num_positions == pytest.approx(70.0)


def test_fields_of_later_versions_are_left_out() -> None:
    pairs = {"r:4:1": 2, "h:4:1": 1, "r:4:9": 5, "x:4:1": 7, "when": 8}
    assert PlaceTotals.from_pairs(pairs).to_pairs() == {"r:4:1": 2, "h:4:1": 1}


@pytest.mark.parametrize(
    ("pairs", "fault"),
    [
        ({"r:4": 1}, "r:4"),
        ({"r:4:0": 1}, "r:4:0"),
        ({"h:x:1": 1}, "h:x:1"),
        ({"pos": -1}, "never negative"),
        ({"r:4:1": "many"}, "not a whole number"),
        ({"r:4:1": 1, "h:4:1": 2}, "2 matched of 1 reached"),
    ],
)
def test_malformed_fields_are_refused(pairs: dict[str, int | str], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        PlaceTotals.from_pairs(pairs)


def test_who_knows_nothing_guesses_at_little_weight() -> None:
    prior = Prior.none([2, 4])
    assert prior.rates_of(4) == (NO_PRIOR_RATE,) * 8
    assert (prior.weight_of(4), prior.is_known, prior.is_task) == (8.0, False, False)


def test_a_level_is_drawn_from_the_one_above_by_its_counts() -> None:
    above = Prior({4: (0.9,) * 8}, 32.0)
    prior = Prior.from_totals(totals_of({4: [100, 50]}, {4: [60, 10]}), above)
    assert prior.rates_of(4)[:3] == pytest.approx(
        ((200 * 0.9 + 60) / 300, (200 * 0.9 + 10) / 250, 0.9)
    )
    assert (prior.weight, prior.is_known, prior.is_task) == (32.0, True, False)


def test_levels_stack_up() -> None:
    shipped = Prior({4: (0.9,) * 8}, 32.0)
    everyone = Prior.from_totals(totals_of({4: [200]}, {4: [100]}), shipped)
    task = Prior.from_totals(totals_of({4: [600]}, {4: [60]}, 5000), everyone, is_task=True)
    assert everyone.rates_of(4)[0] == pytest.approx(0.7)
    assert task.rates_of(4)[0] == pytest.approx((200 * 0.7 + 60) / 800)


@pytest.mark.parametrize(("num_positions", "weight"), [(1999, 32.0), (2000, 48.0)])
def test_a_task_weighs_more_once_it_is_known_well(num_positions: int, weight: float) -> None:
    totals = totals_of({4: [9]}, {4: [5]}, num_positions)
    above = Prior({4: (0.9,) * 8}, 32.0)
    prior = Prior.from_totals(totals, above, is_task=True)
    assert (prior.weight, prior.is_task) == (weight, weight == 48.0)
    assert Prior.from_totals(totals, above).weight == 32.0


def test_rates_are_never_certain() -> None:
    above = Prior({2: (0.98,) * 8, 4: (0.02,) * 8}, 32.0)
    totals = totals_of({2: [10**6], 4: [10**6]}, {2: [10**6], 4: [0]})
    prior = Prior.from_totals(totals, above)
    assert (prior.rates_of(2)[0], prior.rates_of(4)[0]) == (0.98, 0.02)


def test_counts_without_a_level_above_are_believed_almost_as_they_are() -> None:
    prior = Prior.from_totals(totals_of({4: [992]}, {4: [896]}), None)
    first = (8 * NO_PRIOR_RATE + 896) / 1000
    assert prior.rates_of(4) == pytest.approx((first,) * 8, abs=0.002)
    assert prior.is_known


@pytest.mark.parametrize(("num_sessions", "weight"), [(1, 16.0), (3, 24.0), (31, 31.0)])
def test_few_sessions_tell_little_of_the_next(num_sessions: int, weight: float) -> None:
    totals = totals_of({4: [9]}, {4: [5]}, 10_000, num_sessions)
    assert Prior.from_totals(totals, None).weight == weight


def test_no_counts_and_no_level_above_are_no_prior() -> None:
    prior = Prior.from_totals(totals_of({4: [0]}, {4: [0]}, 0, 0), Prior.none([4]))
    assert (prior.weight, prior.is_known) == (8.0, False)


def test_an_exit_that_a_prior_does_not_hold_is_guessed() -> None:
    prior = Prior.from_totals(totals_of({4: [9], 6: [0]}, {4: [5], 6: [0]}, 9999, 99), None)
    assert prior.rates_of(6) == (NO_PRIOR_RATE,) * 8
    assert prior.weight_of(6) == 8.0 < prior.weight_of(4)
