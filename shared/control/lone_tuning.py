"""The drafts of a session that decodes alone, tuned by its own text. Pure.

Of several sessions the plan knows what rows take beside each other. Where a threshold was wished
nobody tells chances: that is kept, and the plan's lengths with it.
"""

from collections.abc import Sequence

from shared.control.grants import tuned
from shared.control.session_files import SessionFiles
from shared.control.step_lessons import StepLessons
from shared.control.step_plan import StepPlan
from shared.control.steps import SessionLoad
from shared.control.tuning import Tuning
from shared.speculation.arm import arm_in_use
from shared.speculation.vocabulary import Decision


class LoneTuning:
    """Puts what `Tuning` finds into decisions."""

    def __init__(self, sessions: SessionFiles, lessons: StepLessons) -> None:
        """Take what is known of sessions, and of what rounds take."""
        self._sessions = sessions
        self._lessons = lessons
        self._tuning = Tuning()

    def is_tuned(self, loads: Sequence[SessionLoad], arm: int) -> bool:
        """Whether there is one session, and its drafts from an arm are tuned."""
        return len(loads) == 1 and self._tuning.is_tuned(loads[0].key, arm)

    def gain(self, loads: Sequence[SessionLoad], arm: int) -> float:
        """Return what stops bring beyond the plan, see `Tuning.gain`; 1 of several sessions."""
        return self._tuning.gain(loads[0].key, arm) if len(loads) == 1 else 1.0

    def tuned(self, load: SessionLoad, planned: Decision, plan: StepPlan) -> Decision:
        """Return a session's decision with the length and threshold that serve its text best.

        Args:
            load: the session.
            planned: what the plan has it do.
            plan: that plan, at known costs.
        """
        evidence = self._sessions.evidence(load.key)
        is_free = not planned.is_off and planned.by_chance and len(load.arms) > 0
        if evidence is None or not is_free:
            return planned
        arm = arm_in_use(planned)
        setting = self._tuning.setting(
            load.key,
            arm,
            load.sampling_class,
            load.wished.max_draft_len,
            evidence,
            lambda k: self._known_round_ns(arm, k),
        )
        return planned if setting is None else tuned(load, planned, plan, setting)

    def _known_round_ns(self, arm: int, draft_len: int) -> float:
        ns = self._lessons.round_ns(arm, draft_len)
        assert ns is not None, "who drafts by plan does so at known costs"
        return ns

    def tune(self) -> None:
        """Find the setting of the session that is due, if one is."""
        self._tuning.tune()

    def forget(self, key: str) -> None:
        """Forget a session that ended; unknown keys are fine."""
        self._tuning.forget(key)
