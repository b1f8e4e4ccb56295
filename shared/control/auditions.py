"""When arms are played that nothing but rounds of their own can show. Pure.

What exits would choose is read along the text, whoever drafts. What an adapter or a skip set would
choose is known only where it drafted, so each such arm is played for some steps in a row, soon at
first, and then as seldom as keeps what that is predicted to lose under AUDITION_LOSS of the time;
one that was clearly slower time and again, even more seldom. Behind an audition its evidence is as
fresh as that of the others, and the plan may change to it.
"""

from shared.control.step_plan import StepPlan
from shared.control.step_probes import PlanView, loss_of
from shared.speculation.arm import is_read_out

AUDITION_STEPS = 6
AUDITION_LOSS = 0.004
# Steps from when an arm is first seen to its first audition.
FIRST_STEPS = 24
MAX_STEPS = 8192
# What a step of an audition is taken to lose at least: its prediction may be off.
MIN_LOSS = 0.05
# Each audition that is predicted to lose more than this a step doubles the distance to the next, so
# often at most in a row.
CLEAR_LOSS = 0.1
MAX_DOUBLED = 3


class Auditions:
    """Says when to play what. Steps are counted by the caller."""

    def __init__(self) -> None:
        """Begin with no arm heard."""
        self._due_steps: dict[int, int] = {}
        # By arm: auditions in a row at which it was clearly slower.
        self._num_slower: dict[int, int] = {}
        self._played: StepPlan | None = None
        self._num_left = 0

    def due_plan(self, step_index: int, view: PlanView) -> StepPlan | None:
        """Return the plan of the arm that plays in this step, if one does.

        Args:
            step_index: of this step.
            view: of the plan in force.
        """
        played = self._played
        if played is not None and self._num_left and len(played.lens) == len(view.plan.lens):
            self._num_left -= 1
            return played
        self._played = None
        for arm, plan in view.bests.items():
            if not is_read_out(arm) and self._is_due(arm, plan, step_index, view):
                self._played, self._num_left = plan, AUDITION_STEPS - 1
                return plan
        return None

    def _is_due(self, arm: int, plan: StepPlan, step_index: int, view: PlanView) -> bool:
        due_step = self._due_steps.setdefault(arm, step_index + FIRST_STEPS)
        is_in_use = view.is_drafting and view.plan.arm == arm
        if step_index < due_step and not is_in_use:
            return False
        step_loss = loss_of(view.plan, plan)
        is_slower = step_loss > CLEAR_LOSS and not is_in_use
        num_slower = min(MAX_DOUBLED, self._num_slower.get(arm, -1) + 1) if is_slower else 0
        self._num_slower[arm] = num_slower
        num_steps = int(AUDITION_STEPS * max(MIN_LOSS, step_loss) / AUDITION_LOSS)
        self._due_steps[arm] = step_index + min(MAX_STEPS, num_steps << num_slower)
        return not is_in_use
