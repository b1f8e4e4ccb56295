"""Looks at plans: which draft lengths, from which arm, the sessions of a step keep to. Pure.

look      every few steps, more seldom while nobody drafts, still      step_plan, cost_reader
          more where nothing was read, and behind the step with
          which sessions come or go; one at a new session that promises
          nothing holds for others alike                               first_looks
          at each arm that sessions may draft from, with what
          each of them would have kept there                           session_files
branch    where one session decodes alone                              tree_plans
keep      until another plan is clearly better                         plan_keeper

A look takes longer than the order of drafts may wait for, so it is made behind the order, for the
step that comes next: by all that is known but the round in the making. Who comes meanwhile drafts
by the price of the plan in force. Only where there is none for such sessions is a look made at
once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

from shared.control.cost_reader import CostReader
from shared.control.first_looks import FirstLooks
from shared.control.plan_keeper import PlanKeeper
from shared.control.plan_question import PlanQuestion
from shared.control.session_files import SessionFiles
from shared.control.step_costs import StepCosts
from shared.control.step_plan import Outlook, StepPlan, StepPlanner
from shared.control.step_probes import PlanView
from shared.control.steps import SessionLoad
from shared.control.tree_plans import TreePlans
from shared.speculation.arm import is_read_out
from shared.speculation.vocabulary import Decision

# Steps between looks at the plan: so many, and half as many as there are sessions, but no more
# than these: a look at many takes longer.
REPLAN_STEPS = 1
MAX_REPLAN_STEPS = 4
# A session alone whose drafts are tuned: a look finds another arm, or that drafts do not pay.
TUNED_REPLAN_STEPS = 4
# While nobody drafts: a plain step shows little, and is short beside a look.
PLAIN_REPLAN_STEPS = 8
# Where besides nothing was read since: a look would find what the last did, but for the costs. So
# each such look in a row is followed by twice as many steps, up to so many times as many.
DEAF_REPLAN_STEPS = 32
MAX_DEAF = 8
# Looks that what was read is heard in: a plan has to be better in so many to be taken.
NUM_HEARD = 2
# Branches are sought for chains that come so near to the best plan, plain decoding included.
NEAR = 0.85
# Most drafts of the first round of sessions none of which is known: the next look is near.
FIRST_LEN = 4
# Looks for which the costs that one of them read do.
READER_LOOKS = 4
# So many times more or less sessions are another load: what a place is worth there is not known.
MAX_GROWTH = 2.0


class Planning:
    """Makes plans and holds the one in force.

    view: the plan in force and what it was chosen from; None before the first look.
    due_step: the step from which on the next look is due, if nobody comes or goes.
    trees: how plans branch.
    """

    def __init__(
        self, costs: StepCosts, sessions: SessionFiles, resume_layer: Callable[[Decision], int]
    ) -> None:
        """Take what plans are made of; there is none yet."""
        self._costs = costs
        self._sessions = sessions
        self._resume_layer = resume_layer
        self._keeper = PlanKeeper()
        self.trees = TreePlans(sessions.branch_odds)
        self.view: PlanView | None = None
        self.due_step = 0
        # For whom the plan was made, when, and how long each of them drafts.
        self._planned_keys: list[str] = []
        self._planned_step: int | None = None
        self._draft_lens: dict[str, int] = {}
        # Whether all of them are new to it: there is nothing to hold on to.
        self._is_fresh = True
        self._first_looks = FirstLooks()
        # What the next look is for.
        self._asked: PlanQuestion | None = None
        self._is_tuned = False
        self._num_looks = 0
        self._num_to_hear = 0
        self._deaf_steps = DEAF_REPLAN_STEPS
        self._reader: CostReader | None = None

    @property
    def is_drafting(self) -> bool:
        """Whether there is a plan in force by which somebody drafts."""
        return self.view is not None and self.view.is_drafting

    @property
    def arm(self) -> int:
        """That of the plan in force; 0 while there is none."""
        return self.view.plan.arm if self.view is not None else 0

    def hear(self, keys: Iterable[str]) -> None:
        """Note that something was read of these sessions, or that they may draft again.

        Of sessions that no plan was made for, as all were pinned, nothing is heard.
        """
        if self._planned_keys and set(self._planned_keys).isdisjoint(keys):
            return
        self._num_to_hear = NUM_HEARD
        if not self._sessions.is_in_vain:
            self._deaf_steps = DEAF_REPLAN_STEPS
        self.due_step = self._next_look()

    def _next_look(self) -> int:
        """Return `due_step` by all that it hangs on."""
        if self._planned_step is None:
            return 0
        half = len(self._planned_keys) // 2
        if self.is_drafting and self._is_tuned:
            return self._planned_step + TUNED_REPLAN_STEPS
        if self.is_drafting:
            return self._planned_step + min(MAX_REPLAN_STEPS, REPLAN_STEPS + half)
        num_steps = PLAIN_REPLAN_STEPS if self._num_to_hear else self._deaf_steps
        return self._planned_step + num_steps + half

    def plan(self, asked: PlanQuestion, step_index: int) -> PlanView:
        """Return the plan in force for these sessions; `look_ahead` is to follow.

        Args:
            asked: for whom.
            step_index: of the next step.
        """
        loads, self._is_tuned = asked.loads, asked.is_tuned
        view, keys = self.view, [load.key for load in loads]
        if keys != self._planned_keys:
            self._is_fresh = not any(key in self._draft_lens for key in keys)
        if view is not None and self._begins_plainly(loads):
            view = self._handed_on(view, loads)
            self._planned_keys, self._planned_step = keys, step_index
            self._is_fresh = False
        elif view is None or step_index >= self._next_look() or self._is_other_load(len(keys)):
            view = self._look(asked, keys, step_index)
        elif keys != self._planned_keys:
            view = self._handed_on(view, loads)
            self._planned_keys, self._planned_step = keys, None
        self._asked = asked
        self.due_step = self._next_look()
        return view

    def look_ahead(self, next_step_index: int) -> None:
        """Look at plans for the step behind the one that was planned last, if it is time to."""
        asked, self._asked = self._asked, None
        if asked is not None and next_step_index >= self.due_step:
            self._look(asked, self._planned_keys, next_step_index)
            self.due_step = self._next_look()

    def _begins_plainly(self, loads: Sequence[SessionLoad]) -> bool:
        """Whether this is a new session like others, where none drafted, that promised nothing."""
        if len(loads) > 1 or not self._is_fresh or self.is_drafting:
            return False
        if not self._sessions.is_in_vain:
            return False
        return self._first_looks.are_plain(loads[0], self._sessions.blank_prior(loads[0].key))

    def _is_other_load(self, num_sessions: int) -> bool:
        """Whether the plan in force is none to go by: of many more or less, or a plain one."""
        num_planned = len(self._planned_keys)
        if self._is_fresh and not self.is_drafting:
            return True
        return not num_planned <= MAX_GROWTH * num_sessions <= MAX_GROWTH**2 * num_planned

    def _handed_on(self, view: PlanView, loads: Sequence[SessionLoad]) -> PlanView:
        """Return the plan in force for other sessions, about as many."""
        plan, plain = view.plan, view.plain
        for load in loads:
            if load.key not in self._draft_lens:
                self._draft_lens[load.key] = self._first_len(load, plan)
        self.view = PlanView(
            plan._replace(
                lens=tuple(self._draft_lens[load.key] for load in loads),
                step_ns=plan.step_ns * len(loads) / len(plan.lens),
                tree=None,
            ),
            plain._replace(lens=tuple(map(_fixed_len, loads))),
            (),
        )
        return self.view

    def _first_len(self, load: SessionLoad, plan: StepPlan) -> int:
        """Return what a session drafts that comes to a plan."""
        if not load.is_free:
            return _fixed_len(load)
        if self._is_fresh:
            return min(FIRST_LEN, plan.max_len, load.wished.max_draft_len)
        outlook = self._sessions.outlook(load, plan.arm, self._resume_layer)
        return self._held_len(load, outlook)

    def _look(self, asked: PlanQuestion, keys: list[str], step_index: int) -> PlanView:
        """Look at plans; return the one that is in force from this step on."""
        loads, view = asked.loads, self.view
        is_fresh, self._is_fresh = self._is_fresh, False
        if not is_fresh and not self._num_to_hear:
            self._deaf_steps = min(2 * self._deaf_steps, MAX_DEAF * DEAF_REPLAN_STEPS)
        self._planned_keys, self._planned_step = keys, step_index
        arms = _arms_of(loads)
        current_arm = view.plan.arm if view is not None else -1
        if current_arm not in arms:
            current_arm = arms[0]
        is_all = is_fresh or len(loads) == 1
        looked_at = self._looked_at(arms, current_arm, is_all=is_all)
        planners = self._planners(loads, looked_at, asked.overhead_ns)
        planner = planners[current_arm]
        plain = planner.rate_plain()
        found = {arm: each.under_caps(plain) for arm, each in planners.items()}
        bests = {arm: max(plans, key=_sure) for arm, plans in found.items() if plans}
        unheard = {arm for arm in bests if self._sessions.is_unheard(loads, arm)}
        known = (plans for arm, plans in found.items() if arm not in unheard)
        held = planner.rate(list(map(self._held_len, loads, planner.outlooks)))
        if len(loads) == 1 and loads[0].max_nodes:
            bests = self._branched(loads[0], planners, bests, plain)
            held = self.trees.branched(loads[0], planner, held)
        plan = self._keeper.choose(
            held,
            plain,
            {
                arm: best
                for arm, best in bests.items()
                if arm not in unheard and not self._is_stale(loads, arm)
            },
            _most_expected([plain, *chain(*known)]) if is_fresh else None,
            num_tried=asked.num_tried,
            is_fresh=is_fresh,
            tuned_gain=asked.tuned_gain,
        )
        if is_fresh and len(loads) == 1:
            prior = self._sessions.blank_prior(loads[0].key)
            if prior is not None:
                self._first_looks.note(loads[0], prior, is_plain=plan.lens == plain.lens)
        # What promises nothing now is not asked again: else it would be, at the next look or two.
        self._num_to_hear = max(0, self._num_to_hear - 1) if self._keeper.is_waiting else 0
        for load, draft_len in zip(loads, plan.lens, strict=True):
            self._draft_lens[load.key] = draft_len
        self.view = PlanView(plan, plain, found.get(plan.arm, []), bests)
        return self.view

    def _branched(
        self,
        load: SessionLoad,
        planners: Mapping[int, StepPlanner],
        chains: Mapping[int, StepPlan],
        plain: StepPlan,
    ) -> dict[int, StepPlan]:
        """Return the best plans that draft from each arm, after another look at branches."""
        bests = dict(chains)
        least = NEAR * max(each.expected_per_ns for each in (plain, *chains.values()))
        for arm, best in chains.items():
            if is_read_out(arm) and best.expected_per_ns >= least:
                self.trees.look(load, planners[arm], best)
                bests[arm] = self.trees.branched(load, planners[arm], best)
        return bests

    def _looked_at(self, arms: Sequence[int], current_arm: int, *, is_all: bool) -> Sequence[int]:
        """Return the arms to plan for: all, or that in force and the others by turns."""
        self._num_looks += 1
        others = [each for each in arms if each != current_arm]
        if is_all or not others:
            return arms
        return [current_arm, others[self._num_looks % len(others)]]

    def _is_stale(self, loads: Sequence[SessionLoad], arm: int) -> bool:
        """Say whether a session that drafts alone has not been read at an arm of late.

        Text is easy and hard by turns, for all arms alike: one that was last read where it was
        easy looks better than the one in use, for no other reason.
        """
        if len(loads) > 1 or self.view is None or not self.view.is_drafting:
            return False
        # The one in use shows itself, and its length is free to change.
        if arm == self.view.plan.arm:
            return False
        evidence = self._sessions.evidence(loads[0].key)
        return evidence is not None and evidence.is_stale(arm)

    def _planners(
        self, loads: Sequence[SessionLoad], arms: Sequence[int], overhead_ns: float
    ) -> dict[int, StepPlanner]:
        """Return a planner for each of these arms, at the costs of now."""
        if self._reader is None or self._num_looks % READER_LOOKS == 0:
            self._reader = self._costs.reader()
        planners = {}
        for arm in arms:
            outlooks = [self._sessions.outlook(load, arm, self._resume_layer) for load in loads]
            planners[arm] = StepPlanner(self._reader, outlooks, overhead_ns, arm)
        return planners

    def _held_len(self, load: SessionLoad, outlook: Outlook) -> int:
        """Return a session's length under the plan in force; who joins takes what it pays for."""
        if outlook.is_fixed or not outlook.kept:
            return len(outlook.kept)
        draft_len = self._draft_lens.get(load.key)
        if draft_len is None:
            if self.view is None or not self.view.is_drafting:
                return 0
            plan = self.view.plan
            draft_len = sum(worth >= plan.price for worth in outlook.worth[: plan.max_len])
        return min(draft_len, len(outlook.kept))

    def forget_costs(self) -> None:
        """Let the next look read costs anew: they are others at another load."""
        self._reader = None

    def forget(self, key: str) -> None:
        """Forget a session that ended; unknown keys are fine."""
        self._draft_lens.pop(key, None)
        self._asked = None


def _sure(plan: StepPlan) -> float:
    return plan.tokens_per_ns


def _fixed_len(load: SessionLoad) -> int:
    """Return what a session drafts while nobody does but those that are pinned."""
    return load.wished.max_draft_len if load.is_pinned else 0


def _most_expected(plans: Sequence[StepPlan]) -> StepPlan:
    return max(plans, key=lambda plan: plan.expected_per_ns)


def _arms_of(loads: Sequence[SessionLoad]) -> list[int]:
    """Return the arms that a plan may be made for; 0, each session's own, where none is free."""
    free = [load for load in loads if load.is_free]
    return sorted({arm for load in free for arm in load.arms}) or [0]
