"""Steps in which nothing is decided anew: nobody drafts, nobody came or went, no look is due. Pure.

    look | quiet ........... quiet | look | quiet ..

A plain step shows next to nothing, and on a small model deciding it again takes a share of it that
shows in tokens per second. So what was decided plainly holds for the same loads until the next look
at plans is due; what is tried now and then begins with one of these.
"""

from collections.abc import Sequence

from shared.control.steps import SessionLoad
from shared.speculation.vocabulary import Decision


class QuietSteps:
    """The last plain decisions, as long as nothing is due."""

    def __init__(self) -> None:
        """Begin with nothing decided."""
        self._loads: Sequence[SessionLoad] | None = None
        self._decisions: list[Decision] = []
        self._free_keys: tuple[str, ...] = ()
        # The step before which nothing is due, as far as was asked.
        self.until_step = 0

    @property
    def holds(self) -> bool:
        """Whether anything holds."""
        return self._loads is not None

    @property
    def free_keys(self) -> tuple[str, ...] | None:
        """The sessions of which there is something to decide; None where nothing holds."""
        return None if self._loads is None else self._free_keys

    def begin(
        self, loads: Sequence[SessionLoad], decisions: list[Decision], until_step: int = 0
    ) -> None:
        """Let decisions hold for these loads, if all are plain; see `until_step`."""
        if all(each.is_off for each in decisions):
            self._loads, self._decisions = loads, decisions
            self._free_keys = tuple(load.key for load in loads if load.is_free)
            self.until_step = until_step

    def end(self) -> None:
        """Let nothing hold: the next step is decided anew."""
        self._loads = None

    def decisions(self, loads: Sequence[SessionLoad]) -> list[Decision] | None:
        """Return what holds for loads; None: it is to be decided."""
        return self._decisions if loads == self._loads else None
