"""What a step tries beside the plan, so that what the plan does not show stays known. Pure.

    plain    one plain step while drafting: what it takes; feeds the arbiter
    trial    one step with the best plan under the next shorter or longer cap; while plain, with
             the best plan that drafts: what its rows take

What drafts would bring needs no probe: every exit is read along the text. Each comes so seldom that
what it is predicted to lose stays under PROBE_LOSS of the time. While drafting a trial stretches a
step to at most MAX_STRETCH times, and is left out where it would lose a lot. While plain nothing
else would ever tell that drafts take less than is believed, so there the best plan is tried however
little it promises: a stall of the machine in a process's first steps must not turn drafts off for
good. While nobody drafts for long, trials come ever more seldom.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.control.step_plan import StepPlan

PROBE_LOSS = 0.002
MIN_STEPS = 8
MAX_STEPS = 1024
# Steps of a process before plans are probed: the first one is to be known before.
FIRST_STEPS = 16
# While plain, the first trials at a level of load come sooner: two of them MIN_STEPS apart, as the
# very first may have met a stall, and others as they lose so much, five times as much as any.
NUM_COLD_TRIALS = 8
NUM_FIRST_TRIALS = 2
COLD_LOSS = 5 * PROBE_LOSS
# So many trials in a row while plain double the distance between them, so often at most.
NUM_PLAIN_TRIALS = 4
MAX_DOUBLED = 3
MAX_STRETCH = 2.0
MIN_TRIAL_RATE = 0.7
# What a trial is taken to lose at least: its prediction may be off.
MIN_TRIAL_LOSS = 0.05


@dataclass(frozen=True, slots=True)
class PlanView:
    """The plan in force and what is beside it, for the same sessions.

    under_caps: the best plans that draft from the same arm, shortest first.
    bests: the best plan that drafts from each arm that was looked at.
    """

    plan: StepPlan
    plain: StepPlan
    under_caps: Sequence[StepPlan]
    bests: Mapping[int, StepPlan] = field(default_factory=dict)

    @property
    def is_drafting(self) -> bool:
        """Whether the plan drafts beyond what is pinned."""
        return self.plan.lens != self.plain.lens

    def trials(self) -> list[StepPlan]:
        """Return plans near the one in force that may be tried; while plain, the best one."""
        if not self.is_drafting:
            return sorted(self.under_caps, key=lambda plan: -plan.tokens_per_ns)[:1]
        near = [
            plan
            for plan in self.under_caps
            if plan.tokens_per_ns >= MIN_TRIAL_RATE * self.plan.tokens_per_ns
            and plan.step_ns <= MAX_STRETCH * self.plan.step_ns
        ]
        shorter = [plan for plan in near if plan.max_len < self.plan.max_len]
        longer = [plan for plan in near if plan.max_len > self.plan.max_len]
        return [*shorter[-1:], *longer[:1]]


class StepProbes:
    """Says when to probe what. Steps are counted by the caller."""

    def __init__(self) -> None:
        """Probe nothing at once: first the plan in force is to be known."""
        self._plain_step = FIRST_STEPS
        self._trial_step = FIRST_STEPS
        self._num_trials = 0
        # Of these, in a row while nobody drafted.
        self._num_plain_trials = 0
        self._num_to_wait = 0

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
        loss = 0.0 if is_doubtful else loss_of(view.plan, view.plain)
        self._plain_step = step_index + num_steps_for(loss)
        return True

    def due_trial(self, step_index: int, view: PlanView, num_tried: int) -> StepPlan | None:
        """Return the plan to try in this step, if any; if so, the next such is set.

        Args:
            step_index: of this step.
            view: of the plan in force.
            num_tried: steps with drafts that there were with about so many sessions.
        """
        if view.is_drafting and self._num_plain_trials:
            self._num_plain_trials = 0
            self._trial_step = min(self._trial_step, step_index + MIN_STEPS)
        is_cold = num_tried < NUM_COLD_TRIALS and not view.is_drafting
        if step_index < self._trial_step - is_cold * self._num_to_wait:
            return None
        trials = view.trials()
        if not trials:
            return None
        self._num_trials += 1
        trial = trials[self._num_trials % len(trials)]
        least = MIN_TRIAL_LOSS * trial.step_ns / view.plan.step_ns
        self._num_plain_trials += not view.is_drafting
        num_doubled = min(MAX_DOUBLED, self._num_plain_trials // NUM_PLAIN_TRIALS)
        loss = max(least, loss_of(view.plan, trial))
        num_steps = num_steps_for(loss) << num_doubled
        num_cold = num_steps_for(loss, COLD_LOSS) if num_tried >= NUM_FIRST_TRIALS else MIN_STEPS
        self._trial_step = step_index + num_steps
        self._num_to_wait = num_steps - num_cold
        return trial


def num_steps_for(loss: float, share: float = PROBE_LOSS) -> int:
    """Return how many steps lie between probes that lose so much of a step each, of all a share."""
    return max(MIN_STEPS, min(MAX_STEPS, int(loss / share)))


def loss_of(plan: StepPlan, probe: StepPlan) -> float:
    """Return what a probe is predicted to lose, in steps of the plan; below 0: what it gains."""
    return (1.0 - probe.tokens_per_ns / plan.tokens_per_ns) * probe.step_ns / plan.step_ns
