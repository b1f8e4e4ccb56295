"""The last plan, held for as long as steps go on like it.

Where all sessions decode plainly, nothing of a plan changes from step to step: on a small model
making it anew was felt in tokens per second. It is made anew as soon as anybody comes, goes, waits
or is killed, an exit is to be read, or the governor wants to look.
"""

from collections.abc import Sequence

from services.verify.scheduler import Plan, SchedulerLimits, is_paused, make_plan
from services.verify.session import Session
from shared.control.load_governor import LoadGovernor


class HeldPlan:
    """Owned by the engine's thread."""

    def __init__(self, limits: SchedulerLimits, governor: LoadGovernor) -> None:
        """Take what plans are made with; none is held yet."""
        self._limits = limits
        self._governor = governor
        self._plan: Plan | None = None
        # What it was made for.
        self._sessions: Sequence[Session] = ()
        self._means = (False, False)

    def next(
        self, sessions: Sequence[Session], *, has_draft_worker: bool, reads_exits: bool
    ) -> Plan:
        """Return the plan of the next pass: the one held if that will do, else see `make_plan`."""
        means = (has_draft_worker, reads_exits)
        plan = self._plan
        if plan is not None and self._goes_on(sessions, means):
            return plan
        plan = make_plan(
            sessions,
            self._limits,
            self._governor,
            has_draft_worker=has_draft_worker,
            reads_exits=reads_exits,
        )
        self._plan = plan if self._may_hold(plan, sessions) else None
        self._sessions, self._means = list(sessions), means
        return plan

    def _goes_on(self, sessions: Sequence[Session], means: tuple[bool, bool]) -> bool:
        return (
            means == self._means
            and sessions == self._sessions
            and not any(is_paused(each, self._limits) or each.is_killed() for each in sessions)
            and self._governor.goes_on()
        )

    def _may_hold(self, plan: Plan, sessions: Sequence[Session]) -> bool:
        """Say whether a plan is plain for all these, and none may wish otherwise unheard."""
        return (
            self._limits.sheds
            and len(plan.decoding) == len(sessions) > 0
            and not plan.shadow
            and not plan.drafting
            and all(_is_steady(each) for each in sessions)
        )


def _is_steady(session: Session) -> bool:
    """Say whether a session's wish is for ever plain, or is the governor's to grant.

    A policy of its own is to be heard every round. One that is killed, or whose stream is off, is
    plain for as long as that lasts.
    """
    if session.policy is not None or session.is_killed():
        return False
    is_off = session.stream is not None and session.stream.is_off
    return session.request.wished.is_off or not is_off
