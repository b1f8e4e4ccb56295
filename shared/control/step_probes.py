"""What a step tries beside the plan, so that what the plan does not show stays known. Pure.

    plain    one plain step while drafting: what it takes; feeds the arbiter
    trial    one step with the best plan under the next shorter or longer cap; while plain, with
             the best plan that drafts: what its rows take, and what all sessions would accept
    draft    one session drafts some places longer than planned: whether they would be accepted

Each comes so seldom that what it is predicted to lose stays under PROBE_LOSS of the time. A trial
stretches a step to at most MAX_STRETCH times, and is left out where it would lose a lot.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from shared.control.step_plan import StepPlan

PROBE_LOSS = 0.003
MIN_STEPS = 8
MAX_STEPS = 1024
# Steps of a process before plans are probed: the first one is to be known before.
FIRST_STEPS = 16
# While plain, the first trials at a level of load come MIN_STEPS apart.
NUM_COLD_TRIALS = 4
# Steps between drafts of single sessions while their kind is hardly known.
COLD_STEPS = 4
MAX_MORE_PLACES = 3
# After a draft that was kept where that was unlikely, the next one comes so soon.
FOLLOW_UP_STEPS = 4
UNLIKELY = 0.4
MAX_STRETCH = 2.0
MIN_TRIAL_RATE = 0.7
# What a trial is taken to lose at least: its prediction may be off.
MIN_TRIAL_LOSS = 0.05


@dataclass(frozen=True, slots=True)
class PlanView:
    """The plan in force and what is beside it, for the same sessions.

    under_caps: the best plans that draft, shortest first.
    """

    plan: StepPlan
    plain: StepPlan
    under_caps: Sequence[StepPlan]

    @property
    def is_drafting(self) -> bool:
        """Whether the plan drafts beyond what is pinned."""
        return self.plan.lens != self.plain.lens

    def trials(self) -> list[StepPlan]:
        """Return plans near the one in force that may be tried."""
        if not self.is_drafting:
            near = sorted(self.under_caps, key=lambda plan: -plan.tokens_per_ns)[:1]
        else:
            shorter = [plan for plan in self.under_caps if plan.max_len < self.plan.max_len]
            longer = [plan for plan in self.under_caps if plan.max_len > self.plan.max_len]
            near = [*shorter[-1:], *longer[:1]]
        return [
            plan
            for plan in near
            if plan.tokens_per_ns >= MIN_TRIAL_RATE * self.plan.tokens_per_ns
            and plan.step_ns <= MAX_STRETCH * self.plan.step_ns
        ]


class StepProbes:
    """Says when to probe what. Steps are counted by the caller."""

    def __init__(self) -> None:
        """Probe nothing at once: first the plan in force is to be known."""
        self._plain_step = FIRST_STEPS
        self._trial_step = FIRST_STEPS
        self._num_trials = 0
        self._num_to_wait = 0
        self._draft_step = 0
        self._num_drafts = 0
        self._follow_up_key = ""

    def is_plain_due(self, step_index: int, view: PlanView, *, is_doubtful: bool) -> bool:
        """Say whether this step is to be plain; if so, the next such is set.

        Args:
            step_index: of this step.
            view: of the plan in force.
            is_doubtful: whether measured speed puts the plan in doubt: ask sooner.
        """
        if not view.is_drafting:
            self._plain_step = max(self._plain_step, step_index + MIN_STEPS)
            return False
        if step_index < self._plain_step:
            return False
        loss = 0.0 if is_doubtful else _loss(view.plan, view.plain)
        self._plain_step = step_index + num_steps_for(loss)
        return True

    def due_trial(self, step_index: int, view: PlanView, num_tried: int) -> StepPlan | None:
        """Return the plan to try in this step, if any; if so, the next such is set.

        Args:
            step_index: of this step.
            view: of the plan in force.
            num_tried: steps with drafts that there were with about so many sessions.
        """
        is_cold = num_tried < NUM_COLD_TRIALS and not view.is_drafting
        if step_index < self._trial_step - is_cold * self._num_to_wait:
            return None
        trials = view.trials()
        if not trials:
            return None
        self._num_trials += 1
        trial = trials[self._num_trials % len(trials)]
        least = MIN_TRIAL_LOSS * trial.step_ns / view.plan.step_ns
        num_steps = num_steps_for(max(least, _loss(view.plan, trial)))
        self._trial_step = step_index + num_steps
        self._num_to_wait = num_steps - MIN_STEPS
        return trial

    def is_draft_due(self, step_index: int) -> bool:
        """Say whether a single session may draft longer in this step."""
        return step_index >= self._draft_step

    def num_more_places(self) -> int:
        """Return how many places longer than planned a single session drafts; in turn."""
        self._num_drafts += 1
        return 1 + self._num_drafts % MAX_MORE_PLACES

    def take_follow_up(self) -> str:
        """Return the session to ask again, once; empty if there is none."""
        key, self._follow_up_key = self._follow_up_key, ""
        return key

    def note_draft_probe(self, step_index: int, loss: float, *, is_cold: bool) -> None:
        """Set when the next single session drafts longer, by the share of a step that one loses."""
        self._draft_step = step_index + (COLD_STEPS if is_cold else num_steps_for(loss))

    def follow_up(self, step_index: int, key: str, likelihood: float) -> None:
        """Take a probe whose drafts were all kept; ask again soon if that was unlikely."""
        if likelihood < UNLIKELY:
            self._follow_up_key = key
            self._draft_step = step_index + FOLLOW_UP_STEPS


def num_steps_for(loss: float) -> int:
    """Return how many steps lie between probes that lose so much of a step each."""
    return max(MIN_STEPS, min(MAX_STEPS, int(loss / PROBE_LOSS)))


def _loss(plan: StepPlan, probe: StepPlan) -> float:
    """Return what a probe loses, in steps of the plan."""
    return (1.0 - probe.tokens_per_ns / plan.tokens_per_ns) * probe.step_ns / plan.step_ns
