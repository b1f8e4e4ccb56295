"""The bandits that the evaluator compares with."""

from dataclasses import replace
from math import log, sqrt

import pytest

from shared.control.policies.base import PolicyContext
from shared.control.policies.ucb import Ucb, published_radius, tuned_radius
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision
from tests.unit.control.policies.samples import CONTEXT, DEFAULT, NOTHING


def cost_ns(exit_layer: int, draft_len: int) -> float:
    return 100.0 if draft_len == 0 else 110.0 + 2.0 * exit_layer * draft_len


WITH_COSTS = replace(CONTEXT, exits=(4, 8), cost_ns=cost_ns)


def play(policy: Ucb, num_accepted: dict[int, int]) -> Decision:
    """Play a round in which an exit's first so many drafts are kept."""
    decision = policy.wish(DEFAULT)
    num_drafted = 0 if decision.is_off else decision.max_draft_len
    kept = min(num_drafted, num_accepted.get(decision.exit_layer, 0))
    policy.note(decision, num_drafted, kept, NOTHING)
    return decision


def test_every_arm_is_played_once_first() -> None:
    policy = Ucb(WITH_COSTS)
    played = [play(policy, {}) for _ in range(8)]
    arms = [(each.exit_layer, each.max_draft_len) for each in played]
    assert arms == [(0, 0), (4, 2), (4, 4), (4, 6), (0, 0), (8, 2), (8, 4), (8, 6)]


def test_the_arm_that_delivers_most_is_played_most() -> None:
    policy = Ucb(WITH_COSTS)
    played = [play(policy, {4: 2, 8: 6}) for _ in range(300)]
    best = Decision(LAYERSKIP, 8, 6, 0.0, "policy")
    # 7 tokens for 206 ns, then 5 for 174 ns, 3 for 126 ns at exit 4.
    assert played[150:].count(best) > 100
    assert played.count(Decision(LAYERSKIP, 4, 6, 0.0, "policy")) < 20


def test_the_published_radius_explores_far_longer() -> None:
    policy = Ucb(WITH_COSTS, "ucb_published", published_radius)
    played = [play(policy, {4: 2, 8: 6}) for _ in range(300)]
    assert played.count(Decision(LAYERSKIP, 4, 6, 0.0, "policy")) > 20


def test_the_radii_are_those_of_their_formulas() -> None:
    assert tuned_radius(9, 4, 16) == pytest.approx(0.3 * sqrt(2 * log(10) / 4))
    inside = 5 / 16 * (1 + 2 * log(16 * 81 * sqrt(5) / 0.1))
    assert published_radius(9, 4, 16) == pytest.approx(3 * sqrt(inside))


@pytest.mark.parametrize(
    ("decision", "num_drafted"),
    [
        (Decision(LAYERSKIP, 4, 1, 0.0, "shorter"), 1),
        (replace(PLAIN_DECISION, reason="shed"), 0),
        (Decision(LAYERSKIP, 4, 2, 0.0, "policy"), 0),
    ],
    ids=["shortened", "shed", "lost"],
)
def test_rounds_that_were_changed_reward_no_arm(decision: Decision, num_drafted: int) -> None:
    policy = Ucb(WITH_COSTS)
    play(policy, {})
    wished = policy.wish(DEFAULT)
    policy.note(decision, num_drafted, num_drafted, NOTHING)
    assert policy.wish(DEFAULT) == wished == Decision(LAYERSKIP, 4, 2, 0.0, "policy")


def test_arms_that_are_longer_than_allowed_are_left_out() -> None:
    policy = Ucb(replace(WITH_COSTS, max_draft_len=4))
    assert max(play(policy, {}).max_draft_len for _ in range(20)) == 4


def test_unknown_costs_are_off() -> None:
    context: PolicyContext = replace(CONTEXT, cost_ns=lambda e, k: None)
    assert Ucb(context).wish(DEFAULT) == replace(PLAIN_DECISION, reason="no_costs")


def test_costs_that_are_missing_altogether_are_refused() -> None:
    with pytest.raises(ValueError, match="needs measured costs"):
        Ucb(CONTEXT)
