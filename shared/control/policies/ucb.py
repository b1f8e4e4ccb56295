"""Two bandits over fixed arms: baselines of the evaluator only, no request can ask for them. Pure.

Arms are exits times lengths {0, 2, 4, 6}, so that being off is an arm as often as there are exits:
24 arms for 6 exits, as published tables have it. Reward of a round: its tokens per time, in units
of plain decoding (1 is as fast). Every arm is played once, then the one of the highest

    ucb            mean + .3 * sqrt(2 * ln(t + 1) / n)
    ucb_published  mean + Lmax / 2 * sqrt((1 + n) / n^2 * (1 + 2 * ln(K * t^2 * sqrt(1 + n) / .1)))

with t rounds so far, n of them of that arm, K arms, Lmax = 6. The second radius is UCBSpec's
(BanditSpec, arXiv:2505.15141); its .1 is inferred. Against these stands evidence of every exit
from every round, which need not try an arm to know it.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import log, sqrt
from typing import NamedTuple

from shared.control.evidence.observation import Observation
from shared.control.policies.base import PolicyContext
from shared.speculation.vocabulary import OFF, PLAIN_DECISION, Decision

ARM_LENGTHS = (0, 2, 4, 6)
TUNED_WIDTH = 0.3
FAILURE_CHANCE = 0.1

# Radius of an arm from t (all rounds), n (the arm's rounds) and K (arms); t and n at least 1.
Radius = Callable[[int, int, int], float]


def tuned_radius(num_rounds: int, num_played: int, num_arms: int) -> float:
    """Return the radius of UCB1 with a width that suits rewards of about one."""
    return TUNED_WIDTH * sqrt(2.0 * log(num_rounds + 1) / num_played)


def published_radius(num_rounds: int, num_played: int, num_arms: int) -> float:
    """Return UCBSpec's radius: wide, for it holds for rewards anywhere in [0, Lmax]."""
    spread = (1.0 + num_played) / num_played**2
    odds = num_arms * num_rounds**2 * sqrt(1.0 + num_played) / FAILURE_CHANCE
    return max(ARM_LENGTHS) / 2.0 * sqrt(spread * (1.0 + 2.0 * log(odds)))


class Arm(NamedTuple):
    """An exit and a draft length; 0 is off."""

    exit_layer: int
    draft_len: int


@dataclass(slots=True)
class ArmRecord:
    """Rounds of one arm and the sum of their rewards."""

    num_played: int = 0
    reward_sum: float = 0.0


class Ucb:
    """A bandit for one session."""

    wants_full_shadow = False

    def __init__(
        self, context: PolicyContext, name: str = "ucb", radius: Radius = tuned_radius
    ) -> None:
        """Begin with every arm untried.

        Raises:
            ValueError: the context has no costs, which rewards are made of.
        """
        if context.cost_ns is None:
            raise ValueError(f"policy {name} needs measured costs: give the context cost_ns")
        self.name = name
        self._cost_ns = context.cost_ns
        self._radius = radius
        self._arms = [
            Arm(exit_layer, draft_len)
            for exit_layer in context.exits
            for draft_len in ARM_LENGTHS
            if draft_len <= context.max_draft_len
        ]
        self._records = {arm: ArmRecord() for arm in self._arms}
        self._num_rounds = 0

    def wish(self, default: Decision) -> Decision:
        """Return the round of the arm that is due; its reason is `policy` or `no_costs` (plain)."""
        if default.method == OFF:
            return default
        arm = self._due()
        if not self._plain_ns(arm) or not self._cost_ns(arm.exit_layer, arm.draft_len):
            return replace(PLAIN_DECISION, reason="no_costs")
        if arm.draft_len == 0:
            return replace(PLAIN_DECISION, reason="policy")
        return Decision(default.method, arm.exit_layer, arm.draft_len, 0.0, "policy")

    def note(
        self, decision: Decision, num_drafted: int, num_accepted: int, observation: Observation
    ) -> None:
        """Reward the arm that was due, if it is what the round did."""
        arm = self._due()
        plain_ns = self._plain_ns(arm)
        cost_ns = self._cost_ns(arm.exit_layer, num_drafted)
        if not _is_of(decision, num_drafted, arm) or not plain_ns or not cost_ns:
            return
        self._num_rounds += 1
        record = self._records[arm]
        record.num_played += 1
        record.reward_sum += (num_accepted + 1) * plain_ns / cost_ns

    def note_prompt(self, observation: Observation) -> None:
        """Learn nothing."""

    def _due(self) -> Arm:
        """Return the first untried arm, else the one of the highest bound; ties to the first."""
        return max(self._arms, key=self._bound)

    def _bound(self, arm: Arm) -> float:
        record = self._records[arm]
        if not record.num_played:
            return float("inf")
        radius = self._radius(self._num_rounds, record.num_played, len(self._arms))
        return record.reward_sum / record.num_played + radius

    def _plain_ns(self, arm: Arm) -> float | None:
        return self._cost_ns(arm.exit_layer, 0)


def _is_of(decision: Decision, num_drafted: int, arm: Arm) -> bool:
    """Whether a round was one of the arm; a lost draft is none of any."""
    if arm.draft_len == 0:
        return decision.is_off
    is_same = (decision.exit_layer, decision.max_draft_len) == (arm.exit_layer, arm.draft_len)
    return is_same and num_drafted > 0
