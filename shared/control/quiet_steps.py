"""Steps in which nothing is decided anew: nobody drafts, nobody came or went, no look is due. Pure.

    look | quiet ........... quiet | look | quiet ..

A plain step shows next to nothing, and on a small model deciding it again takes a share of it that
can be told in tokens per second. So what was decided plainly holds for some steps, for the same
loads; what is tried now and then begins behind these.
"""

from collections.abc import Sequence

from shared.control.steps import SessionLoad
from shared.speculation.vocabulary import Decision


class QuietSteps:
    """The last plain decisions, and until when they hold. Steps are counted by the caller."""

    def __init__(self) -> None:
        """Begin with nothing decided."""
        self._loads: Sequence[SessionLoad] = ()
        self._decisions: list[Decision] = []
        self._end_step = 0

    def begin(self, loads: Sequence[SessionLoad], decisions: list[Decision], end_step: int) -> None:
        """Let decisions hold for these loads in the steps before `end_step`, if all are plain."""
        is_plain = all(each.is_off for each in decisions)
        self._loads, self._decisions = loads, decisions
        self._end_step = end_step if is_plain else 0

    def decisions(self, loads: Sequence[SessionLoad], step_index: int) -> list[Decision] | None:
        """Return what holds in a step; None: it is to be decided."""
        if step_index < self._end_step and loads == self._loads:
            return self._decisions
        self._end_step = 0
        return None
