"""What steps teach, handed to whoever keeps it. Pure.

evidence   of every session, and whether its text has changed     session_files
costs      of drafts, passes and reads                            step_lessons
branches   what they brought                                      tree_plans
speed      as delivered: to the sessions' guards, to the arbiter  session_files, arbiter

Plain steps like those before them are learned of together       plain_batch
"""

from typing import NamedTuple

from shared.control.arbiter import Arbiter, level_of
from shared.control.plain_batch import PlainBatch
from shared.control.planning import Planning
from shared.control.session_files import SessionFiles
from shared.control.step_lessons import StepLessons
from shared.control.step_plan import StepPlan
from shared.control.steps import StepOutcome, ns_of


class StepAim(NamedTuple):
    """What a step was for.

    followed: the plan in force, where the step followed it as it is.
    is_probe: whether it tried something beside that; is_plain_probe: to be plain.
    """

    followed: StepPlan | None = None
    is_probe: bool = False
    is_plain_probe: bool = False


class StepLearning:
    """Owned by the governor, whose parts it teaches."""

    def __init__(
        self, sessions: SessionFiles, planning: Planning, lessons: StepLessons, arbiter: Arbiter
    ) -> None:
        """Take whom to teach."""
        self._sessions = sessions
        self._planning = planning
        self._lessons = lessons
        self._arbiter = arbiter
        self._batch = PlainBatch()
        self._num_tried: dict[int, int] = {}

    def num_tried(self, level: int) -> int:
        """Return the steps with drafts by a plan, in force or tried, at a level of load."""
        return self._num_tried.get(level, 0)

    def note(self, outcome: StepOutcome, aim: StepAim, *, may_wait: bool) -> frozenset[str]:
        """Learn from a step.

        Args:
            outcome: what it did and took.
            aim: what it was for.
            may_wait: whether nothing is decided anew: if the step is bare, it is learned of with
                those that follow.

        Returns:
            The sessions whose text was found to have changed.
        """
        if may_wait and self._batch.add(outcome):
            if self._batch.is_full:
                self.settle()
            return frozenset()
        self.settle()
        return self._learn(outcome, aim)

    def settle(self) -> None:
        """Learn of steps that wait; nothing was read in them, so none can alarm."""
        outcome = self._batch.take()
        if outcome is not None:
            self._learn(outcome, StepAim())

    def _learn(self, outcome: StepOutcome, aim: StepAim) -> frozenset[str]:
        off_arm = self._planning.arm
        alarms = frozenset(
            each.key for each in outcome.rounds if self._sessions.note(each, off_arm)
        )
        read = [each.key for each in outcome.rounds if each.observation and each.observation.reads]
        if read:
            self._planning.hear(read)
        if outcome.teaches:
            if outcome.rounds:
                self._note_tree(outcome, aim.followed)
                if outcome.read_ns or outcome.has_draft_reads:
                    part_ns = (outcome.draft_ns + outcome.pass_ns) / len(outcome.rounds)
                    self._sessions.note_reads(self._lessons.read_ns(outcome), part_ns)
            branched = self._lessons.note(outcome)
            if branched is not None:
                self._planning.trees.note_draft(*branched)
            if outcome.rounds and not outcome.num_prefill_rows:
                self._note_speed(outcome, aim)
        return alarms

    def _note_tree(self, outcome: StepOutcome, plan: StepPlan | None) -> None:
        """Let the plan learn of the round of a session alone that might branch."""
        each = outcome.rounds[0]
        if plan is not None and each.decision.tree is not None and each.num_drafted:
            self._planning.trees.note(plan, each)

    def _note_speed(self, outcome: StepOutcome, aim: StepAim) -> None:
        """Tell the arbiter of steps as planned and of plain ones; learn the overhead of a step."""
        ns = ns_of(outcome)
        if ns <= 0:
            return
        self._lessons.note_overhead(outcome)
        num_sessions = len(outcome.rounds)
        num_tokens = sum(each.num_emitted for each in outcome.rounds)
        num_drafting = sum(each.num_drafted > 0 for each in outcome.rounds)
        plain_ns = self._lessons.plain_ns(num_sessions)
        self._lessons.note_mode(outcome.num_steps, is_plain=not num_drafting)
        if self._sessions.note_times(outcome.rounds, ns - outcome.read_ns, plain_ns):
            self._planning.hear(each.key for each in outcome.rounds)
        if num_drafting:
            level = level_of(num_sessions)
            self._num_tried[level] = self._num_tried.get(level, 0) + 1
        if not num_drafting:
            self._arbiter.note_plain(num_sessions, num_tokens, ns, is_probe=aim.is_plain_probe)
        elif not aim.is_probe and self._planning.is_drafting:
            self._arbiter.note_drafting(num_sessions, num_tokens, ns)
