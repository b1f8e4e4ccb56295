"""What branches bring: by hand, in real tree rounds, and never where a chain is faster."""

from collections.abc import Callable
from statistics import fmean

import pytest

from shared.speculation.tree_costs import (
    Branches,
    BranchForecast,
    BranchOdds,
    UnsureShares,
    best_branches,
    forecast,
    forecasts,
)
from shared.speculation.vocabulary import LAYERSKIP, Decision, TreeBudget
from tests.unit.tree_world import TreeWorld

ALWAYS = UnsureShares(1.0, 1.0, 1.0, 1.0)
UNSURE = UnsureShares(0.8, 0.3, 0.2, 0.9)


def independent(acceptance: float, length: int) -> list[float]:
    return [acceptance**power for power in range(1, length + 1)]


def test_siblings_of_the_first_choice_bring_what_it_lacks() -> None:
    odds = BranchOdds((0.5, 0.75), (ALWAYS,))
    assert tuple(forecast(odds, [0.6, 0.3], Branches(1, 1, 1.0))) == pytest.approx((0.4 * 0.5, 1.0))
    assert tuple(forecast(odds, [0.6, 0.3], Branches(2, 1, 1.0))) == pytest.approx(
        (0.4 * 0.75, 1.0)
    )
    # Room for two: siblings of the second choice, which was unsure as well, and none to go on.
    tokens = 0.5 * (0.4 + 0.3)
    assert forecast(odds, [0.6, 0.3], Branches(1, 2, 1.0)).num_tokens == pytest.approx(tokens)
    assert forecast(odds, [0.6], Branches(1, 2, 1.0)).num_tokens == pytest.approx(0.4 * 0.5)


def test_siblings_stand_behind_unsure_choices_alone() -> None:
    odds = BranchOdds((0.5,), (UNSURE,))
    found = forecast(odds, [0.6, 0.3], Branches(1, 1, 0.8))
    tokens = 0.5 * 0.9 * (0.4 + 0.3 * 0.8)
    assert tuple(found) == pytest.approx((tokens, 1 - 0.7**2))
    # Nothing is known of another threshold.
    assert forecast(odds, [0.6, 0.3], Branches(1, 1, 0.7)) == BranchForecast(0.0, 1.0)


@pytest.mark.parametrize(
    "branches",
    [Branches(1, 1, 0.8), Branches(2, 2, 0.8), Branches(1, 4, 0.8), Branches(1, 4, 1.0)],
)
def test_real_tree_rounds_do_what_is_forecast(branches: Branches) -> None:
    depth, rate, hits = 6, 0.8, (0.5, 0.75)
    of_all = rate * UNSURE.of_kept + (1 - rate) * UNSURE.of_refused
    odds = BranchOdds(hits, (UNSURE._replace(of_all=of_all), ALWAYS))
    expected = forecast(odds, independent(rate, depth), branches)
    world = TreeWorld(rate, (UNSURE.of_kept, UNSURE.of_refused), hits)
    decision = Decision(LAYERSKIP, 2, depth, tree=branches.budget(depth))
    rounds = [world.play(decision) for _ in range(2500)]
    gains = [each.tree.num_gained if each.tree else 0 for each in rounds]
    nodes = [len(each.draft.draft_tokens) - depth for each in rounds]
    assert fmean(gains) == pytest.approx(expected.num_tokens, rel=0.12)
    assert fmean(each > 0 for each in nodes) == pytest.approx(expected.branch_rate, rel=0.05)
    assert max(nodes) == branches.num_nodes


def time_of(row_ns: float) -> Callable[[int], float]:
    return lambda num_nodes: 100.0 + row_ns * num_nodes


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.9, 1.0])
def test_siblings_that_are_never_hit_are_not_asked_for(acceptance: float) -> None:
    ways = forecasts(BranchOdds((0.0, 0.0), (UNSURE,)), independent(acceptance, 7), 9)
    best, rate = best_branches(ways, 3.0, time_of(0.0))
    assert best is None
    assert rate == pytest.approx(0.03)


def test_free_rows_that_hit_are_all_taken() -> None:
    ways = list(forecasts(BranchOdds((0.5, 0.6, 0.7), (UNSURE, ALWAYS)), [0.5, 0.25], 6))
    best, rate = best_branches(ways, 1.75, time_of(0.0))
    assert rate == pytest.approx(max(1.75 + each.num_tokens for _, each in ways) / 100.0)
    assert best is not None
    assert best[:2] == (3, 2)
    assert best.budget(2) == TreeBudget(8, 4, best.threshold)


def test_what_is_chosen_falls_with_the_price_of_a_row() -> None:
    odds, survival = BranchOdds((0.5, 0.6), (UNSURE, ALWAYS)), independent(0.8, 6)
    num_tokens = 1.0 + sum(survival)
    nodes = []
    for row_ns in (0.0, 1.0, 4.0, 40.0):
        best, rate = best_branches(forecasts(odds, survival, 8), num_tokens, time_of(row_ns))
        nodes.append(best.num_nodes if best else 0)
        assert rate >= num_tokens / 100.0
    assert nodes == sorted(nodes, reverse=True)
    assert nodes[0] > nodes[-1] == 0


def test_no_more_nodes_are_sought_than_there_is_room_for() -> None:
    odds = BranchOdds((0.5, 0.6, 0.7), (ALWAYS,))
    for room in range(-1, 6):
        ways = [branches for branches, _ in forecasts(odds, [0.5], room)]
        assert all(branches.num_nodes <= room for branches in ways)
        assert bool(ways) == (room > 0)


@pytest.mark.parametrize(
    ("hits", "unsure"),
    [
        ((0.6, 0.5), ()),
        ((2.0,), ()),
        ((0.5,), (UNSURE._replace(of_kept=1.1),)),
        ((0.5,), (UNSURE._replace(of_refused=-0.1),)),
    ],
)
def test_odds_that_cannot_be_are_refused(
    hits: tuple[float, ...], unsure: tuple[UnsureShares, ...]
) -> None:
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        BranchOdds(hits, unsure)
