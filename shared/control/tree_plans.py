"""Whether the drafts of a session that decodes alone branch, and how far. Pure.

    search    every SEARCH_LOOKS looks at an arm, the way to branch that is expected to bring most
              tokens per time: by what siblings would have brought along the text, at measured
              costs; while drafts are in the making, as a look may not take so long
    in force  once that is clearly better than the chain, until it is no better
    correct   what rounds that might branch gained and took, over what was expected of them

Beside others rows are dear, and drafts are chains. What an arm's branches gained too little is
forgotten while it drafts chains, so that they are tried again.
"""

from collections.abc import Callable
from dataclasses import dataclass

from shared.control.step_plan import StepPlan, StepPlanner, TreePlan
from shared.control.steps import RoundOutcome, SessionLoad
from shared.speculation.tree_costs import (
    Branches,
    BranchForecast,
    BranchOdds,
    best_branches,
    forecast,
    forecasts,
)

SEARCH_LOOKS = 16
# Gain over the chain that branches must promise to be taken up, and to be kept.
MIN_ON_GAIN = 0.08
MIN_GAIN = 0.05
# Asked beside it of branches that were never tried; halved after so many rounds that branched.
MAX_DOUBT = 0.05
NUM_DOUBTED = 8.0
# Of what rounds did, per round; tokens and rounds that the expectation weighs beside it.
MEMORY = 0.99
NUM_TOKENS_EXPECTED = 3.0
NUM_ROUNDS_EXPECTED = 8.0
# Of what branched drafts take beyond their rows; a sample counts as no more than this share.
MIN_COST_RATE = 0.03
MAX_MORE = 0.3
# What is left of what rounds did after a search while drafts are chains.
FADING = 0.9

# Of an open session's id and an arm: what siblings would bring.
ReadOdds = Callable[[str, int], BranchOdds | None]


@dataclass(slots=True)
class _Arm:
    """What is known of an arm's branches.

    key: of the session that they were sought for. branches: in force, found by these odds.
    gained, num_branched: sums over rounds that might branch, fading; beside them what was expected.
    more_ns: what branched drafts take beyond their rows.
    """

    key: str = ""
    num_looks: int = 0
    branches: Branches | None = None
    odds: BranchOdds | None = None
    gained: float = 0.0
    expected_gain: float = 0.0
    num_branched: float = 0.0
    expected_branched: float = 0.0
    more_ns: float = 0.0
    num_costs: int = 0

    def corrected(self, outlook: BranchForecast) -> BranchForecast:
        """Return an outlook, moved by what rounds showed."""
        tokens, rounds = NUM_TOKENS_EXPECTED, NUM_ROUNDS_EXPECTED
        gain = (tokens + self.gained) / (tokens + self.expected_gain)
        rate = (rounds + self.num_branched) / (rounds + self.expected_branched)
        return BranchForecast(gain * outlook.num_tokens, min(1.0, rate * outlook.branch_rate))

    def fade(self, memory: float) -> None:
        """Forget some of what rounds did."""
        self.gained *= memory
        self.expected_gain *= memory
        self.num_branched *= memory
        self.expected_branched *= memory


class TreePlans:
    """Lets plans branch. Owned by one thread."""

    def __init__(self, read_odds: ReadOdds) -> None:
        """Take where odds come from; every arm drafts chains."""
        self._read_odds = read_odds
        self._arms: dict[int, _Arm] = {}
        # Searches to be made, by arm: they take longer than a decision may.
        self._due: dict[int, tuple[SessionLoad, StepPlanner, StepPlan]] = {}

    def look(self, load: SessionLoad, planner: StepPlanner, chain: StepPlan) -> None:
        """Let a search be due, if it is time or the session another one than at the last look.

        Args:
            load: of the session that decodes alone.
            planner: at the chain's arm.
            chain: the best one of that arm.
        """
        arm = self._arms.setdefault(chain.arm, _Arm())
        arm.num_looks += 1
        if arm.key == load.key and arm.num_looks % SEARCH_LOOKS:
            return
        self._due[chain.arm] = load, planner, chain

    def search(self) -> None:
        """Make the searches that are due."""
        for plan_arm, (load, planner, chain) in self._due.items():
            arm = self._arms[plan_arm]
            arm.key = load.key
            if arm.branches is None:
                arm.fade(FADING)
            arm.odds = self._read_odds(load.key, plan_arm)
            arm.branches = _search(arm, load, planner, chain)
        self._due.clear()

    def branched(self, load: SessionLoad, planner: StepPlanner, chain: StepPlan) -> StepPlan:
        """Return a plan with the branches in force at its arm, if it is the better for them."""
        arm, draft_len = self._arms.get(chain.arm), chain.max_len
        if arm is None or arm.branches is None or arm.odds is None or arm.key != load.key:
            return chain
        branches = arm.branches
        if not draft_len or draft_len + branches.num_nodes > load.max_nodes:
            return chain
        told = forecast(arm.odds, planner.outlooks[0].kept[:draft_len], branches)
        outlook = arm.corrected(told)
        tree_ns = _step_ns(arm, planner, draft_len, branches.num_nodes)
        num_sure, num_expected = (
            each * chain.step_ns for each in (chain.tokens_per_ns, chain.expected_per_ns)
        )
        expected_per_ns = outlook.rate(num_expected, chain.step_ns, tree_ns)
        if expected_per_ns <= chain.expected_per_ns:
            return chain
        return chain._replace(
            tokens_per_ns=outlook.rate(num_sure, chain.step_ns, tree_ns),
            expected_per_ns=expected_per_ns,
            step_ns=chain.step_ns + outlook.branch_rate * (tree_ns - chain.step_ns),
            tree=TreePlan(branches, told),
        )

    def note(self, plan: StepPlan, each: RoundOutcome) -> None:
        """Learn from the round of a plan that might branch, and that was followed."""
        arm = self._arms.get(plan.arm)
        if arm is None or plan.tree is None:
            return
        arm.fade(MEMORY)
        arm.expected_gain += plan.tree.outlook.num_tokens
        arm.expected_branched += plan.tree.outlook.branch_rate
        if each.tree is not None:
            arm.gained += each.tree.num_gained
            arm.num_branched += 1.0

    def note_draft(self, plan_arm: int, ns: float, expected_ns: float) -> None:
        """Take what a draft that branched took, and what its rows were expected to."""
        arm = self._arms.get(plan_arm)
        if arm is not None:
            arm.num_costs += 1
            more_ns = max(-MAX_MORE, min(MAX_MORE, ns / expected_ns - 1.0)) * expected_ns
            rate = max(MIN_COST_RATE, 1.0 / (NUM_ROUNDS_EXPECTED + arm.num_costs))
            arm.more_ns += rate * (more_ns - arm.more_ns)


def _search(arm: _Arm, load: SessionLoad, planner: StepPlanner, chain: StepPlan) -> Branches | None:
    """Return the way to branch that is to be in force."""
    if arm.odds is None:
        return None
    draft_len = chain.max_len
    survival = planner.outlooks[0].kept[:draft_len]
    found, rate = best_branches(
        (
            (branches, arm.corrected(outlook))
            for branches, outlook in forecasts(arm.odds, survival, load.max_nodes - draft_len)
        ),
        chain.expected_per_ns * chain.step_ns,
        lambda num_nodes: _step_ns(arm, planner, draft_len, num_nodes),
    )
    least = MIN_GAIN
    if arm.branches is None:
        least = MIN_ON_GAIN + MAX_DOUBT / (1.0 + arm.num_costs / NUM_DOUBTED)
    return found if rate > (1.0 + least) * chain.expected_per_ns else None


def _step_ns(arm: _Arm, planner: StepPlanner, draft_len: int, num_nodes: int) -> float:
    """Return the time of a step with so many nodes beyond a chain."""
    more_ns = arm.more_ns if num_nodes else 0.0
    return planner.alone_ns(draft_len, draft_len + num_nodes) + more_ns
