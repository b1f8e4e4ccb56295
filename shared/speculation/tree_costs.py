"""What branches are expected to add to a draft, and which of them pay. Pure arithmetic.

    chain   tokens = 1 + sum_j S(j)                                             time T(0)
    tree    tokens = those + gain,  time = T(0) + b * (T(m) - T(0))
            gain   = h(w - 1) * r * sum_j (S(j-1) - S(j)) * room(j),   j = 1 .. d
            b      = 1 - (1 - a)^d

    S(j)     chance that the first j drafts are all kept, S(0) = 1
    h(i)     share of refused drafts of which one of the i next best was the target's choice
    a, k, r  share of all drafts, of kept and of refused ones that are unsure: their confidence is
             below the threshold of the tree, which gives siblings to those alone
    w        children of an unsure choice; l: groups of w - 1 nodes that there is room for
    m        l * (w - 1): nodes beyond those of the chain, each a row more in a draft step and in
             the verify pass; T(i): time of a step with i of them; b: share of rounds that branch

Room is spent from the first unsure choice on, level by level: on siblings where the chain is unsure
again, then on making the branches longer, see `tree_round`.

    room(j)  = sum_o P(first unsure choice o levels above j) * P(room is left for siblings there)
                     * (1 + what they bring that go on, for the room and the levels that are left)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from shared.speculation.vocabulary import TreeBudget

# Groups of siblings that room is sought for.
GROUPS = (1, 2, 4)
FINENESS = 64
# Chance that a draft behind a sibling is kept, over that of a chain's first one: text is hard where
# drafts are refused. Measured .3 to .6.
LONGER = 0.5


class UnsureShares(NamedTuple):
    """Shares of drafts with less confidence than a threshold: of all, of kept, of refused ones."""

    threshold: float
    of_all: float
    of_kept: float
    of_refused: float


@dataclass(frozen=True, slots=True)
class BranchOdds:
    """What is known of the drafts at one exit.

    sibling_hits: h(1), h(2), ...; no more siblings of a draft are planned.
    unsure: by threshold.

    Raises:
        ValueError: one of them is no share, or hits fall.
    """

    sibling_hits: tuple[float, ...]
    unsure: tuple[UnsureShares, ...]

    def __post_init__(self) -> None:
        rising = [0.0, *self.sibling_hits, 1.0]
        if rising != sorted(rising):
            raise ValueError(f"hits of siblings must rise within [0, 1], not {self.sibling_hits}")
        for each in self.unsure:
            if not all(0.0 <= share <= 1.0 for share in each):
                raise ValueError(f"shares of unsure drafts must lie within [0, 1], not {each}")


class Branches(NamedTuple):
    """How a draft branches beyond its chain.

    num_siblings: of an unsure choice; num_groups: of so many nodes that there is room for.
    threshold: what unsure means.
    """

    num_siblings: int
    num_groups: int
    threshold: float

    @property
    def num_nodes(self) -> int:
        """Most nodes beyond those of the chain."""
        return self.num_siblings * self.num_groups

    def budget(self, draft_len: int) -> TreeBudget:
        """Return what the decision of a chain so long is to allow."""
        return TreeBudget(draft_len + self.num_nodes, 1 + self.num_siblings, self.threshold)


class BranchForecast(NamedTuple):
    """What branches bring in the mean of all rounds: tokens more, and a share that branches."""

    num_tokens: float
    branch_rate: float

    def rate(self, num_tokens: float, chain_ns: float, tree_ns: float) -> float:
        """Return tokens per ns of rounds that bring so many as chains, and take so long."""
        mean_ns = chain_ns + self.branch_rate * (tree_ns - chain_ns)
        return (num_tokens + self.num_tokens) / mean_ns


def forecasts(
    odds: BranchOdds, survival: Sequence[float], max_nodes: int
) -> Iterator[tuple[Branches, BranchForecast]]:
    """Iterate over the ways to branch, of at most so many nodes beyond the chain, with the outlook.

    survival: S(1) .. S(d) of the chain.
    """
    for unsure in odds.unsure:
        if not unsure.of_refused:
            continue
        rate = _branch_rate(survival, unsure)
        for num_groups in GROUPS:
            if num_groups > max_nodes:
                break
            worth = _worth(survival, unsure, num_groups)
            for num_siblings, hits in enumerate(odds.sibling_hits, 1):
                branches = Branches(num_siblings, num_groups, unsure.threshold)
                if branches.num_nodes <= max_nodes:
                    yield branches, BranchForecast(hits * worth, rate)


def forecast(odds: BranchOdds, survival: Sequence[float], branches: Branches) -> BranchForecast:
    """Return the outlook of one way to branch; of a threshold that is not known it is nothing."""
    for unsure in odds.unsure:
        if unsure.threshold == branches.threshold:
            hits = odds.sibling_hits[branches.num_siblings - 1]
            worth = _worth(survival, unsure, branches.num_groups)
            return BranchForecast(hits * worth, _branch_rate(survival, unsure))
    return BranchForecast(0.0, 1.0)


def best_branches(
    ways: Iterable[tuple[Branches, BranchForecast]],
    num_tokens: float,
    step_ns: Callable[[int], float],
) -> tuple[Branches | None, float]:
    """Return the way to branch of the highest rate, and that rate in tokens per ns.

    None where nothing beats the chain; on a tie fewer nodes win.

    Args:
        ways: to branch, each with what it is expected to bring.
        num_tokens: that the chain is expected to bring, the target's own included.
        step_ns: time of a step by nodes beyond the chain, measured.
    """
    chain_ns = step_ns(0)
    best: Branches | None = None
    best_rate = num_tokens / chain_ns
    for branches, outlook in ways:
        rate = outlook.rate(num_tokens, chain_ns, step_ns(branches.num_nodes))
        is_smaller = best is not None and branches.num_nodes < best.num_nodes
        if rate > best_rate or (rate == best_rate and is_smaller):
            best, best_rate = branches, rate
    return best, best_rate


def _branch_rate(survival: Sequence[float], unsure: UnsureShares) -> float:
    return 1.0 - (1.0 - unsure.of_all) ** len(survival)


def _worth(survival: Sequence[float], unsure: UnsureShares, num_groups: int) -> float:
    """Return the tokens that siblings bring which are always hit."""
    sure, num_below = 1.0 - unsure.of_kept, len(survival)
    room = _room(round(FINENESS * unsure.of_kept), num_groups, round(FINENESS * survival[0]))
    # By depth: the chance that the chain was sure all the way there.
    all_sure = [sure**depth for depth in range(num_below)]
    total, before = 0.0, 1.0
    for depth, kept in enumerate(survival):
        worth = all_sure[depth] * room[0][min(num_below, len(room[0])) - 1]
        for above in range(1, min(len(room), depth + 1)):
            brought = room[above][min(num_below, len(room[above])) - 1]
            worth += unsure.of_kept * all_sure[depth - above] * brought
        total += (before - kept) * worth
        before, num_below = kept, num_below - 1
    return unsure.of_refused * total


@cache
def _room(unsure_share: int, num_groups: int, kept_share: int) -> list[list[float]]:
    """Return what siblings bring that are hit, by levels below the first unsure choice.

    Each is a list: with 1 level left for them, with 2, and so on. Shares are in parts of FINENESS,
    so that what was told once may be told again.
    """
    unsure_rate, longer_rate = unsure_share / FINENESS, LONGER * kept_share / FINENESS
    # By level: the chance that room is left for siblings, and for a branch to go on.
    siblings, goes_on = [1.0], [0.0]
    num_left, num_branches = num_groups - 1.0, 1.0
    while num_left > 0.0:
        has_room = min(1.0, num_left)
        num_left -= unsure_rate * has_room
        share = min(1.0, num_left / num_branches)
        num_left -= share * num_branches
        num_branches += unsure_rate * has_room
        siblings.append(has_room)
        goes_on.append(share)
    found = []
    for level, has_room in enumerate(siblings):
        chance = has_room
        brought = [chance]
        for share in goes_on[level + 1 :]:
            chance *= longer_rate * share
            brought.append(brought[-1] + chance)
        found.append(brought)
    return found
