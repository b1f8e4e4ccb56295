"""Whether drafting and verifying overlap, or all sessions share one larger batch. Pure.

Overlapped, the draft worker drafts for one half of the sessions while the verify worker verifies
the other. Where passes are bound by memory, two halves read the weights twice and one batch is
faster; where they are bound by computing on a device that runs both at once, overlap is. So it is
measured, at each load by itself, on delivered tokens per second:

    steps     .. [ NUM_STEPS as now ][ NUM_STEPS the other way ][ NUM_STEPS as now ] ..

The other way stays if it delivered more than both its neighbours by `MARGIN`. A lost trial doubles
the time to the next one, so that what trials cost tends to nothing.
"""

from dataclasses import dataclass
from enum import Enum

NUM_STEPS = 24
MARGIN = 1.03
# Steps at one load before its first trial, and most between two.
FIRST_WAIT = 200
MAX_WAIT = 51_200


class Overlap(Enum):
    """What a setting may ask for."""

    AUTO = "auto"
    ON = "on"
    OFF = "off"


@dataclass(slots=True)
class _Window:
    """Tokens and time of a run of steps."""

    num_steps: int = 0
    num_emitted: int = 0
    elapsed_ns: int = 0

    def add(self, num_emitted: int, elapsed_ns: int) -> None:
        """Count a step."""
        self.num_steps += 1
        self.num_emitted += num_emitted
        self.elapsed_ns += elapsed_ns

    @property
    def is_full(self) -> bool:
        """Whether it has all its steps."""
        return self.num_steps >= NUM_STEPS

    @property
    def speed(self) -> float:
        """Tokens per ns."""
        return self.num_emitted / self.elapsed_ns if self.elapsed_ns else 0.0


@dataclass(slots=True)
class _Level:
    """What is known at one load."""

    is_overlapped: bool = False
    wait: int = FIRST_WAIT
    num_waited: int = 0


class OverlapChooser:
    """Decides step by step; owned by one thread."""

    def __init__(self, wish: Overlap = Overlap.AUTO) -> None:
        """Take what the setting asks for; AUTO starts with one batch."""
        self._wish = wish
        self._levels: dict[int, _Level] = {}
        self._level = -1
        # Before, during and behind a trial; none while there is no trial.
        self._windows: list[_Window] = []

    @property
    def is_trial(self) -> bool:
        """Whether this step is run the other way, to compare."""
        return len(self._windows) == 2

    def choose(self, num_drafting: int) -> bool:
        """Say whether the next step overlaps, with so many sessions that draft."""
        if self._wish is not Overlap.AUTO:
            return self._wish is Overlap.ON
        if num_drafting < 2:
            self._windows = []
            return False
        level = num_drafting.bit_length()
        if level != self._level:
            # A trial compares like with like only.
            self._level, self._windows = level, []
        known = self._levels.setdefault(level, _Level())
        return known.is_overlapped != self.is_trial

    def note(self, num_emitted: int, elapsed_ns: int, *, has_prefill: bool) -> None:
        """Take what the step delivered, from the last one's end to its own."""
        known = self._levels.get(self._level)
        if self._wish is not Overlap.AUTO or known is None:
            return
        if not self._windows:
            known.num_waited += 1
            if known.num_waited >= known.wait:
                self._windows = [_Window()]
        elif has_prefill:
            # Prompts make steps unlike each other.
            self._windows = []
        else:
            self._windows[-1].add(num_emitted, elapsed_ns)
            if self._windows[-1].is_full:
                self._go_on(known)

    def _go_on(self, known: _Level) -> None:
        if len(self._windows) < 3:
            self._windows.append(_Window())
            return
        before, trial, behind = (window.speed for window in self._windows)
        self._windows, known.num_waited = [], 0
        if trial > MARGIN * max(before, behind):
            known.is_overlapped = not known.is_overlapped
            known.wait = FIRST_WAIT
        else:
            known.wait = min(2 * known.wait, MAX_WAIT)
