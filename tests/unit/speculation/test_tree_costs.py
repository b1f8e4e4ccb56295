"""When a tree pays: closed forms by hand, and never where a chain is expected to be faster."""

import itertools
import random
from dataclasses import replace

import pytest

from shared.speculation.cost_model import CostTable, best_setting, predicted_speedup
from shared.speculation.tree_costs import (
    OFF_PLAN,
    BranchOdds,
    TreePlan,
    best_tree,
    expected_tree_tokens,
    tree_round_ns,
)
from shared.speculation.vocabulary import TreeBudget

# Verification is flat up to eight rows, and rises by 10 a row from there on.
COSTS = CostTable(
    draft_step_ns={2: 30.0},
    closing_step_ns={2: 20.0},
    verify_ns={(2, 1): 100.0, (2, 8): 100.0, (2, 16): 180.0},
    plain_step_ns=120.0,
    hand_over_ns=5.0,
)


def independent(acceptance: float, length: int) -> tuple[float, ...]:
    return tuple(acceptance**power for power in range(1, length + 1))


def test_tokens_of_a_tree_follow_the_sum() -> None:
    odds = BranchOdds((0.6, 0.3), (0.5, 0.75))
    assert expected_tree_tokens(odds, (0, 0)) == pytest.approx(1.9)
    assert expected_tree_tokens(odds, (1, 0)) == pytest.approx(1.9 + 0.4 * 0.5)
    assert expected_tree_tokens(odds, (2, 1)) == pytest.approx(1.9 + 0.4 * 0.75 + 0.3 * 0.5)
    assert expected_tree_tokens(odds, (9, 0)) == pytest.approx(1.9 + 0.4 * 0.75)


def test_siblings_cost_their_rows() -> None:
    assert tree_round_ns(COSTS, 2, 3, 0, 4.0) == 3 * 30 + 20 + 100 + 5
    assert tree_round_ns(COSTS, 2, 3, 4, 4.0) == 3 * 30 + 20 + 100 + 5 + 4 * 4
    assert tree_round_ns(COSTS, 2, 3, 8, 4.0) == 3 * 30 + 20 + 140 + 5 + 8 * 4


@pytest.mark.parametrize("acceptance", [0.0, 0.3, 0.6, 0.9, 1.0])
def test_with_siblings_that_are_never_hit_the_plan_is_the_best_chain(acceptance: float) -> None:
    odds = BranchOdds(independent(acceptance, 7), (0.0, 0.0))
    chain = best_setting(COSTS, {2: acceptance}, 7)
    plan = best_tree(COSTS, 2, odds, 15, extra_row_ns=0.0)
    assert (plan.depth, plan.budget) == (chain.draft_len, None)
    assert plan.predicted_speedup == pytest.approx(chain.predicted_speedup)


def test_free_rows_that_hit_are_taken_while_they_are_free() -> None:
    odds = BranchOdds((0.5,), (0.5, 0.75, 0.875))
    plan = best_tree(COSTS, 2, odds, 15, extra_row_ns=0.0)
    assert plan == TreePlan(1, (3,), pytest.approx((1.5 + 0.5 * 0.875) * 120 / 155))
    assert plan.budget == TreeBudget(4, 4)


def test_siblings_stand_where_drafts_are_refused() -> None:
    odds = BranchOdds((0.95, 0.4, 0.39), (0.6,))
    plan = best_tree(COSTS, 2, odds, 3, extra_row_ns=1.0)
    assert plan.siblings == (0, 1)


def test_no_plan_is_better_than_the_one_returned() -> None:
    draw = random.Random(5)
    num_trees = 0
    for _ in range(40):
        survival = tuple(sorted((draw.random() for _ in range(3)), reverse=True))
        # Each further sibling is hit less than the one before it.
        hits = (draw.uniform(0, 0.5), draw.uniform(0.5, 0.6))
        hits = hits if hits[1] <= 2 * hits[0] else (hits[0], 2 * hits[0])
        odds, row_ns = BranchOdds(survival, hits), draw.choice((0.0, 3.0, 30.0))
        plan = best_tree(COSTS, 2, odds, 8, row_ns)
        best = OFF_PLAN.predicted_speedup
        for depth in range(1, 4):
            for siblings in itertools.product(range(3), repeat=depth):
                if depth + sum(siblings) <= 8:
                    ns = tree_round_ns(COSTS, 2, depth, sum(siblings), row_ns)
                    best = max(best, expected_tree_tokens(odds, siblings) * 120.0 / ns)
        assert plan.predicted_speedup == pytest.approx(best)
        num_trees += plan.budget is not None
    assert 0 < num_trees < 40


def test_where_rows_cost_more_than_they_bring_it_is_a_chain() -> None:
    odds = BranchOdds(independent(0.7, 5), (0.3, 0.4))
    steep = replace(COSTS, verify_ns={(2, 1): 100.0, (2, 2): 160.0})
    plan = best_tree(steep, 2, odds, 15, extra_row_ns=60.0)
    assert plan.budget is None
    speedups = [predicted_speedup(steep, 2, k, 0.7) for k in range(1, 6)]
    assert plan.predicted_speedup == pytest.approx(max(1.0, *speedups))


@pytest.mark.parametrize(
    "odds", [((0.5, 0.6), ()), ((1.2,), ()), ((0.5,), (0.6, 0.5)), ((), (2.0,))]
)
def test_odds_that_cannot_be_are_refused(
    odds: tuple[tuple[float, ...], tuple[float, ...]],
) -> None:
    with pytest.raises(ValueError, match=r"within \[0, 1\]"):
        BranchOdds(*odds)
