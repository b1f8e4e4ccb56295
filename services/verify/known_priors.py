"""What sessions are believed to be by the store's counts, worked out once per kind of text.

    counts of a kind, as last read  ->  Prior: all, then its tenant, then its task

Not for each session anew: its prompt runs meanwhile, in a thread that waits for this one.
"""

from shared.control.evidence.prior import PlaceTotals, Prior
from shared.control.store.prior_counts import PriorCounts, PriorKey

# Kinds kept; the oldest is worked out again.
MAX_KNOWN = 256


class KnownPriors:
    """By kind, the last ones worked out."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: dict[PriorKey, tuple[PriorCounts, Prior | None]] = {}

    def prior_of(self, key: PriorKey, counts: PriorCounts | None) -> Prior | None:
        """Return what a kind is believed to be; None where the store knows nothing of it.

        Raises:
            ValueError: the counts are none.
        """
        if counts is None:
            return None
        known = self._known.get(key)
        if known is None or known[0] is not counts:
            known = (counts, _prior_of(counts))
            self._known.pop(key, None)
            self._known[key] = known
            if len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
        return known[1]


def _prior_of(counts: PriorCounts) -> Prior | None:
    prior: Prior | None = None
    for pairs, is_task in ((counts.everyone, False), (counts.tenant, False), (counts.task, True)):
        totals = PlaceTotals.from_pairs(pairs)
        if totals.num_positions:
            prior = Prior.from_totals(totals, prior, is_task=is_task)
    return prior
