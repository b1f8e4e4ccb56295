"""Virtual rounds: every exit drafts along the tape for itself, J places a round. Pure.

Rounds begin, and bonus positions fall, where that exit would have had them, whichever exit really
drafted there, however long, and wherever it was told to stop.

    bits            1    1    0    1    1    1    0    1          J = 3
    place           1    2    3    1    2    3    -    1          - is the bonus position: no draft
    reached         x    x    x    x    x    x         x
    matched         x    x         x    x    x         x

A position at which the exit was not read cuts its round: the next one known is a first place. So
methods whose drafts are no early read-outs, and which are seen only in rounds of their own, are
counted by the same rules.
"""

from collections.abc import Iterable, Sequence

from shared.control.evidence.observation import Observation, Read
from shared.control.evidence.prior import PlaceTotals
from shared.control.evidence.survival import NUM_PLACES

# Per position: a memory of about 67 positions.
MEMORY = 0.985
# Where counts are brought back to a unit of 1, before they overflow.
MAX_UNIT = 1e12


class VirtualRounds:
    """Counts by exit and place: decayed ones per position committed, and whole ones.

    Rather than all old counts fading, every new one weighs more than those before it.
    """

    __slots__ = ("_counts", "_is_cut", "_memory", "_num_places", "_unit", "totals")

    def __init__(
        self, exits: Iterable[int], num_places: int = NUM_PLACES, memory: float = MEMORY
    ) -> None:
        """Begin without counts; exits that turn up later in observations are taken in."""
        self._num_places = num_places
        self._memory = memory
        self._unit = 1.0
        # Whether no exit is within a round: nothing was read in the last one.
        self._is_cut = True
        self.totals = PlaceTotals()
        self._counts: dict[int, _ExitCounts] = {}
        for exit_layer in exits:
            self._open(exit_layer)

    @property
    def exits(self) -> tuple[int, ...]:
        """Exit layers that counts are kept of."""
        return tuple(self._counts)

    def note(self, observation: Observation) -> None:
        """Take the positions of a round.

        Raises:
            ValueError: an exit's reads are not one per position.
        """
        units = []
        for _ in range(observation.num_positions):
            self._unit /= self._memory
            units.append(self._unit)
        if observation.reads:
            self._note_reads(observation, units)
        elif units and not self._is_cut:
            self._is_cut = True
            for counts in self._counts.values():
                counts.cut()
        if self._unit > MAX_UNIT:
            for counts in self._counts.values():
                counts.scale(1.0 / self._unit)
            self._unit = 1.0

    def _note_reads(self, observation: Observation, units: list[float]) -> None:
        self._is_cut = False
        for exit_layer in observation.reads:
            if exit_layer not in self._counts:
                self._open(exit_layer)
        for exit_layer, counts in self._counts.items():
            reads = observation.reads.get(exit_layer)
            if reads is not None:
                counts.note(reads, units)
            elif units:
                counts.cut()
        self.totals.num_positions += observation.num_positions
        self.totals.num_sessions = 1

    def reached(self, exit_layer: int) -> list[float]:
        """Return R[1] .. R[J] of an exit; zeros if it was never read."""
        return self._faded(exit_layer, is_matched=False)

    def matched(self, exit_layer: int) -> list[float]:
        """Return H[1] .. H[J] of an exit, likewise."""
        return self._faded(exit_layer, is_matched=True)

    def fade(self, weight: float) -> None:
        """Let all that was counted weigh less; the whole counts stay."""
        for counts in self._counts.values():
            counts.scale(weight)

    def add(self, exit_layer: int, reached: Sequence[float], matched: Sequence[float]) -> None:
        """Add decayed counts from elsewhere to an exit's; they belong to no whole count."""
        if exit_layer not in self._counts:
            self._open(exit_layer)
        self._counts[exit_layer].add(reached, matched, self._unit)

    def _open(self, exit_layer: int) -> None:
        self.totals.open_row(exit_layer, self._num_places)
        self._counts[exit_layer] = _ExitCounts(
            self.totals.reached[exit_layer], self.totals.matched[exit_layer]
        )

    def _faded(self, exit_layer: int, *, is_matched: bool) -> list[float]:
        counts = self._counts.get(exit_layer)
        if counts is None:
            return [0.0] * self._num_places
        unit = self._unit
        return [count / unit for count in (counts.matched if is_matched else counts.reached)]


class _ExitCounts:
    """One exit's counts, in units that grow, and where its round stands."""

    __slots__ = ("_index", "_num_places", "_total_matched", "_total_reached", "matched", "reached")

    def __init__(self, total_reached: list[float], total_matched: list[float]) -> None:
        self._num_places = len(total_reached)
        self._total_reached = total_reached
        self._total_matched = total_matched
        self.reached = [0.0] * self._num_places
        self.matched = [0.0] * self._num_places
        # Of the place that comes next, from 0; J is the bonus position.
        self._index = 0

    def note(self, reads: Sequence[Read | None], units: list[float]) -> None:
        if len(reads) != len(units):
            raise ValueError(f"{len(reads)} reads of an exit at {len(units)} positions")
        index = self._index
        for read, unit in zip(reads, units, strict=True):
            if read is None or index == self._num_places:
                index = 0
                continue
            self.reached[index] += unit
            self._total_reached[index] += 1
            if read.is_match:
                self.matched[index] += unit
                self._total_matched[index] += 1
                index += 1
            else:
                index = 0
        self._index = index

    def cut(self) -> None:
        self._index = 0

    def scale(self, weight: float) -> None:
        self.reached = [weight * count for count in self.reached]
        self.matched = [weight * count for count in self.matched]

    def add(self, reached: Sequence[float], matched: Sequence[float], unit: float) -> None:
        self.reached = [a + unit * b for a, b in zip(self.reached, reached, strict=True)]
        self.matched = [a + unit * b for a, b in zip(self.matched, matched, strict=True)]
