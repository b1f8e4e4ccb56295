"""Whether drafting really delivers more at a load: plain steps against their neighbours. Pure.

Blind to all models. A plain step, run for this now and then, is compared with the steps with drafts
just before it, so that a machine whose pace drifts does not favour either. Per level of load:

    x     = log( tokens per ns of the plain step / of the steps before it )
    off   if mean(x) - 2 * sd(x) / sqrt(count) > MIN_GAIN, for a number of tokens that doubles
          every time, then drafting is tried again
"""

from dataclasses import dataclass
from math import log, sqrt

MIN_GAIN = 0.015
NUM_NEEDED = 5
# Comparisons that the mean remembers.
MEMORY = 12
# Of the steps before a comparison.
RECENT = 0.85
NUM_RECENT = 4
# A step that took so many times what others did counts as no more than that; e^x likewise.
MAX_STRETCH = 2.0
MAX_GAIN = 0.7
# Standard errors that a gain must exceed.
NUM_ERRORS = 2.0
# Tokens per session for which drafting stays off.
OFF_TOKENS = 256
MAX_OFF_TOKENS = 4096


def level_of(num_sessions: int) -> int:
    """Return the level of load: 1, 2, 3-4, 5-8, 9-16 sessions and so on."""
    return (num_sessions - 1).bit_length()


@dataclass(slots=True)
class _Level:
    """What was found at one level of load. off_until counts tokens."""

    count: int = 0
    mean: float = 0.0
    variance: float = 0.0
    off_until: float = 0.0
    off_tokens: float = OFF_TOKENS

    def note(self, gain: float) -> None:
        self.count += 1
        rate = 1.0 / min(self.count, MEMORY)
        off = gain - self.mean
        self.mean += rate * off
        self.variance = (1.0 - rate) * (self.variance + rate * off * off)

    @property
    def is_plain_faster(self) -> bool:
        error = sqrt(self.variance / min(self.count, MEMORY)) if self.count else 0.0
        return self.count >= NUM_NEEDED and self.mean - NUM_ERRORS * error > MIN_GAIN


class Arbiter:
    """Overrules the model of costs where measured speed says otherwise."""

    def __init__(self) -> None:
        """Begin without measurements."""
        self._levels: dict[int, _Level] = {}
        self._num_tokens = 0.0
        # Of the present level: steps with drafts since the load changed, and their recent sums.
        self._level = -1
        self._num_steps = 0
        self._tokens = 0.0
        self._ns = 0.0
        self._weight = 0.0

    def is_off(self, num_sessions: int) -> bool:
        """Whether plain steps were measured to deliver more at this load."""
        level = self._levels.get(level_of(num_sessions))
        return level is not None and self._num_tokens < level.off_until

    @property
    def num_levels_off(self) -> int:
        """Levels of load at which plain steps are in force; may be asked from any thread."""
        return sum(self._num_tokens < level.off_until for level in list(self._levels.values()))

    def doubts(self, num_sessions: int) -> bool:
        """Whether plain steps look no slower so far: worth comparing sooner."""
        level = self._levels.get(level_of(num_sessions))
        return level is not None and level.mean > 0.0

    def note_drafting(self, num_sessions: int, num_tokens: int, ns: float) -> None:
        """Take a step with drafts as planned, without prompt rows."""
        self._num_tokens += num_tokens
        if level_of(num_sessions) != self._level:
            self._level = level_of(num_sessions)
            self._num_steps, self._tokens, self._ns, self._weight = 0, 0.0, 0.0, 0.0
        self._num_steps += 1
        if self._weight:
            ns = min(ns, MAX_STRETCH * self._ns / self._weight)
        self._weight = RECENT * self._weight + 1.0
        # Per session, so that one more or less of them at the same level compares.
        self._tokens = RECENT * self._tokens + num_tokens / num_sessions
        self._ns = RECENT * self._ns + ns

    def note_plain(self, num_sessions: int, num_tokens: int, ns: float, *, is_probe: bool) -> None:
        """Take a plain step without prompt rows; `is_probe` among steps with drafts."""
        self._num_tokens += num_tokens
        same_level = level_of(num_sessions) == self._level
        if not is_probe or not same_level or self._num_steps < NUM_RECENT or num_tokens <= 0:
            return
        plain_rate = num_tokens / num_sessions / ns
        level = self._levels.setdefault(self._level, _Level())
        gain = log(plain_rate * self._ns / self._tokens)
        level.note(max(-MAX_GAIN, min(MAX_GAIN, gain)))
        if level.is_plain_faster:
            level.off_until = self._num_tokens + level.off_tokens * num_sessions
            level.off_tokens = min(2 * level.off_tokens, MAX_OFF_TOKENS)
            level.count = 0
        elif level.count >= MEMORY and level.mean < 0.0:
            level.off_tokens = OFF_TOKENS
