"""Memory of the sessions: pages and exit-state slots, their admission, fence and quarantine.

What a session holds is taken here and given back here; `check_integrity` compares the accounts with
the sessions that exist.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from services.verify.session import Session
from shared.errors import InvalidRequest, PoolExhausted
from shared.model.kv_pool import KVPool
from shared.model.page_allocator import PageAllocator
from shared.model.page_table import PageTable, num_pages_for
from shared.speculation.vocabulary import Extent

RoundKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Memory of an abandoned round that its draft worker may still write to."""

    extents: tuple[Extent, ...]
    exit_slot: int
    worker_id: str


class SessionMemory:
    """Pages and exit-state slots of one pool."""

    def __init__(self, pool: KVPool, max_context_len: int) -> None:
        self.pool = pool
        self.allocator = PageAllocator(pool.layout.num_pages)
        self._max_context_len = max_context_len
        self._free_slots = list(range(pool.layout.num_exit_slots))
        self._quarantined: dict[RoundKey, Quarantined] = {}

    @property
    def page_size(self) -> int:
        """Positions of a page."""
        return self.pool.layout.page_size

    def check_fits(self, session: Session) -> None:
        """Refuse at once what can never fit.

        Raises:
            InvalidRequest: the session's longest course exceeds the pool.
        """
        num_pages = self._num_pages(session)
        if num_pages > self.allocator.num_pages:
            raise InvalidRequest(
                f"the session may grow to {num_pages * self.page_size} positions, the pool holds "
                f"{self.allocator.num_pages * self.page_size}: ask for fewer new tokens",
                field="stop.max_new_tokens",
            )

    def _num_pages(self, session: Session) -> int:
        return num_pages_for(session.max_len(self._max_context_len), self.page_size)

    def admit(self, session: Session) -> None:
        """Give a session its pages, worst case, and an exit-state slot.

        Raises:
            PoolExhausted: not now; nothing was taken.
        """
        if not self._free_slots:
            raise PoolExhausted("no exit-state slot is free")
        extents = self.allocator.allocate(self._num_pages(session))
        session.table = PageTable(extents, self.page_size)
        session.exit_slot = self._free_slots.pop()
        session.num_run, session.is_decoding = 0, False

    def release(self, session: Session) -> None:
        """Take back everything a session holds; no round of it may be in flight."""
        if session.table is None:
            return
        self.allocator.release(session.table.extents)
        self._free_slots.append(session.exit_slot)
        session.table, session.exit_slot = None, -1

    def fence(self, session: Session, worker_id: str) -> bool:
        """Move a session off the memory that an abandoned round may still write to.

        Positions from n - 1 on go to fresh pages, the committed part of the tail page is copied
        along, exit states go to a fresh slot; the old ones wait in quarantine.

        Returns:
            False where there was no room for that: the session then holds nothing (it must be
            replayed), and what the late writer may touch is in quarantine all the same.
        """
        assert session.table is not None
        table, start = session.table, session.committed_len - 1
        kept, abandoned = table.split(start)
        key = (session.session_id, session.round_index)
        self._quarantined[key] = Quarantined(tuple(abandoned), session.exit_slot, worker_id)
        num_pages = sum(extent.num_pages for extent in abandoned)
        if num_pages > self.allocator.num_free or not self._free_slots:
            self.allocator.quarantine(abandoned)
            self.allocator.release(kept)
            session.table, session.exit_slot = None, -1
            return False
        fresh = self.allocator.allocate(num_pages)
        session.table = PageTable([*kept, *fresh], self.page_size)
        session.exit_slot = self._free_slots.pop()
        tail_start = start - start % self.page_size
        if tail_start < start:
            self.pool.copy_positions(
                table.slots(tail_start, start), session.table.slots(tail_start, start)
            )
        self.allocator.quarantine(abandoned)
        return True

    @property
    def quarantined_workers(self) -> frozenset[str]:
        """Draft workers that may still write to memory set aside."""
        return frozenset(held.worker_id for held in self._quarantined.values())

    def end_quarantine(self, key: RoundKey) -> bool:
        """Free what one abandoned round held: its draft worker has answered."""
        held = self._quarantined.pop(key, None)
        if held is None:
            return False
        self.allocator.end_quarantine(held.extents)
        self._free_slots.append(held.exit_slot)
        return True

    def end_quarantine_of(self, worker_id: str) -> None:
        """Free what the abandoned rounds of a draft worker held: it can write to them no more."""
        for key, held in list(self._quarantined.items()):
            if held.worker_id == worker_id:
                self.end_quarantine(key)

    def check_integrity(self, sessions: Iterable[Session]) -> None:
        """Compare accounts and sessions.

        Raises:
            AssertionError: a page or slot is lost or doubly owned.
        """
        sessions = list(sessions)
        self.allocator.check_integrity(session.extents() for session in sessions)
        held = [session.exit_slot for session in sessions if session.table]
        held += [each.exit_slot for each in self._quarantined.values()]
        slots = sorted(held + self._free_slots)
        assert slots == list(range(self.pool.layout.num_exit_slots)), f"exit slots {slots}"
