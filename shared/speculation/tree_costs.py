"""What a tree of drafts is expected to bring, and whether a chain brings more. Pure arithmetic.

    chain   T(d)    = d * D(E) + F(E) + V(E, d + 1) + H           as in `cost_model`
    tree    T(d, s) = T(d) + s * R(E) + V(E, d + 1 + s) - V(E, d + 1)
            tau     = 1 + sum_j S(j) + sum_j (S(j-1) - S(j)) * h(s_j),   j = 1 .. d

    S(j)    share of rounds whose first j drafts were all kept, S(0) = 1
    h(i)    share of refused drafts of which one of the i next best was the target's choice
    s_j     siblings at depth j, s their sum; each is a row more in its step and in the verify pass
    R(E)    what one more row adds to a draft step: layers [0, E), no head

A sibling that is hit is counted as one token more. Where it goes on to a longer branch it may bring
another one; leaving that out errs towards the chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.speculation.cost_model import CostTable, round_ns
from shared.speculation.vocabulary import TreeBudget


@dataclass(frozen=True, slots=True)
class BranchOdds:
    """What is known of a session's drafts at one exit.

    survival: S(1), S(2), ...; no draft is planned beyond.
    sibling_hits: h(1), h(2), ...; no more siblings of a draft are planned.

    Raises:
        ValueError: one of them is no share, survival rises or hits fall.
    """

    survival: tuple[float, ...]
    sibling_hits: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        falling = [1.0, *self.survival, 0.0]
        rising = [0.0, *self.sibling_hits, 1.0]
        if falling != sorted(falling, reverse=True):
            raise ValueError(f"survival must fall within [0, 1], not {self.survival}")
        if rising != sorted(rising):
            raise ValueError(f"hits of siblings must rise within [0, 1], not {self.sibling_hits}")


@dataclass(frozen=True, slots=True)
class TreePlan:
    """A shape of draft and what it is predicted to bring; depth 0 is off.

    siblings: at depths 1, 2, ..., depth; all 0 is a chain.
    """

    depth: int
    siblings: tuple[int, ...]
    predicted_speedup: float

    @property
    def num_nodes(self) -> int:
        """Draft tokens of the round."""
        return self.depth + sum(self.siblings)

    @property
    def budget(self) -> TreeBudget | None:
        """What a decision of this depth is to allow; None for a chain."""
        if not any(self.siblings):
            return None
        return TreeBudget(self.num_nodes, 1 + max(self.siblings))


OFF_PLAN = TreePlan(0, (), 1.0)


def expected_tree_tokens(odds: BranchOdds, siblings: Sequence[int]) -> float:
    """Return tau of a draft with so many siblings at depths 1, 2, ...: as deep as there are."""
    tau, before = 1.0, 1.0
    for kept, num_siblings in zip(odds.survival, siblings, strict=False):
        tau += kept + (before - kept) * _hits(odds, num_siblings)
        before = kept
    return tau


def tree_round_ns(
    costs: CostTable, exit_layer: int, depth: int, num_siblings: int, extra_row_ns: float
) -> float:
    """Return the time of a round; without siblings it is that of a chain."""
    base_ns = round_ns(costs, exit_layer, depth)
    if not num_siblings:
        return base_ns
    more_ns = costs.verify_pass_ns(exit_layer, depth + 1 + num_siblings)
    more_ns -= costs.verify_pass_ns(exit_layer, depth + 1)
    return base_ns + num_siblings * extra_row_ns + more_ns


def best_tree(
    costs: CostTable, exit_layer: int, odds: BranchOdds, max_nodes: int, extra_row_ns: float
) -> TreePlan:
    """Return the shape of the highest predicted speed-up; off where nothing is above 1.

    On a tie fewer draft tokens win: a tree is chosen only where it is expected to be faster than
    every chain.

    Args:
        costs: measured times of the session, alone or beside others.
        exit_layer: E, one of those measured.
        odds: what is known of its drafts.
        max_nodes: most draft tokens of the round.
        extra_row_ns: R(E), measured.
    """
    plans = [OFF_PLAN]
    for depth in range(1, min(len(odds.survival), max_nodes) + 1):
        siblings = [0] * depth
        while True:
            ns = tree_round_ns(costs, exit_layer, depth, sum(siblings), extra_row_ns)
            tau = expected_tree_tokens(odds, siblings)
            plans.append(TreePlan(depth, tuple(siblings), tau * costs.plain_step_ns / ns))
            place = _best_place(odds, siblings)
            if place is None or depth + sum(siblings) == max_nodes:
                break
            siblings[place] += 1
    return max(plans, key=lambda plan: (plan.predicted_speedup, -plan.num_nodes))


def _hits(odds: BranchOdds, num_siblings: int) -> float:
    """Return h(i); more siblings than anything is known of bring no more."""
    known = min(num_siblings, len(odds.sibling_hits))
    return odds.sibling_hits[known - 1] if known else 0.0


def _best_place(odds: BranchOdds, siblings: Sequence[int]) -> int | None:
    """Return the depth, from 0, at which one sibling more brings most; None: nowhere anything."""
    gains = []
    before = 1.0
    for kept, num_siblings in zip(odds.survival, siblings, strict=False):
        more = _hits(odds, num_siblings + 1) - _hits(odds, num_siblings)
        gains.append((before - kept) * more)
        before = kept
    best = max(gains)
    return gains.index(best) if best > 0.0 else None
