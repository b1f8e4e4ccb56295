"""The draft lengths with which a step delivers most tokens per time, from one arm. Pure.

    rate(lens) = ( B + sum over sessions s, places j <= d_s of P_s(first j kept) )
                 / ( draft phase + verify pass + overhead )

Places are taken in the order of what they bring, under every cap on the longest draft; the best
number of places under the best cap is the plan. As P falls with j, a session's places come in
order. So with a rising load the far places of drafts go first, then sessions that gain least.
Plans are searched and compared by what drafts bring for sure: the expectation less a quarter of its
error.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from shared.control.cost_reader import CostReader
from shared.speculation.tree_costs import Branches, BranchForecast

# Caps on the longest draft that are tried, beside the longest wish.
CAPS = (1, 2, 3, 4, 6, 8, 12, 16)
# Of sessions that name no length. Chances are counted for eight places; the last rate goes on.
LONGEST_PLANNED = CAPS[-1]
# Most points at which one cap's numbers of places are tried.
MAX_TRIES = 8
# A step with drafts takes at most so many plain ones.
MAX_PLAIN_STEPS = 4.0

# What a place brings for sure, negated; the place; the session's index.
Place = tuple[float, int, int]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one session's draft would bring.

    kept: P(the first j drafts are kept), j = 1 .. its wish; empty: the session stays plain.
    arm: of its draft; resume_layer: where verification takes its rows up.
    is_fixed: whether it drafts as long as it wishes, whatever that costs.
    sure: `kept` less what its error makes doubtful; falls with j too. Empty: `kept` itself.
    """

    kept: Sequence[float] = ()
    arm: int = 0
    resume_layer: int = 0
    is_fixed: bool = False
    sure: Sequence[float] = ()

    @property
    def worth(self) -> Sequence[float]:
        """What each place brings for sure."""
        return self.sure or self.kept


class TreePlan(NamedTuple):
    """How a plan's draft branches, and what that was expected to bring before rounds told."""

    branches: Branches
    outlook: BranchForecast


class StepPlan(NamedTuple):
    """Draft lengths by session, and the predicted tokens per ns and ns of the step.

    tokens_per_ns: for sure, by which plans compare; expected_per_ns: in the mean.
    price: what the last place taken brings; a session that joins takes places of no less.
    arm: of the sessions that are free to choose.
    tree: of one session alone, how its draft branches; None: it does not.
    """

    lens: tuple[int, ...]
    tokens_per_ns: float
    step_ns: float
    price: float = 1.0
    expected_per_ns: float = 0.0
    arm: int = 0
    tree: TreePlan | None = None

    @property
    def max_len(self) -> int:
        """The longest draft."""
        return max(self.lens, default=0)


class StepPlanner:
    """Rates and searches plans for the sessions of one step, at the costs of now."""

    def __init__(
        self,
        costs: CostReader,
        outlooks: Sequence[Outlook],
        overhead_ns: float,
        arm: int = 0,
    ) -> None:
        """Take the costs of now and the sessions, at least one, at an arm."""
        self._costs = costs
        self._outlooks = outlooks
        self._overhead_ns = overhead_ns
        self._arm = arm
        self._fixed = [len(each.kept) if each.is_fixed else 0 for each in outlooks]
        free = {(each.arm, each.resume_layer) for each in outlooks if each.kept}
        # Where all drafts come from one arm: that, and where they are verified from.
        self._even = free.pop() if len(free) == 1 and not any(self._fixed) else None

    @property
    def outlooks(self) -> Sequence[Outlook]:
        """The sessions, in the order of the loads."""
        return self._outlooks

    def rate(self, lens: Sequence[int]) -> StepPlan:
        """Return the plan of given lengths, each at most the session's wish."""
        worths = [each.worth for each in self._outlooks]
        num_sure = sum(sum(worth[:k]) for worth, k in zip(worths, lens, strict=True) if k)
        price = min(
            (
                worth[k - 1]
                for worth, k, fixed in zip(worths, lens, self._fixed, strict=True)
                if k and not fixed
            ),
            default=1.0,
        )
        return self._plan(lens, len(lens) + num_sure, self._step_ns(lens), price)

    def rate_plain(self) -> StepPlan:
        """Return the plan in which nobody drafts but the fixed."""
        return self.rate(self._fixed)

    def under_caps(self, plain: StepPlan | None = None) -> list[StepPlan]:
        """Return the best plan that drafts under each cap, shortest first; fixed drafts apart.

        Empty where nobody may draft, or several may and no step with drafts is short enough.

        Args:
            plain: `rate_plain()`, if it is at hand.
        """
        limit_ns = MAX_PLAIN_STEPS * (plain or self.rate_plain()).step_ns
        free = [index for index, each in enumerate(self._outlooks) if self._is_free(each)]
        most = max((len(self._outlooks[index].kept) for index in free), default=0)
        caps = (*(cap for cap in CAPS if cap < most), most)
        if len(free) == 1:
            return self._under_caps_of_one(free[0], caps, limit_ns)
        places = sorted(
            (-worth, place, index)
            for index in free
            for place, worth in enumerate(self._outlooks[index].worth, 1)
        )
        plans = []
        for cap in caps:
            under = places if cap == most else [each for each in places if each[1] <= cap]
            plans.append(self._best_prefix(under, limit_ns))
        return [plan for plan in plans if plan is not None]

    def best(self) -> StepPlan:
        """Return the best plan found; the plain one where nothing is better."""
        return max([self.rate_plain(), *self.under_caps()], key=lambda plan: plan.tokens_per_ns)

    def alone_ns(self, draft_len: int, num_nodes: int) -> float:
        """Predict a step of one session alone, so many of whose drafts are on its longest path."""
        outlook = self._outlooks[0]
        even_ns = self._costs.even_ns(
            outlook.arm, outlook.resume_layer, 0, num_nodes + 1, draft_len
        )
        return even_ns + self._overhead_ns

    def _under_caps_of_one(
        self, index: int, caps: Sequence[int], limit_ns: float
    ) -> list[StepPlan]:
        """Return the best plan under each cap where one session alone is free, in one go."""
        outlook, lens = self._outlooks[index], list(self._fixed)
        num_fixed = self._num_fixed_tokens()
        sure, kept = list(accumulate(outlook.worth)), list(accumulate(outlook.kept))
        num_expected = len(lens) + sum(sum(each.kept) for each in self._outlooks if each.is_fixed)
        plans: list[StepPlan] = []
        best, best_rate = None, 0.0
        for cap in caps:
            lens[index] = cap
            step_ns = self._taken_ns(lens, 1, cap, cap)
            if step_ns > limit_ns and plans:
                break
            rate = (num_fixed + sure[cap - 1]) / step_ns
            if best is None or rate > best_rate:
                price, expected = outlook.worth[cap - 1], (num_expected + kept[cap - 1]) / step_ns
                best_rate = rate
                best = StepPlan(tuple(lens), rate, step_ns, price, expected, self._arm)
            plans.append(best)
        return plans

    def _best_prefix(self, places: Sequence[Place], limit_ns: float) -> StepPlan | None:
        """Return the best plan that takes the first so many of the places."""
        stride = -(-len(places) // MAX_TRIES) or 1
        lens = list(self._fixed)
        num_tokens = self._num_fixed_tokens()
        num_drafting = longest = 0
        best: tuple[tuple[int, ...], float, float, float] | None = None
        best_rate = 0.0
        for num_taken, (worth, place, index) in enumerate(places, 1):
            lens[index] = place
            num_tokens -= worth
            if place == 1:
                num_drafting += 1
            if place > longest:
                longest = place
            if num_taken % stride and num_taken != len(places):
                continue
            step_ns = self._taken_ns(lens, num_drafting, num_taken, longest)
            if step_ns > limit_ns:
                break
            if best is None or num_tokens > best_rate * step_ns:
                best_rate = num_tokens / step_ns
                best = (tuple(lens), num_tokens, step_ns, -worth)
        return self._plan(*best) if best is not None else None

    @staticmethod
    def _is_free(outlook: Outlook) -> bool:
        return bool(outlook.kept) and not outlook.is_fixed

    def _num_fixed_tokens(self) -> float:
        """Return the tokens of a step in which nobody drafts but the fixed."""
        fixed = (sum(each.worth) for each in self._outlooks if each.is_fixed)
        return len(self._outlooks) + sum(fixed)

    def _plan(
        self, lens: Sequence[int], num_tokens: float, step_ns: float, price: float
    ) -> StepPlan:
        kept = (sum(each.kept[:k]) for each, k in zip(self._outlooks, lens, strict=True) if k)
        return StepPlan(
            tuple(lens),
            num_tokens / step_ns,
            step_ns,
            price,
            (len(lens) + sum(kept)) / step_ns,
            self._arm,
        )

    def _taken_ns(
        self, lens: Sequence[int], num_drafting: int, num_taken: int, longest: int
    ) -> float:
        """Predict a step in which so many places of so many free sessions are taken."""
        if self._even is None:
            return self._step_ns(lens)
        num_plain, num_rows = len(lens) - num_drafting, num_taken + num_drafting
        return self._costs.even_ns(*self._even, num_plain, num_rows, longest) + self._overhead_ns

    def _step_ns(self, lens: Sequence[int]) -> float:
        """Predict a step of given lengths, whatever arms they come from."""
        if self._even is not None:
            num_taken, num_drafting = sum(lens), sum(map(bool, lens))
            return self._taken_ns(lens, num_drafting, num_taken, max(lens))
        rows: dict[int, int] = {}
        num_draft_rows = longest = 0
        arms: set[int] = set()
        for each, draft_len in zip(self._outlooks, lens, strict=True):
            layer = each.resume_layer if draft_len else 0
            rows[layer] = rows.get(layer, 0) + draft_len + 1
            if draft_len:
                num_draft_rows += draft_len + 1
                longest = max(longest, draft_len)
                arms.add(each.arm)
        step_ns = self._costs.mixed_ns(rows, arms, num_draft_rows, longest)
        return step_ns + self._overhead_ns
