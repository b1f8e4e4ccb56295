"""The queue of counts on their way to Redis: summed while they wait, sent under one id each. Pure.

While Redis is away the counts of one key and day are one item, however many sessions they come
from. Beyond the limit the oldest item is dropped and counted, as is one that was tried for so long
that Redis may have forgotten its id.
"""

from collections.abc import Callable, Iterator

from shared.control.store.prior_counts import Counts, PriorFlush, PriorKey

# Redis keeps an id for 600 s; a try after that might count twice.
GIVE_UP_S = 300.0


class PriorQueue:
    """Items by age."""

    def __init__(self, flush_prefix: str, clock: Callable[[], float], max_items: int) -> None:
        """Start empty.

        flush_prefix: makes ids unique among all writers and boots; clock: seconds that never go
        back.
        """
        self._flush_prefix = flush_prefix
        self._clock = clock
        self._max_items = max_items
        self._num_ids = 0
        # The item of a key and day that still takes counts.
        self._open: dict[tuple[PriorKey, int], PriorFlush] = {}
        self._items: dict[PriorFlush, None] = {}
        self.num_dropped = 0
        self.num_given_up = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, key: PriorKey, day: int, counts: Counts) -> None:
        """Add counts; nothing if there are none."""
        if not any(counts.values()):
            return
        item = self._open.get((key, day))
        if item is None:
            item = self._open[key, day] = PriorFlush(key, day, self._next_id())
            self._items[item] = None
        item.counts.update(counts)
        if len(self._items) > self._max_items:
            self.remove(next(iter(self._items)))
            self.num_dropped += 1

    def due(self) -> Iterator[PriorFlush]:
        """Yield items to be tried now, oldest first; each is closed for further counts."""
        for item in list(self._items):
            now_s = self._clock()
            if item.first_tried_s is None:
                item.first_tried_s = now_s
                self._open.pop((item.key, item.day), None)
            elif now_s - item.first_tried_s > GIVE_UP_S:
                self.remove(item)
                self.num_given_up += 1
                continue
            yield item

    def remove(self, item: PriorFlush) -> None:
        """Take an item out: it has arrived, or never will."""
        self._items.pop(item, None)
        if self._open.get((item.key, item.day)) is item:
            del self._open[item.key, item.day]

    def _next_id(self) -> str:
        self._num_ids += 1
        return f"{self._flush_prefix}-{self._num_ids}"
