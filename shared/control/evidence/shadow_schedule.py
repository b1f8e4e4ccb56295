"""When all exits of a session are read, not only the one that drafts. Pure.

    given    the first burst of the session, and one after each alarm, as long as these stay within
             their share of the cell's time
    paid     one burst per period of rounds, at an offset that differs between sessions, as long as
             paid bursts stay within their share of the session's time

Where session after session did not draft, first bursts are a quarter as long, and ever fewer the
longer that goes on, and paid ones a quarter as many, likewise: what they show is next to nothing
then, and plain text waits for it.

Else a burst lasts at least 4 rounds in a row and 16 positions. What is read is fixed before the
round, from counters, costs and a hash, and never from what the session's exits showed: else the
counts would be biased.
"""

from zlib import crc32

from shared.control.evidence.shadow_pace import (
    MIN_BURST_POSITIONS,
    MIN_BURST_ROUNDS,
    ShadowPace,
)

# While nobody knows what reading takes, rounds until that is asked again.
UNKNOWN_ROUNDS = 16


class ShadowSchedule:
    """Of one session. Before each round `plan_round`, behind it `note_round`."""

    __slots__ = (
        "_burst",
        "_burst_rounds",
        "_busy_us",
        "_hash",
        "_is_asked",
        "_is_full",
        "_max_share",
        "_next_round",
        "_num_drafting",
        "_pace",
        "_paid_us",
        "_round_index",
    )

    def __init__(self, key: str, pace: ShadowPace) -> None:
        """Begin with the first burst due.

        Args:
            key: the session's id; its hash is the same in every process.
            pace: the cell's, which counts along.
        """
        self._hash = crc32(key.encode())
        self._pace = pace
        self._max_share = pace.max_share
        self._round_index = 0
        self._num_drafting = 0
        self._is_asked = False
        is_its_turn = self._hash % pace.num_sharing_first == 0
        first = _Burst(is_given=True, min_positions=pace.first_positions)
        self._burst = first if is_its_turn and pace.may_give else None
        # How long the last burst was, and so probably the next one.
        self._burst_rounds = MIN_BURST_ROUNDS
        self._next_round = -1
        self._is_full = False
        self._paid_us = 0.0
        self._busy_us = 0.0

    @property
    def share(self) -> float:
        """Share of the session's time spent on paid bursts."""
        return self._paid_us / self._busy_us if self._busy_us else 0.0

    def begin_burst(self) -> None:
        """Let a burst be given from the next round on, if the cell can afford it."""
        if self._pace.may_give:
            self._burst = _Burst(is_given=True)

    def plan_round(self, *, is_pressed: bool = False) -> bool:
        """Return whether the next round is to read all exits; may be asked again.

        Args:
            is_pressed: requests queue and passes are compute-bound: nothing is read. A burst that
                is given is put off or begun again later, any other is lost.
        """
        self._is_asked = True
        self._is_full = not is_pressed and self._is_due()
        return self._is_full

    def note_round(self, num_positions: int, *, is_drafting: bool = False) -> None:
        """Take the round that was planned last; without a plan none of its exits were read."""
        self._note(num_positions, 1)
        self._num_drafting += is_drafting

    def note_plain(self, num_rounds: int) -> None:
        """Take plain rounds of one position each: one that was planned, or several unread ones."""
        self._note(num_rounds, num_rounds)

    def _note(self, num_positions: int, num_rounds: int) -> None:
        self._busy_us += num_rounds * self._pace.round_us
        self._pace.busy_us += num_rounds * self._pace.round_us
        if self._is_full:
            self._note_full_round(num_positions)
        elif self._burst is not None:
            # Its rounds would not have been in a row.
            self._burst = self._burst.begun_again()
        self._is_full = False
        self._round_index += num_rounds

    def num_unread(self) -> int:
        """Return for how many rounds from now on, at least, nothing is to be read.

        As long as no burst is given meanwhile. 0: the next one is to be read, if anybody can: to
        ask plans nothing.
        """
        if self._is_due():
            return 0
        if self._pace.shadow_us is None:
            return UNKNOWN_ROUNDS
        return max(1, self._next_round - self._round_index)

    def note_end(self) -> None:
        """Let sessions to come be read more seldom, if this and others before it did not draft."""
        if self._is_asked and self._round_index:
            self._pace.note_end(self._round_index, self._num_drafting)

    def _note_full_round(self, num_positions: int) -> None:
        burst = self._burst = self._burst or _Burst(is_given=False)
        burst.num_rounds += 1
        burst.num_positions += num_positions
        shadow_us = self._pace.shadow_us or 0.0
        if burst.is_given:
            self._pace.given_us += shadow_us
        else:
            self._paid_us += shadow_us
            self._pace.paid_us += shadow_us
        if burst.is_over:
            self._burst_rounds = burst.num_rounds
            self._burst = None

    def _is_due(self) -> bool:
        if self._burst is not None or self._pace.is_always:
            return True
        if self._next_round < self._round_index:
            period = self._pace.period(self._max_share)
            if period is None:
                return False
            self._next_round = self._round_index + (self._hash - self._round_index) % period
        if self._next_round > self._round_index:
            return False
        wished_us = self._burst_rounds * (self._pace.shadow_us or 0.0)
        return self._paid_us + wished_us <= self._max_share * self._busy_us


class _Burst:
    """Rounds in a row that read all exits."""

    __slots__ = ("is_given", "min_positions", "num_positions", "num_rounds")

    def __init__(self, *, is_given: bool, min_positions: int = MIN_BURST_POSITIONS) -> None:
        self.is_given = is_given
        self.min_positions = min_positions
        self.num_rounds = 0
        self.num_positions = 0

    @property
    def is_over(self) -> bool:
        """Whether it is long enough."""
        is_long = self.num_positions >= self.min_positions
        return is_long and self.num_rounds >= MIN_BURST_ROUNDS

    def begun_again(self) -> "_Burst | None":
        """Return what follows on a round that was not read: another one, if this was given."""
        return _Burst(is_given=True, min_positions=self.min_positions) if self.is_given else None
