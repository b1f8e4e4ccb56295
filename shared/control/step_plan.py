"""The draft lengths with which a step delivers most tokens per time, at one exit layer. Pure.

    rate(lens) = ( B + sum over sessions s, places j <= d_s of P_s(first j kept) )
                 / ( draft phase + verify pass + overhead )

Places are taken in the order of what they bring, under every cap on the longest draft; the best
number of places under the best cap is the plan. As P falls with j, a session's places come in
order. So with a rising load the far places of drafts go first, then sessions that gain least.
Plans are searched and compared by what drafts bring for sure: the expectation less half its error.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.control.step_costs import StepCosts

# Caps on the longest draft that are tried, beside the longest wish.
CAPS = (1, 2, 3, 4, 6, 8, 12)
# Most points at which one cap's numbers of places are tried.
MAX_TRIES = 8
# A step with drafts takes at most so many plain ones.
MAX_PLAIN_STEPS = 4.0


@dataclass(frozen=True, slots=True)
class Outlook:
    """What one session's draft would bring and take.

    kept: P(the first j drafts are kept); made: P(at least j are made), both for j = 1 .. its wish;
        empty: the session stays plain.
    exit_layer: of its draft; resume_layer: where verification takes its rows up.
    is_fixed: whether it drafts as long as it wishes, whatever that costs.
    sure: `kept` less what its error makes doubtful; falls with j too. Empty: `kept` itself.
    """

    kept: Sequence[float] = ()
    made: Sequence[float] = ()
    exit_layer: int = 0
    resume_layer: int = 0
    is_fixed: bool = False
    sure: Sequence[float] = ()

    @property
    def worth(self) -> Sequence[float]:
        """What each place brings for sure."""
        return self.sure or self.kept


@dataclass(frozen=True, slots=True)
class StepPlan:
    """Draft lengths by session, and the predicted tokens per ns and ns of the step.

    tokens_per_ns: for sure, by which plans compare; expected_per_ns: in the mean.
    price: what the last place taken brings; a session that joins takes places of no less.
    exit_layer: of the sessions that are free to choose.
    """

    lens: tuple[int, ...]
    tokens_per_ns: float
    step_ns: float
    price: float = 1.0
    expected_per_ns: float = 0.0
    exit_layer: int = 0

    @property
    def max_len(self) -> int:
        """The longest draft."""
        return max(self.lens, default=0)


class StepPlanner:
    """Rates and searches plans for the sessions of one step, at the costs of now."""

    def __init__(
        self,
        costs: StepCosts,
        outlooks: Sequence[Outlook],
        overhead_ns: float,
        exit_layer: int = 0,
    ) -> None:
        """Take the costs, which must be known, and the sessions, at least one, at an exit."""
        self._costs = costs
        self._outlooks = outlooks
        self._overhead_ns = overhead_ns
        self._exit_layer = exit_layer
        self._fixed = [len(each.kept) if each.is_fixed else 0 for each in outlooks]

    @property
    def outlooks(self) -> Sequence[Outlook]:
        """The sessions, in the order of the loads."""
        return self._outlooks

    def rate(self, lens: Sequence[int]) -> StepPlan:
        """Return the plan of given lengths, each at most the session's wish."""
        tally = self._tally(lens)
        return self._plan(lens, tally)

    def rate_plain(self) -> StepPlan:
        """Return the plan in which nobody drafts but the fixed."""
        return self.rate(self._fixed)

    def under_caps(self) -> list[StepPlan]:
        """Return the best plan that drafts under each cap, shortest first; fixed drafts apart.

        Empty where nobody may draft, or no step with drafts is short enough.
        """
        limit_ns = MAX_PLAIN_STEPS * self.rate_plain().step_ns
        places = sorted(
            (-worth, place, index)
            for index, each in enumerate(self._outlooks)
            if not each.is_fixed
            for place, worth in enumerate(each.worth, 1)
        )
        most = max((place for _, place, _ in places), default=0)
        caps = (*(cap for cap in CAPS if cap < most), most)
        if len(places) == most:
            return self._under_caps_of_one(places, caps, limit_ns)
        plans = []
        for cap in caps:
            under = places if cap == most else [each for each in places if each[1] <= cap]
            plans.append(self._best_prefix(under, limit_ns))
        return [plan for plan in plans if plan is not None]

    def _under_caps_of_one(
        self, places: Sequence[tuple[float, int, int]], caps: Sequence[int], limit_ns: float
    ) -> list[StepPlan]:
        """Return the best plan under each cap where one session alone is free, in one go."""
        tally = self._tally(self._fixed)
        plans: list[StepPlan] = []
        best: StepPlan | None = None
        for worth, place, index in places:
            tally.add(self._outlooks[index], place)
            if place not in caps:
                continue
            step_ns = tally.step_ns(self._costs) + self._overhead_ns
            if step_ns > limit_ns:
                break
            rate = tally.num_tokens / step_ns
            if best is None or rate > best.tokens_per_ns:
                lens = (*self._fixed[:index], place, *self._fixed[index + 1 :])
                expected = tally.num_expected / step_ns
                best = StepPlan(lens, rate, step_ns, -worth, expected, self._exit_layer)
            plans.append(best)
        return plans

    def best(self) -> StepPlan:
        """Return the best plan found; the plain one where nothing is better."""
        return max([self.rate_plain(), *self.under_caps()], key=lambda plan: plan.tokens_per_ns)

    def _best_prefix(
        self, places: Sequence[tuple[float, int, int]], limit_ns: float
    ) -> StepPlan | None:
        """Return the best plan that takes the first so many of the places."""
        stride = -(-len(places) // MAX_TRIES) or 1
        tally = self._tally(self._fixed)
        best_rate, best_ns, best_num, best_expected = 0.0, 0.0, 0, 0.0
        for num_taken, (_, place, index) in enumerate(places, 1):
            tally.add(self._outlooks[index], place)
            if num_taken % stride and num_taken != len(places):
                continue
            step_ns = tally.step_ns(self._costs) + self._overhead_ns
            if step_ns > limit_ns:
                break
            rate = tally.num_tokens / step_ns
            if rate > best_rate:
                best_rate, best_ns, best_num = rate, step_ns, num_taken
                best_expected = tally.num_expected / step_ns
        if not best_num:
            return None
        lens = list(self._fixed)
        for _, place, index in places[:best_num]:
            lens[index] = place
        price = -places[best_num - 1][0]
        return StepPlan(tuple(lens), best_rate, best_ns, price, best_expected, self._exit_layer)

    def _tally(self, lens: Sequence[int]) -> "_Tally":
        tally = _Tally(len(self._outlooks))
        for outlook, draft_len in zip(self._outlooks, lens, strict=True):
            for place in range(1, draft_len + 1):
                tally.add(outlook, place)
        return tally

    def _plan(self, lens: Sequence[int], tally: "_Tally") -> StepPlan:
        step_ns = tally.step_ns(self._costs) + self._overhead_ns
        price = min(
            (
                each.worth[draft_len - 1]
                for each, draft_len in zip(self._outlooks, lens, strict=True)
                if draft_len and not each.is_fixed
            ),
            default=1.0,
        )
        return StepPlan(
            tuple(lens),
            tally.num_tokens / step_ns,
            step_ns,
            price,
            tally.num_expected / step_ns,
            self._exit_layer,
        )


class _Tally:
    """Expected rows, draft steps and tokens of a step, added up place by place."""

    __slots__ = (
        "_draft_rows",
        "_exit_layer",
        "_none_left",
        "_num_steps",
        "_rows",
        "num_expected",
        "num_tokens",
    )

    def __init__(self, num_sessions: int) -> None:
        self.num_tokens = float(num_sessions)
        self.num_expected = float(num_sessions)
        self._rows: dict[int, float] = {0: float(num_sessions)}
        self._draft_rows = 0.0
        self._num_steps = 0.0
        # By place: the chance that nobody makes a draft there; their rest is the steps.
        self._none_left: list[float] = []
        self._exit_layer = 0

    def add(self, outlook: Outlook, place: int) -> None:
        """Let a session draft at its next place."""
        made = outlook.made[place - 1]
        layer = outlook.resume_layer
        if place == 1:
            # The pending token's row moves from layer 0 to where the drafts join; the closing row.
            self._rows[0] -= 1.0
            self._rows[layer] = self._rows.get(layer, 0.0) + 1.0
            self._draft_rows += 1.0
            self._exit_layer = max(self._exit_layer, outlook.exit_layer)
        self._rows[layer] += made
        self._draft_rows += made
        self.num_tokens += outlook.worth[place - 1]
        self.num_expected += outlook.kept[place - 1]
        if place > len(self._none_left):
            self._none_left.append(1.0)
        none_left = self._none_left[place - 1]
        self._num_steps += none_left * made
        self._none_left[place - 1] = none_left * (1.0 - made)

    def step_ns(self, costs: StepCosts) -> float:
        """Predict the step; costs that are not known count as nothing."""
        pass_ns = costs.pass_ns(self._rows) or 0.0
        if not self._num_steps:
            return pass_ns
        per_step = self._draft_rows / (self._num_steps + 1.0)
        return pass_ns + (costs.draft_ns(self._exit_layer, per_step, self._num_steps) or 0.0)
