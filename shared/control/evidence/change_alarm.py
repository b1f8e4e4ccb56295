"""Notices that a session's text has changed: a recent mean leaves the slow one. Pure.

    slow    s: fading mean of whether an exit matched, 0.985 per read, begun at the believed p[1]
    recent  w: mean of the last 24 positions, if at least 16 of them were read
    alarm   |w - s| > 3 * sqrt(max(s * (1 - s), 0.02) / 24), for the exit in use

What was counted before is then worth little, and belief of before as well.
"""

from math import sqrt

from shared.control.evidence.observation import Observation
from shared.control.evidence.prior import Prior
from shared.control.evidence.tape_ring import TapeRing

SLOW_MEMORY = 0.985
NUM_RECENT = 24
MIN_RECENT = 16
NUM_DEVIATIONS = 3.0
LEAST_VARIANCE = 0.02
# Positions from one alarm to the next.
MIN_DISTANCE = 48


class ChangeAlarm:
    """Of one session; holds a slow mean per exit and reads the recent one off the tape."""

    __slots__ = ("_last_alarm", "_slow")

    def __init__(self, prior: Prior) -> None:
        """Begin with what is believed; a guess is no belief that a text could depart from."""
        # None: not known yet, and to be taken from the first recent mean there is.
        self._slow: dict[int, float | None] = {}
        if prior.is_known:
            self._slow = {exit_layer: rates[0] for exit_layer, rates in prior.rates.items()}
        self._last_alarm = -MIN_DISTANCE

    def note(self, observation: Observation, tape: TapeRing, exit_in_use: int | None) -> bool:
        """Take a round; return whether its text is another one than before.

        Args:
            observation: the round's.
            tape: which took it already.
            exit_in_use: the exit that drafts, or of an off session the best candidate; None: no
                alarm.
        """
        for exit_layer, reads in observation.reads.items():
            slow = self._slow.get(exit_layer)
            if slow is None:
                slow = _recent_mean(tape, exit_layer)
            else:
                for read in reads:
                    if read is not None:
                        slow += (1.0 - SLOW_MEMORY) * (read.is_match - slow)
            self._slow[exit_layer] = slow
        if exit_in_use is None or tape.num_positions < self._last_alarm + MIN_DISTANCE:
            return False
        if not self._has_changed(tape, exit_in_use):
            return False
        self._last_alarm = tape.num_positions
        for exit_layer in self._slow:
            self._slow[exit_layer] = _recent_mean(tape, exit_layer)
        return True

    def _has_changed(self, tape: TapeRing, exit_layer: int) -> bool:
        slow, recent = self._slow.get(exit_layer), _recent_mean(tape, exit_layer)
        if slow is None or recent is None:
            return False
        variance = max(slow * (1.0 - slow), LEAST_VARIANCE) / NUM_RECENT
        return abs(recent - slow) > NUM_DEVIATIONS * sqrt(variance)


def _recent_mean(tape: TapeRing, exit_layer: int) -> float | None:
    num_known, num_matches = tape.recent(exit_layer, NUM_RECENT)
    return num_matches / num_known if num_known >= MIN_RECENT else None
