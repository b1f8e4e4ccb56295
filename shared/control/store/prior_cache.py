"""Priors at hand: those of the kinds of text in use, read again every now and then."""

from collections.abc import Callable
from dataclasses import dataclass

from shared.control.store.prior_counts import PriorCounts, PriorKey
from shared.control.store.store import ControlStore

MAX_PRIORS = 256
USE_S = 600.0


@dataclass(slots=True)
class _Entry:
    counts: PriorCounts
    used_s: float


class PriorCache:
    """Counts by kind, the last used ones last."""

    def __init__(
        self, store: ControlStore, clock: Callable[[], float], max_priors: int = MAX_PRIORS
    ) -> None:
        """Start empty."""
        self._store = store
        self._clock = clock
        self._max_priors = max_priors
        self._entries: dict[PriorKey, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: PriorKey) -> PriorCounts | None:
        """Return the counts as last read; None if they never were."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return None
        self._entries[key] = _Entry(entry.counts, self._clock())
        return entry.counts

    async def fetch(self, key: PriorKey, day: int) -> PriorCounts | None:
        """Read counts and keep them; None where Redis did not tell."""
        counts = await self._store.read_priors(key, day)
        if counts is not None:
            self._entries.pop(key, None)
            self._entries[key] = _Entry(counts, self._clock())
            if len(self._entries) > self._max_priors:
                del self._entries[next(iter(self._entries))]
        return counts

    async def refresh(self, day: int) -> None:
        """Read again what was used lately, and forget the rest; stop where Redis does not tell."""
        for key, entry in list(self._entries.items()):
            if self._clock() - entry.used_s > USE_S:
                self._entries.pop(key, None)
                continue
            counts = await self._store.read_priors(key, day)
            if counts is None:
                return
            if key in self._entries:
                self._entries[key].counts = counts
