"""The last positions of a session, with what each exit said there. Pure.

    position    m-256 ................. m-1        ends at the last token emitted
    bits        oldest ............. newest        known, match by exit; round starts
    confidence  one byte per exit and position, round(255 * c)

Bits live in whole numbers, the newest lowest: taking a round is a shift. Rounds in which nothing
was read are counted, and shifted in with the next that was.
"""

from collections.abc import Iterable
from re import finditer

from shared.control.evidence.observation import Observation
from shared.speculation.tape import ExitTrack

NUM_POSITIONS = 256
_MASK = (1 << NUM_POSITIONS) - 1
# What a replay looks at: the last known positions, in runs that are long enough for a round.
MAX_REPLAYED = 192
MIN_RUN = 4


class TapeRing:
    """Knows at most the last 256 positions; a session's tape ends with it."""

    __slots__ = ("_num_unread", "_round_starts", "_tracks", "num_positions")

    def __init__(self, exits: Iterable[int]) -> None:
        """Begin empty; exits that turn up later in observations are taken in."""
        # All that were ever noted, those that fell out included.
        self.num_positions = 0
        self._round_starts = 0
        # The last ones, at which nothing was read: no track has them yet.
        self._num_unread = 0
        self._tracks = {exit_layer: _Track() for exit_layer in exits}

    def __len__(self) -> int:
        """Positions held."""
        return min(self.num_positions, NUM_POSITIONS)

    def note(self, observation: Observation) -> None:
        """Take the positions of a round."""
        num_new = observation.num_positions
        if not num_new:
            return
        if observation.reads:
            starts = 1 << (num_new - 1)
            self._note_reads(observation)
        else:
            starts = (1 << num_new) - 1
            self._num_unread += num_new
        self._round_starts = ((self._round_starts << num_new) | starts) & _MASK
        self.num_positions += num_new

    def _note_reads(self, observation: Observation) -> None:
        """Take what was read, behind the positions before it at which nothing was."""
        num_new, num_unread_before = observation.num_positions, min(self._num_unread, NUM_POSITIONS)
        self._num_unread = 0
        for exit_layer in observation.reads:
            if exit_layer not in self._tracks:
                self._tracks[exit_layer] = _Track()
        for exit_layer, track in self._tracks.items():
            known, match = track.known << num_unread_before, track.match << num_unread_before
            confidences = track.confidences
            position = self.num_positions
            for read in observation.reads.get(exit_layer, ()):
                known <<= 1
                match <<= 1
                if read is not None:
                    known |= 1
                    match |= read.is_match
                    confidences[position % NUM_POSITIONS] = int(255.0 * read.confidence + 0.5)
                position += 1
            num_unread = num_new - (position - self.num_positions)
            track.known = (known << num_unread) & _MASK
            track.match = (match << num_unread) & _MASK

    def recent(self, exit_layer: int, num_positions: int) -> tuple[int, int]:
        """Return of the last positions how many the exit was read at, and how many matched."""
        track = self._tracks.get(exit_layer)
        if track is None:
            return 0, 0
        known, match = self._now(track)
        mask = (1 << num_positions) - 1
        return (known & mask).bit_count(), (match & mask).bit_count()

    def _now(self, track: "_Track") -> tuple[int, int]:
        """Return a track's bits of what is known and what matched, up to the last position."""
        num_unread = min(self._num_unread, NUM_POSITIONS)
        return (track.known << num_unread) & _MASK, (track.match << num_unread) & _MASK

    def round_starts(self) -> list[bool]:
        """Return of each position held, oldest first, whether a round began with it."""
        return [bit == "1" for bit in self._bits(self._round_starts)]

    def runs(
        self, exit_layer: int, min_len: int = MIN_RUN, max_known: int = MAX_REPLAYED
    ) -> list[ExitTrack]:
        """Return the exit's runs of known positions, oldest first, for replay.

        Args:
            exit_layer: any; without reads there is no run.
            min_len: shorter runs are left out.
            max_known: most positions of all runs together; the newest are kept.
        """
        track = self._tracks.get(exit_layer)
        if track is None or not self.num_positions:
            return []
        known, match_bits = self._now(track)
        match = self._bits(match_bits)
        start = (self.num_positions - len(self)) % NUM_POSITIONS
        confidences = track.confidences[start:] + track.confidences[:start]
        runs: list[ExitTrack] = []
        num_left = max_known
        for found in reversed(list(finditer("1+", self._bits(known)))):
            first, end = max(found.start(), found.end() - num_left), found.end()
            if end - first < max(1, min_len):
                continue
            num_left -= end - first
            runs.append(
                ExitTrack(
                    [bit == "1" for bit in match[first:end]],
                    [byte / 255.0 for byte in confidences[first:end]],
                )
            )
        runs.reverse()
        return runs

    def _bits(self, bits: int) -> str:
        """Return the bits of the positions held, oldest first."""
        return f"{bits:0{len(self)}b}" if self.num_positions else ""


class _Track:
    """One exit: bits of what is known and what matched, and bytes of confidence by position."""

    __slots__ = ("confidences", "known", "match")

    def __init__(self) -> None:
        self.known = 0
        self.match = 0
        self.confidences = bytearray(NUM_POSITIONS)
