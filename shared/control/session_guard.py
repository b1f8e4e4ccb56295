"""Never slower than plain for long: a session's measured rounds against plain steps. Pure.

    g <- g * (1 - (a + 1) / 64) + (t_round - (a + 1) * P1) / P1          per round with a draft
    g > 3.2 + sd(g), after 4 rounds at least: no drafts for 64 positions, g = 0

g is what drafting lost of late, in plain steps: leaky, so that it forgets within some 64 tokens, at
which a lasting loss of 5 % settles at 3.2; signed, so that what an easy passage gained pays for
the hard one behind it. The pause doubles up to 256 positions, and is 64 again after 512 positions
without another. P1 is a plain step of all sessions that shared the round's step.

Rounds differ: four tokens of one, one of the next. That alone makes g wander, by sd(g), which is
told from how rounds differed so far; a session must lose more than that to be stopped.
"""

from math import sqrt

MEMORY_POSITIONS = 64
# Plain steps: 5 % of 64 tokens.
MAX_LOSS = 3.2
FIRST_PAUSE = 64
LONGEST_PAUSE = 256
QUIET_POSITIONS = 512
# How slowly the mean and spread of rounds' losses follow.
SPREAD_RATE = 1.0 / 16.0
# Rounds before anything is turned off: two that a stall of the machine made slow say nothing.
MIN_ROUNDS = 4
# A plan takes at most four plain steps and brings a token: what a round loses beyond that was not
# the draft's doing, and one stall of the machine must not turn drafts off.
MAX_ROUND_LOSS = 3.0


class SessionGuard:
    """Turns one session's drafts off while they are measured to cost more than they bring."""

    def __init__(self) -> None:
        """Begin without loss."""
        self._loss = 0.0
        self._pause = FIRST_PAUSE
        self._num_left = 0
        self._num_quiet = 0
        self._num_trips = 0
        self._num_rounds = 0
        # Of rounds with a draft: mean loss and its variance, and mean tokens.
        self._mean: float | None = None
        self._variance = 0.0
        self._num_tokens = 1.0

    @property
    def is_off(self) -> bool:
        """Whether the session's next round must be plain."""
        return self._num_left > 0

    @property
    def loss(self) -> float:
        """What drafting lost of late, in plain steps; negative: what it gained."""
        return self._loss

    @property
    def num_trips(self) -> int:
        """How often drafts were turned off."""
        return self._num_trips

    def note_round(
        self, *, num_drafted: int, num_emitted: int, round_ns: float, plain_ns: float
    ) -> bool:
        """Take a round; return whether it turned the drafts off.

        Args:
            num_drafted: k; a plain round loses nothing and gains nothing, it only counts.
            num_emitted: a + 1, less what an end of the session cut off.
            round_ns: time from commit to commit, less what waited for prompts; 0: not known.
            plain_ns: P1, as long as a plain step takes at this load; 0: not known.
        """
        self._loss *= max(0.0, 1.0 - num_emitted / MEMORY_POSITIONS)
        if self._num_left > 0:
            self._num_left = max(0, self._num_left - num_emitted)
            return False
        self._num_quiet += num_emitted
        if self._num_quiet >= QUIET_POSITIONS:
            self._pause = FIRST_PAUSE
        if not num_drafted or round_ns <= 0 or plain_ns <= 0:
            return False
        loss = min(round_ns / plain_ns - num_emitted, MAX_ROUND_LOSS)
        self._loss += loss
        self._num_rounds += 1
        self._num_tokens += SPREAD_RATE * (num_emitted - self._num_tokens)
        mean = loss if self._mean is None else self._mean
        off_mean = loss - mean
        self._mean = mean + SPREAD_RATE * off_mean
        self._variance += SPREAD_RATE * (off_mean * off_mean - self._variance)
        # g is a sum that forgets: of that many rounds' worth of variance.
        num_rounds = MEMORY_POSITIONS / (2.0 * self._num_tokens)
        is_sure = self._loss > MAX_LOSS + sqrt(self._variance * num_rounds)
        if not is_sure or self._num_rounds < MIN_ROUNDS:
            return False
        self._trip()
        return True

    def _trip(self) -> None:
        self._num_trips += 1
        self._num_rounds = 0
        self._loss = 0.0
        self._num_left = self._pause
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        self._num_quiet = 0
