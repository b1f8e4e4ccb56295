"""One tenant of a fair queue: what it has waiting, and what it may be served before others.

Knows nothing of other tenants or of turns; `fair_queue` decides whose turn it is.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, TypeVar

ItemT = TypeVar("ItemT", bound=Hashable)


class Priority(Enum):
    """How urgent an item is; values are the numbers on the wire."""

    NORMAL = 1
    LOW = 2


@dataclass(frozen=True, slots=True)
class Entry(Generic[ItemT]):
    """An item in the queue; `cost` in tokens, `index` counts arrivals at the queue."""

    item: ItemT
    tenant: str
    priority: Priority
    cost: int
    pushed_s: float
    index: int


@dataclass(slots=True)
class TenantAccount(Generic[ItemT]):
    """A tenant's entries, by priority in order of arrival, and its tokens."""

    ageing_s: float
    lanes: dict[Priority, dict[ItemT, Entry[ItemT]]] = field(
        default_factory=lambda: {priority: {} for priority in Priority}
    )
    # Tokens granted and not charged yet; negative is debt.
    deficit: int = 0
    # Tokens charged since it last had nothing waiting: no more than this can be refunded.
    num_charged: int = 0
    waiting_cost: int = 0
    is_held: bool = False

    @property
    def is_idle(self) -> bool:
        """Whether it has nothing in the queue."""
        return not any(self.lanes.values())

    @property
    def num_waiting(self) -> int:
        """Entries in the queue."""
        return sum(map(len, self.lanes.values()))

    def add(self, entry: Entry[ItemT]) -> None:
        """Append an entry to its lane."""
        self.lanes[entry.priority][entry.item] = entry
        self.waiting_cost += entry.cost

    def take_out(self, entry: Entry[ItemT]) -> None:
        """Remove an entry, wherever it stands."""
        del self.lanes[entry.priority][entry.item]
        self.waiting_cost -= entry.cost

    def first_normal(self, now_s: float) -> Entry[ItemT] | None:
        """Return the older of the first normal entry and the first low one that counts as such."""
        heads = (self._first(Priority.NORMAL), self._first(Priority.LOW))
        counting = [head for head in heads if head and self._counts_as_normal(head, now_s)]
        return min(counting, key=lambda entry: entry.index, default=None)

    def first_low(self) -> Entry[ItemT] | None:
        """Return the first low entry."""
        return self._first(Priority.LOW)

    def newest(self) -> Entry[ItemT]:
        """Return the newest entry, a low one if there is any; there must be one."""
        lane = self.lanes[Priority.LOW] or self.lanes[Priority.NORMAL]
        return next(reversed(lane.values()))

    def costs(self, now_s: float) -> tuple[list[int], list[int]]:
        """Return the costs of what counts as normal and of what does not, each in its order."""
        low = self.lanes[Priority.LOW].values()
        aged = [entry for entry in low if self._counts_as_normal(entry, now_s)]
        normal = sorted([*self.lanes[Priority.NORMAL].values(), *aged], key=lambda e: e.index)
        return [e.cost for e in normal], [e.cost for e in low if e not in aged]

    def _first(self, priority: Priority) -> Entry[ItemT] | None:
        return next(iter(self.lanes[priority].values()), None)

    def _counts_as_normal(self, entry: Entry[ItemT], now_s: float) -> bool:
        return entry.priority is Priority.NORMAL or now_s - entry.pushed_s >= self.ageing_s
