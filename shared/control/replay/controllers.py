"""What decides in a replay: a static setting, a policy per session, or the governor. Pure."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from shared.control.policies.base import SessionPolicy
from shared.control.replay.cell import StepSpend
from shared.control.replay.texts import RecordedText
from shared.control.steps import SessionLoad, StepOutcome
from shared.speculation.vocabulary import Decision

if TYPE_CHECKING:
    from shared.control.load_governor import LoadGovernor

NOTHING: frozenset[int] = frozenset()


class StaticController:
    """One setting for all sessions and rounds; off is one. Looks at nothing."""

    def __init__(self, arm: Decision) -> None:
        """Take the setting."""
        self._arm = arm

    def admit(self, key: str, text: RecordedText) -> None:
        """Nothing to learn."""

    def decide(self, loads: Sequence[SessionLoad]) -> list[Decision]:
        """Return the setting for everybody."""
        return [self._arm] * len(loads)

    def tune(self) -> None:
        """Nothing to do."""

    def reads(self, key: str, decision: Decision) -> Collection[int]:
        """Return no exit."""
        return NOTHING

    def note_step(self, outcome: StepOutcome, spend: StepSpend) -> None:
        """Nothing to learn."""

    def forget(self, key: str) -> None:
        """Nothing to forget."""


class PolicyController:
    """A policy of its own for every session; they know nothing of each other."""

    def __init__(
        self,
        make: Callable[[RecordedText], SessionPolicy],
        exits: Collection[int],
    ) -> None:
        """Take the maker of policies, which may show them the prompt, and the exits to shadow."""
        self._make = make
        self._exits = frozenset(exits)
        self._policies: dict[str, SessionPolicy] = {}

    def admit(self, key: str, text: RecordedText) -> None:
        """Make the session's policy."""
        self._policies[key] = self._make(text)

    def decide(self, loads: Sequence[SessionLoad]) -> list[Decision]:
        """Return what every policy wishes."""
        return [self._policies[load.key].wish(load.wished) for load in loads]

    def tune(self) -> None:
        """Nothing: policies of single sessions leave nothing to be done."""

    def reads(self, key: str, decision: Decision) -> Collection[int]:
        """Return all exits if the policy wants them."""
        return self._exits if self._policies[key].wants_full_shadow else NOTHING

    def note_step(self, outcome: StepOutcome, spend: StepSpend) -> None:
        """Tell every policy of its round."""
        for each in outcome.rounds:
            assert each.observation is not None
            self._policies[each.key].note(
                each.decision, each.num_drafted, each.num_accepted, each.observation
            )

    def forget(self, key: str) -> None:
        """Forget a session's policy."""
        del self._policies[key]


class GovernorController:
    """The governor, which decides for all sessions together and schedules what it wants to see."""

    def __init__(self, governor: "LoadGovernor") -> None:
        """Take the governor."""
        self.governor = governor
        # What is to be read in the step at hand, by session.
        self._shadow: Mapping[str, Collection[int]] = {}

    def admit(self, key: str, text: RecordedText) -> None:
        """Nothing: the governor meets sessions as they come."""

    def decide(self, loads: Sequence[SessionLoad]) -> list[Decision]:
        """Return what the governor decides."""
        decisions = self.governor.decide(loads)
        self._shadow = self.governor.shadow(loads, decisions)
        return decisions

    def tune(self) -> None:
        """Let the governor do what a decision left to be done."""
        self.governor.tune()

    def reads(self, key: str, decision: Decision) -> Collection[int]:
        """Return what the governor wants read; behind its last draft the exit in use with it."""
        exits = self._shadow.get(key)
        if exits is None:
            return NOTHING
        return frozenset(exits) if decision.is_off else frozenset((*exits, decision.exit_layer))

    def note_step(self, outcome: StepOutcome, spend: StepSpend) -> None:
        """Let the governor learn: from every round, and what one session's reads take of it."""
        if outcome.rounds:
            part_ns = (spend.step_ns - spend.shadow_ns) / len(outcome.rounds)
            self.governor.sessions.note_reads(spend.shadow_ns, part_ns)
        self.governor.note_step(outcome)

    def forget(self, key: str) -> None:
        """Let the governor forget."""
        self.governor.forget(key)
