"""The goodput policy: from which arm, and how long, each session drafts in the next step.

All sessions of a step share it, so what counts is what all of them together deliver. Where steps
are memory-bound (few sessions) a draft's rows are nearly free; where they are compute-bound (many)
they cost. The governor plans with what steps were measured to take and with what every arm showed
along each session's text. Pure: no clock, no randomness.

    plan      lengths from an arm, kept until others are clearly better     planning
    probe     now and then, what the plan does not show                    step_probes
    tune      length and stop threshold of a session that drafts alone     lone_tuning
    audition  arms that only rounds of their own can show                  auditions
    guard     a session that speculation made slower goes without          session_files
    arbiter   measured speed overrules the plan                            arbiter
    prompts   plain steps where prompts that ride along make drafts dear   beside_prompts
    quiet     what was decided plainly holds for some steps                quiet_steps
    lessons   what steps teach, of costs among others                      step_learning
"""

from collections.abc import Callable, Iterable, Sequence

from shared.control.arbiter import Arbiter, level_of
from shared.control.auditions import Auditions
from shared.control.beside_prompts import Riders, pays_beside_prompts
from shared.control.evidence.evidence_book import EvidenceBook
from shared.control.evidence.session_evidence import SessionEvidence
from shared.control.grants import all_plain, granted, only_one_drafts
from shared.control.lone_tuning import LoneTuning
from shared.control.plan_question import PlanQuestion
from shared.control.planning import Planning
from shared.control.quiet_steps import QuietSteps
from shared.control.session_files import SessionFiles
from shared.control.step_costs import StepCosts
from shared.control.step_learning import StepAim, StepLearning
from shared.control.step_lessons import StepLessons
from shared.control.step_plan import StepPlan
from shared.control.step_probes import PlanView, StepProbes
from shared.control.steps import SessionLoad, StepOutcome
from shared.speculation.arm import arm_in_use, at_arm
from shared.speculation.vocabulary import Decision

# A pass is bound by computing where twice the rows take so many times as long.
COMPUTE_BOUND = 1.5
# Of steps in which nothing is decided anew, one in so many is compared with what was expected.
QUIET_FORECAST_STEPS = 16


def resumes_at_exit(decision: Decision) -> int:
    """Return where verification takes up a session's rows: its exit layer."""
    return decision.exit_layer


class LoadGovernor:
    """Decides for sessions that share steps. Owned by one thread.

    Use, by the verify engine, once per step:

        decisions = governor.decide(loads, num_prompts=...)    while planning
        governor.tune()                                        behind the order of the drafts
        governor.note_step(outcome)                            behind the commit; feeds `costs` too
        governor.forget(session_id)                            when a session ends
    """

    def __init__(
        self,
        costs: StepCosts,
        resume_layer: Callable[[Decision], int] = resumes_at_exit,
        book: EvidenceBook | None = None,
    ) -> None:
        """Take the process's costs, which `note_step` feeds, and where methods verify from."""
        self.costs = costs
        self.sessions = SessionFiles(book or EvidenceBook(()))
        self._resume_layer = resume_layer
        self._planning = Planning(costs, self.sessions, resume_layer)
        self._arbiter = Arbiter()
        self._probes = StepProbes()
        self._auditions = Auditions()
        self._quiet = QuietSteps()
        self._lessons = StepLessons(costs, resume_layer)
        self._learning = StepLearning(self.sessions, self._planning, self._lessons, self._arbiter)
        self._tuning = LoneTuning(self.sessions, self._lessons)
        self._has_costs = False
        self._load_level = -1
        self._step_index = 0
        # What this step tries beside the plan.
        self._is_probing = False
        self._is_plain_probe = False
        # What this step follows as it is.
        self._followed: StepPlan | None = None

    # --- deciding -------------------------------------------------------------------------------

    def decide(self, loads: Sequence[SessionLoad], *, num_prompts: int = 0) -> list[Decision]:
        """Return each session's decision for the next step, in the order of the loads.

        A decision is the wish itself, the wish at another of the session's arms or with a smaller
        max_draft_len, or a plain one. Its reason is the wish's own where it was granted in full,
        else one of

            no_costs     plain: what a step takes is not known yet
            shorter      a shorter draft delivers more, with this many sessions
            shed         plain: drafts of this session cost more than they bring
            guard        plain: speculation has made this session slower so far
            arbiter      plain: at this load plain steps were measured to deliver more
            prompts      plain: beside the prompts that ride along drafts cost more than they bring
            tuned        another length, or a threshold: what the session's last text favours
            probe        plain, longer or not plain for this one step, to learn from it

        Pinned sessions and those that wish to be plain get their wish as it is.

        Args:
            loads: the sessions that decode in the next step.
            num_prompts: sessions whose prompts are not done; rows of these will ride along, and
                nothing is probed then.
        """
        # Steps of which nothing is decided bring no probe nearer.
        self._step_index += any(load.is_free for load in loads)
        self._is_probing = self._is_plain_probe = False
        if not num_prompts and self._step_index < self._planning.due_step:
            quiet = self._quiet.decisions(loads)
            if quiet is not None:
                return quiet
        self._learning.settle()
        self._quiet.end()
        self._followed = None
        if loads:
            self._enter_load(level_of(len(loads)))
        for load in loads:
            self.sessions.open(load)
        free = [load for load in loads if load.is_free]
        if not free:
            wished = [load.wished for load in loads]
            if not num_prompts:
                self._quiet.begin(loads, wished)
            return wished
        return self._decide_free(loads, free, num_prompts)

    def _decide_free(
        self, loads: Sequence[SessionLoad], free: Sequence[SessionLoad], num_prompts: int
    ) -> list[Decision]:
        """Decide where there is something to decide: for `free`, at least one of the loads."""
        unknown = None if self._has_costs else self._without_costs(loads, free[0])
        if unknown is not None:
            return unknown
        if self._arbiter.is_off(len(loads)):
            return all_plain(loads, "arbiter")
        num_tried = self._learning.num_tried(self._load_level)
        view = self._planning.plan(self._question(loads, num_tried), self._step_index)
        if num_prompts and not self._pays_beside_prompts(free[0], view.plan, num_prompts):
            return all_plain(loads, "prompts")
        tried = None if num_prompts else self._tried(loads, view, num_tried)
        if tried is not None:
            return tried
        # Beside the rows of prompts those of branches are dear.
        plan = view.plan._replace(tree=None) if num_prompts else view.plan
        self._followed = plan
        decisions = granted(loads, plan, plan, self.sessions.blocked(loads))
        if len(loads) == 1:
            decisions = [self._tuning.tuned(loads[0], decisions[0], plan)]
        if not num_prompts and not view.is_drafting:
            num_unread = self._num_unread(load.key for load in free)
            self._quiet.begin(loads, decisions, self._step_index + num_unread)
        return decisions

    def _enter_load(self, level: int) -> None:
        if level != self._load_level:
            self._load_level = level
            self.costs.enter_load(level)
            self.sessions.book.enter_load(level)
            self._planning.forget_costs()

    def goes_on(self) -> bool:
        """Begin a step like the last one, which was plain for everybody, unless anything is due.

        For the same sessions and no prompts. Then nothing is decided, and no exit read; else
        `decide` is to be asked. However their wishes have changed since, plain is within them.
        """
        free_keys = self._quiet.free_keys
        if free_keys is None:
            return False
        if free_keys:
            next_step = self._step_index + 1
            # Asked behind every token.
            is_due = next_step >= self._quiet.until_step or next_step >= self._planning.due_step
            if is_due and self._is_due(free_keys):
                return False
            self._step_index = next_step
        self._is_probing = self._is_plain_probe = False
        return True

    def _is_due(self, free_keys: Sequence[str]) -> bool:
        """Say whether the next step is to look or to read; if not, set when to ask again."""
        self._learning.settle()
        next_step = self._step_index + 1
        self._quiet.until_step = next_step + self._num_unread(free_keys)
        return next_step >= min(self._quiet.until_step, self._planning.due_step)

    def _num_unread(self, keys: Iterable[str]) -> int:
        """Return the plain steps, from the one that is decided on, in which nothing is read."""
        return min(map(self.sessions.book.num_unread, keys))

    def _without_costs(
        self, loads: Sequence[SessionLoad], first: SessionLoad
    ) -> list[Decision] | None:
        """Return what is done until costs are known; None once they are, which they stay."""
        if self.costs.pass_ns({0: len(loads)}) is None:
            return all_plain(loads, "no_costs")
        if self.costs.draft_ns(arm_in_use(first.wished), 1, 1) is None:
            return only_one_drafts(loads, first)
        self._has_costs = True
        return None

    def _question(self, loads: Sequence[SessionLoad], num_tried: int) -> PlanQuestion:
        arm = self._planning.arm
        return PlanQuestion(
            loads,
            self._lessons.overhead_ns,
            num_tried,
            self._tuning.is_tuned(loads, arm),
            self._tuning.gain(loads, arm),
        )

    def _tried(
        self, loads: Sequence[SessionLoad], view: PlanView, num_tried: int
    ) -> list[Decision] | None:
        """Return what this step tries beside the plan, if anything."""
        is_doubtful = self._arbiter.doubts(len(loads))
        plan = self._auditions.due_plan(self._step_index, view)
        if plan is None and self._probes.is_plain_due(
            self._step_index, view, is_doubtful=is_doubtful
        ):
            self._is_probing = self._is_plain_probe = True
            return all_plain(loads, "probe")
        is_tuned = view.is_drafting and self._tuning.is_tuned(loads, view.plan.arm)
        # Drafts that are tuned have many lengths: what near ones take is known.
        if plan is None and not is_tuned:
            plan = self._probes.due_trial(self._step_index, view, num_tried)
        if plan is None:
            return None
        self._is_probing = True
        return granted(loads, plan, view.plan, self.sessions.blocked(loads))

    def tune(self) -> None:
        """Do what a decision left to be done while drafts are in the making."""
        self._tuning.tune()
        self._planning.look_ahead(self._step_index + 1)
        self._planning.trees.search()

    def _pays_beside_prompts(self, first: SessionLoad, plan: StepPlan, num_prompts: int) -> bool:
        """Ask of a plan; without an arm of its own all are taken to draft where `first` does."""
        used = at_arm(first.wished, plan.arm or arm_in_use(first.wished))
        riders = Riders(self._lessons.num_prompt_rows, num_prompts)
        return pays_beside_prompts(
            self.costs, plan, arm_in_use(used), self._resume_layer(used), riders
        )

    def shadow(
        self, loads: Sequence[SessionLoad], decisions: Sequence[Decision]
    ) -> dict[str, tuple[int, ...]]:
        """Return by session the exits to be read in the next step, see `SessionFiles.shadow`.

        Where passes are compute-bound one session at a time is read.
        """
        if not any(load.is_free for load in loads):
            return {}
        self._learning.settle()
        most = len(loads)
        if most > 1 and self._is_compute_bound(most):
            most = 1
        return self.sessions.shadow(loads, decisions, most)

    def _is_compute_bound(self, num_sessions: int) -> bool:
        once, twice = (self.costs.pass_ns({0: n * num_sessions}) for n in (1, 2))
        return once is not None and twice is not None and twice > COMPUTE_BOUND * once

    def expected_per_ns(self, num_sessions: int) -> float | None:
        """Return the tokens that the plan expected of the last step decided, per ns.

        None where the step followed no plan, or was one of another number of sessions. Of steps in
        which nothing was decided anew one in some tells: they are alike, and it takes its time.
        """
        if self._quiet.holds and self._step_index % QUIET_FORECAST_STEPS:
            return None
        plan = self._followed
        return plan.expected_per_ns if plan and len(plan.lens) == num_sessions else None

    @property
    def num_levels_off(self) -> int:
        """Levels of load at which the arbiter keeps drafts off; may be asked from any thread."""
        return self._arbiter.num_levels_off

    def round_ns(self, arm: int, draft_len: int) -> float | None:
        """Predict a round of one session alone; None while that is not known."""
        return self._lessons.round_ns(arm, draft_len)

    # --- learning -------------------------------------------------------------------------------

    def note_step(self, outcome: StepOutcome) -> frozenset[str]:
        """Learn from a step: costs, acceptance, and delivered speed at this load.

        Steps with prefill rows teach costs and acceptance, not delivered speed. Steps without
        rounds (prompts only) may be noted too.

        What plain steps teach comes some steps later where nothing is decided anew.

        Returns:
            The sessions whose text was found to have changed.
        """
        aim = StepAim(self._followed, self._is_probing, self._is_plain_probe)
        return self._learning.note(outcome, aim, may_wait=self._quiet.holds)

    def evidence(self, key: str) -> SessionEvidence | None:
        """Return what an open session showed, up to its last step."""
        self._learning.settle()
        return self.sessions.evidence(key)

    def forget(self, key: str) -> None:
        """Forget a session that ended; unknown keys are fine."""
        self._learning.settle()
        self.sessions.forget(key)
        self._planning.forget(key)
        self._tuning.forget(key)
