"""Which plan is in force: the one that was, until another is clearly better. Pure.

    drafting -> plain       at once, when plain steps are expected to deliver clearly more; where it
                            is less, at some looks in a row, which loses next to nothing
    plain -> drafting       when that is sure to gain enough, at two looks in a row
    drafting -> other exit  likewise, by a larger gain, in a row of looks at that exit: what an exit
                            that is not in use shows is seldom seen, and looks in a row are alike
    drafting -> other lens  at once: text is easy and hard by turns, and a length costs nothing to
                            change; waiting for a gain of 2 % twice lost 2 % of the speed

Predictions are noisy, and near the load at which drafting stops to pay they would flip the plan for
ever. So drafting that lasted only a short while must promise twice as much to be tried again with
as many sessions or more; and what was hardly tried yet must promise more than what is known.
"""

from collections.abc import Mapping
from math import sqrt

from shared.control.step_plan import StepPlan

MIN_ON_GAIN = 0.04
# Of one session; the more there are, the more their chances average out.
MIN_CHANGE_GAIN = 0.12
NUM_IN_A_ROW = 2
# Drafting ends at once where it loses more, else after so many looks in a row.
MIN_OFF_LOSS = 0.05
NUM_WORSE = 8
# Looks for which a short stay of drafting is one.
SHORT_STAY = 16
MAX_ON_GAIN = 0.32
# Asked of drafting that was never tried, beside all else; halved after two steps of it.
MAX_DOUBT = 0.15
# Of what is asked beyond MIN_ON_GAIN, per look.
ON_GAIN_MEMORY = 0.98


class PlanKeeper:
    """Chooses between the plan in force, plain steps and the best plan, look by look."""

    def __init__(self) -> None:
        """Begin with plain steps."""
        # By exit: looks at it in a row that promised enough.
        self._num_better: dict[int, int] = {}
        self._num_looks = 0
        # Looks in a row at which plain steps promised more.
        self._num_worse = 0
        self._on_since = 0
        self._on_gain = MIN_ON_GAIN
        self._failed_at = 0

    def choose(
        self,
        current: StepPlan,
        plain: StepPlan,
        bests: Mapping[int, StepPlan],
        first: StepPlan | None = None,
        *,
        num_tried: int,
        is_fresh: bool,
        tuned_gain: float = 1.0,
    ) -> StepPlan:
        """Return the plan to be in force, one of these.

        Args:
            current: the one in force, for the sessions of now.
            plain: without drafts.
            bests: the best one that drafts at every exit that was looked at, if there is any.
            first: of most tokens expected, in force where there is nothing to hold on to; None:
                the best.
            num_tried: steps with drafts that there were with about so many sessions.
            is_fresh: whether all sessions are new, so that there is nothing to hold on to.
            tuned_gain: how many times as much the one in force brings as it says, because its
                drafts are stopped in time; what others would gain thereby is not known.
        """
        self._num_looks += 1
        self._on_gain += (1.0 - ON_GAIN_MEMORY) * (MIN_ON_GAIN - self._on_gain)
        if len(plain.lens) < self._failed_at:
            self._on_gain, self._failed_at = MIN_ON_GAIN, 0
        doubt = MAX_DOUBT / (1.0 + num_tried / 2.0)
        is_on = current.lens != plain.lens
        best = max([plain, *bests.values()], key=_sure)
        others = {e: each for e, each in bests.items() if not is_on or e != current.arm}
        change_gain = MIN_CHANGE_GAIN / sqrt(len(plain.lens))
        gain = change_gain if is_on else self._on_gain + doubt
        proven = self._proven(others, (1.0 + gain) * tuned_gain * current.tokens_per_ns)
        if is_fresh:
            first = first or best
            is_better = first.expected_per_ns > (1.0 + doubt) * plain.expected_per_ns
            chosen = first if is_better else plain
        elif is_on and self._is_worse(tuned_gain * current.expected_per_ns, plain):
            chosen = self._leave(best, plain)
        elif proven is not None:
            chosen = proven
        elif is_on:
            chosen = max(current, bests.get(current.arm, current), key=_sure)
        else:
            chosen = current
        if chosen.arm != current.arm or (chosen.lens == plain.lens) == is_on:
            self._num_better.clear()
            self._num_worse = 0
        if not is_on and chosen.lens != plain.lens:
            self._on_since = self._num_looks
        return chosen

    @property
    def is_waiting(self) -> bool:
        """Whether a plan promised enough at the last look at it, but not often enough yet."""
        return any(self._num_better.values())

    def _proven(self, others: Mapping[int, StepPlan], least_rate: float) -> StepPlan | None:
        """Return the best of those that promised more than this for long enough, if any."""
        proven = []
        for arm, best in others.items():
            is_better = best.tokens_per_ns > least_rate
            num_better = self._num_better.get(arm, 0) + 1 if is_better else 0
            self._num_better[arm] = num_better
            if num_better >= NUM_IN_A_ROW:
                proven.append(best)
        return max(proven, key=_sure, default=None)

    def _is_worse(self, expected_per_ns: float, plain: StepPlan) -> bool:
        """Say whether a plan that drafts is to be left: clearly worse, or for long enough."""
        loss = plain.expected_per_ns / expected_per_ns - 1.0
        self._num_worse = self._num_worse + 1 if loss > 0.0 else 0
        return loss > MIN_OFF_LOSS or self._num_worse >= NUM_WORSE

    def _leave(self, best: StepPlan, plain: StepPlan) -> StepPlan:
        """Leave a plan that plain steps beat: for a much better one, else for those."""
        if best.tokens_per_ns > (1.0 + self._on_gain) * plain.tokens_per_ns:
            return best
        if self._num_looks - self._on_since < SHORT_STAY:
            self._on_gain = min(MAX_ON_GAIN, 2.0 * self._on_gain)
            self._failed_at = len(plain.lens)
        return plain


def _sure(plan: StepPlan) -> float:
    return plan.tokens_per_ns
