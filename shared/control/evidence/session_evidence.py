"""What one session showed of all its exits: the evidence that policies decide by. Pure.

    observation ──► tape      last positions, for replay
                ├─► rounds    virtual rounds: decayed counts by place
                └─► alarm     the text has changed: what was counted is worth little
    prior + counts ──► survival(exit): the chance that the first j drafts are kept

The prior fades with the session, and is as good as gone after an alarm. What holds for exits that
are early read-outs of the target holds as well for a method seen only in rounds of its own: what
was not read cuts virtual rounds, and is counted for nothing.
"""

from collections.abc import Sequence

from shared.control.evidence.change_alarm import ChangeAlarm
from shared.control.evidence.observation import Observation
from shared.control.evidence.prior import PlaceTotals, Prior
from shared.control.evidence.saved_counts import pack_counts, unpack_counts
from shared.control.evidence.survival import NUM_PLACES, Survival, estimate_survival
from shared.control.evidence.tape_ring import TapeRing
from shared.control.evidence.virtual_rounds import MEMORY, VirtualRounds

# n never falls below this, and falls to it at an alarm.
LEAST_WEIGHT = 4.0
# What counts weigh after an alarm, and those of an earlier turn.
ALARM_WEIGHT = 0.25
# Positions after which the chances of exits that were not read are told anew, for their fading.
REFRESH_POSITIONS = 64
# Positions behind which what an exit showed is not compared with what another shows now.
RECENT_POSITIONS = 16
CARRIED_WEIGHT = 0.5


class SessionEvidence:
    """Of one session, from its first position to its end. Exits are known by their layer."""

    def __init__(self, exits: Sequence[int], prior: Prior, carried: bytes | None = None) -> None:
        """Begin with belief and with what an earlier turn left.

        Args:
            exits: those that may draft; others are taken in when they are read.
            prior: what is believed of the session.
            carried: `save()` of an earlier turn; exits that are not among these are dropped.

        Raises:
            ValueError: the earlier state is corrupt or foreign; begin without it.
        """
        self.exits = tuple(exits)
        self.prior = prior
        self.tape = TapeRing(exits)
        self.num_alarms = 0
        # Positions at the last alarm, behind which the text is another one.
        self.changed_at = 0
        self._rounds = VirtualRounds(exits)
        self._alarm = ChangeAlarm(prior)
        self._flushed = PlaceTotals()
        # What was told of an exit and so many places, until something new is known of it.
        self._survival: dict[int, dict[int, Survival]] = {}
        self._num_refreshed = 0
        if carried is not None:
            self.adopt(carried=carried)

    @property
    def num_positions(self) -> int:
        """Positions committed since the session began, read or not."""
        return self.tape.num_positions

    @property
    def totals(self) -> PlaceTotals:
        """All counts since the session began, never decayed; not to be changed."""
        return self._rounds.totals

    def note(self, observation: Observation, exit_in_use: int | None) -> bool:
        """Take a round.

        Args:
            observation: what its exits showed.
            exit_in_use: the exit that drafts; of an off session the best candidate, or None.

        Returns:
            Whether the text was found to have changed: a burst of full shadow is due.

        Raises:
            ValueError: an exit's reads are not one per position.
        """
        self._rounds.note(observation)
        self.tape.note(observation)
        # Where nothing was read nothing has changed that anybody could tell.
        has_changed = bool(observation.reads) and self._alarm.note(
            observation, self.tape, exit_in_use
        )
        if has_changed:
            self.num_alarms += 1
            self.changed_at = self.num_positions
            self._rounds.fade(ALARM_WEIGHT)
        self._forget_told(observation, is_all=has_changed)
        return has_changed

    def _forget_told(self, observation: Observation, *, is_all: bool) -> None:
        """Let chances be told anew of exits that were read; at times of those that only faded."""
        num_refreshed = self.num_positions // REFRESH_POSITIONS
        if is_all or num_refreshed != self._num_refreshed:
            self._survival.clear()
            self._num_refreshed = num_refreshed
        for exit_layer in observation.reads:
            self._survival.pop(exit_layer, None)

    def survival(self, exit_layer: int, num_places: int = NUM_PLACES) -> Survival:
        """Return the chances of drafts from an exit; of one never read, what is believed.

        The same object as long as nothing new is known.
        """
        told = self._survival.setdefault(exit_layer, {})
        if num_places not in told:
            told[num_places] = estimate_survival(
                self._rounds.reached(exit_layer),
                self._rounds.matched(exit_layer),
                self.prior.rates_of(exit_layer),
                self._prior_weight(exit_layer),
            ).places(num_places)
        return told[num_places]

    @property
    def is_blank(self) -> bool:
        """Whether nothing of any exit was counted, here or in an earlier turn."""
        return not any(any(self._rounds.reached(each)) for each in self._rounds.exits)

    def knows(self, exit_layer: int) -> bool:
        """Say whether an exit was ever counted, here or in sessions before this one."""
        return (exit_layer in self.prior.rates and self.prior.is_known) or any(
            self._rounds.reached(exit_layer)
        )

    def is_stale(self, exit_layer: int) -> bool:
        """Say whether the last positions do not show an exit; a young session has too few."""
        is_young = self.num_positions < RECENT_POSITIONS
        return not is_young and self.tape.recent(exit_layer, RECENT_POSITIONS)[0] == 0

    def adopt(self, prior: Prior | None = None, carried: bytes | None = None) -> None:
        """Take belief or an earlier turn's state that came late, as if it had been there at first.

        Raises:
            ValueError: the earlier state is corrupt or foreign; nothing was taken.
        """
        counts = unpack_counts(carried) if carried is not None else {}
        weight = CARRIED_WEIGHT * MEMORY**self.num_positions * ALARM_WEIGHT**self.num_alarms
        for exit_layer, rows in counts.items():
            if exit_layer in self.exits:
                reached, matched = ([weight * count for count in row] for row in rows)
                self._rounds.add(exit_layer, reached, matched)
        if prior is not None:
            self.prior = prior
        self._survival.clear()

    def totals_since_flush(self) -> PlaceTotals:
        """Return the whole counts that came since the last call; they are told once."""
        new = self.totals.without(self._flushed)
        self._flushed = self.totals.copy()
        return new

    def save(self) -> bytes:
        """Return the decayed counts, for the next turn."""
        return pack_counts(
            {
                exit_layer: (
                    tuple(self._rounds.reached(exit_layer)),
                    tuple(self._rounds.matched(exit_layer)),
                )
                for exit_layer in self._rounds.exits
            }
        )

    def _prior_weight(self, exit_layer: int) -> float:
        if self.num_alarms:
            return LEAST_WEIGHT
        weight = self.prior.weight_of(exit_layer) * MEMORY**self.num_positions
        return max(LEAST_WEIGHT, weight)
