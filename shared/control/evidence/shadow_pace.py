"""How often a cell can afford to read exits that do not draft, from what that takes. Pure."""

from math import ceil

# Of a session's time, for bursts beyond its first one and those after alarms. With these it is to
# stay under a hundredth, by what reading was found to take, which is off by some percent.
MAX_SHARE = 0.009
# Of the cell's time, for first bursts and those after alarms: where sessions are short, or their
# texts uneven, these would be a third of all rounds.
MAX_GIVEN_SHARE = 0.004
# Bursts that a new cell gives beyond that share.
NUM_GIVEN_AT_FIRST = 16
# The shortest burst, in rounds, and so the shortest period: always.
MIN_BURST_ROUNDS = 4
MIN_BURST_POSITIONS = 16
COST_RATE = 0.1
# Sessions in a row that hardly drafted, behind which those to come are read more seldom: as if one
# in so many were given a first burst, and paid ones have that part of their share; half as many
# each time the row is twice as long, down to the last. A first burst is parted among sessions then,
# the fewest rounds to each: a whole one was felt, 3 % of a short text.
NUM_IN_VAIN = 8
NUM_SHARING = 4
MAX_SHARING = 16
# Of a session's rounds, for it to have hardly drafted: trials alone are fewer.
FEW_DRAFTS = 1 / 16


class ShadowPace:
    """Costs of rounds and of their shadow, shared by the sessions of a cell, and their sums."""

    __slots__ = (
        "_num_in_vain",
        "busy_us",
        "given_us",
        "level",
        "paid_us",
        "round_us",
        "shadow_us",
    )

    def __init__(self) -> None:
        """Begin without costs: no period is known."""
        self.shadow_us: float | None = None
        self.round_us = 0.0
        # Of all rounds noted, of bursts that were given, and of shadow outside of these.
        self.busy_us = 0.0
        self.given_us = 0.0
        self.paid_us = 0.0
        # Of load, at present; in how many sessions in a row reading was in vain at each: that
        # nobody drafts among many says nothing of one.
        self.level = 0
        self._num_in_vain: dict[int, int] = {}

    def note_cost(self, shadow_us: float, round_us: float) -> None:
        """Take what full shadow added to one session's round, and what the round took.

        Where sessions share steps, both are one session's part: the step's time divided by the
        sessions in it.

        Raises:
            ValueError: the shadow's time is negative, or the round's is not positive.
        """
        if shadow_us < 0.0 or round_us <= 0.0:
            raise ValueError(f"a round of {round_us} us cannot have a shadow of {shadow_us} us")
        if self.shadow_us is None:
            self.shadow_us, self.round_us = shadow_us, round_us
            return
        self.shadow_us += COST_RATE * (shadow_us - self.shadow_us)
        self.round_us += COST_RATE * (round_us - self.round_us)

    def note_end(self, num_rounds: int, num_drafting: int) -> None:
        """Take a session that could have drafted, and in how many of its rounds it did."""
        is_in_vain = num_drafting <= FEW_DRAFTS * num_rounds
        before = self._num_in_vain.get(self.level, 0)
        self._num_in_vain[self.level] = before + 1 if is_in_vain else 0

    @property
    def num_sharing(self) -> int:
        """Sessions that share what one is read where drafts are made; 1: each has its own."""
        num_rows = self._num_in_vain.get(self.level, 0) // NUM_IN_VAIN
        return min(MAX_SHARING, NUM_SHARING << (num_rows.bit_length() - 1)) if num_rows else 1

    @property
    def first_positions(self) -> int:
        """Positions that a first burst has at least."""
        return MIN_BURST_POSITIONS if self.num_sharing == 1 else MIN_BURST_ROUNDS

    @property
    def num_sharing_first(self) -> int:
        """Sessions of which one is given a first burst."""
        return max(1, self.num_sharing * self.first_positions // MIN_BURST_POSITIONS)

    @property
    def max_share(self) -> float:
        """Of its time, what a session that begins now may spend on paid bursts."""
        return MAX_SHARE / self.num_sharing

    def period(self, max_share: float = MAX_SHARE) -> int | None:
        """Return the rounds from one burst to the next; None before any cost is known."""
        if self.shadow_us is None:
            return None
        paid_us = MIN_BURST_ROUNDS * self.shadow_us
        return max(MIN_BURST_ROUNDS, ceil(paid_us / (max_share * self.round_us)))

    @property
    def may_give(self) -> bool:
        """Whether the cell can afford another burst without asking what it takes the session."""
        if self.shadow_us is None:
            return True
        at_first_us = NUM_GIVEN_AT_FIRST * MIN_BURST_ROUNDS * self.shadow_us
        return self.given_us <= at_first_us + MAX_GIVEN_SHARE * self.busy_us

    @property
    def is_always(self) -> bool:
        """Whether every round may be shadowed within the share."""
        return self.shadow_us is not None and self.shadow_us <= MAX_SHARE * self.round_us

    @property
    def share(self) -> float:
        """Share of time spent on shadow, all sessions together, bursts that are given left out."""
        return self.paid_us / self.busy_us if self.busy_us else 0.0
