"""What siblings of a draft would be worth at one exit: counts along the text. Pure.

    drafts    by confidence    kept | refused       as the exits' reads tell: free, every round
    refused   by rank of the target's choice        where the next best were read as well: in bursts

Both are counted at every position that is committed, whatever was drafted there. They change little
along a text, so they fade slowly, and a session begins with what others showed.
"""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from shared.control.evidence.observation import NUM_RANKS, Read
from shared.speculation.tree_costs import BranchOdds, UnsureShares

# Confidences below which siblings may be asked for; those of sampled choices begin at a half, and
# one that is certain never has any.
THRESHOLDS = (0.1, 0.2, 0.3, 0.45, 0.55, 0.65, 0.8, 1.0)
# Refused drafts without a hit that are believed in beforehand: siblings have to show their worth.
NUM_DOUBTED = 4.0
# Fewer refused drafts whose ranks are known tell nothing.
MIN_RANKED = 12.0
# Drafts, and refused ones with a rank, at which their counts are halved.
MAX_DRAFTS = 2048.0
MAX_RANKED = 256.0


class BranchCounts:
    """Counts of one exit, of one session or of many."""

    __slots__ = ("_kept", "_ranks", "_refused")

    def __init__(self) -> None:
        """Begin without counts."""
        # By confidence: below the first threshold, and so on; the last: below none of them.
        self._kept = [0.0] * (len(THRESHOLDS) + 1)
        self._refused = [0.0] * (len(THRESHOLDS) + 1)
        # By rank of the target's choice; at 0 those where it was not among the next best.
        self._ranks = [0.0] * (NUM_RANKS + 1)

    def note(self, reads: Sequence[Read | None], miss_ranks: Sequence[int]) -> None:
        """Take what a round showed of the exit, see `Observation`."""
        for read in reads:
            if read is not None:
                counts = self._kept if read.is_match else self._refused
                counts[bisect_right(THRESHOLDS, read.confidence)] += 1.0
        for rank in miss_ranks:
            self._ranks[rank] += 1.0
        if sum(self._kept) + sum(self._refused) > MAX_DRAFTS:
            self._kept, self._refused = _halved(self._kept), _halved(self._refused)
        if sum(self._ranks) > MAX_RANKED:
            self._ranks = _halved(self._ranks)

    def odds(self, others: "BranchCounts") -> BranchOdds | None:
        """Return what siblings are expected to bring; None while too little is known.

        others: what like sessions showed, this one among them.
        """
        ranks = _sum(self._ranks, others._ranks)
        kept, refused = _sum(self._kept, others._kept), _sum(self._refused, others._refused)
        num_ranked, num_kept, num_refused = sum(ranks), sum(kept), sum(refused)
        if num_ranked < MIN_RANKED or not num_kept or not num_refused:
            return None
        hits = [num_hit / (num_ranked + NUM_DOUBTED) for num_hit in accumulate(ranks[1:])]
        unsure = [
            UnsureShares(
                threshold,
                (sum(kept[:end]) + sum(refused[:end])) / (num_kept + num_refused),
                sum(kept[:end]) / num_kept,
                sum(refused[:end]) / num_refused,
            )
            for end, threshold in enumerate(THRESHOLDS, 1)
        ]
        return BranchOdds(tuple(hits), tuple(unsure))


def _halved(counts: Sequence[float]) -> list[float]:
    return [0.5 * count for count in counts]


def _sum(own: Sequence[float], others: Sequence[float]) -> list[float]:
    return [one + other for one, other in zip(own, others, strict=True)]
