"""Memory of the sessions: pages and exit-state slots, their growth, sharing, fence and quarantine.

What a session holds is taken here and given back here; `check_integrity` compares the accounts with
the sessions that exist. A session starts with the pages of its prompt and grows as it decodes:

    prompt known to the prefix cache      its own pages
    [shared ....... shared][copied tail | .............. ] [promised, while nobody needs them]
    0                      a page boundary           table's end

Shared pages are full and final: nothing writes to them again. When pages are short, those that only
the prefix cache holds are given up first.
"""

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Literal

from services.verify.page_room import make_room
from services.verify.prefix_cache import PrefixCache
from services.verify.quarantine import Quarantine, Quarantined, RoundKey
from services.verify.session import Session
from shared.errors import InvalidRequest, PoolExhausted
from shared.ids import TokenId
from shared.model.kv_pool import KVPool
from shared.model.page_allocator import PageAllocator, pages_of
from shared.model.page_table import PageTable, num_pages_for
from shared.speculation.tree import moves_of
from shared.speculation.vocabulary import Extent

# Who may find whose beginnings: nobody, sessions of the same tenant, or all.
PrefixSharing = Literal["off", "tenant", "all"]


class SessionMemory:
    """Pages and exit-state slots of one pool."""

    def __init__(
        self, pool: KVPool, max_context_len: int, prefix_sharing: PrefixSharing = "all"
    ) -> None:
        self.pool = pool
        self.allocator = PageAllocator(pool.layout.num_pages)
        self.prefixes = PrefixCache(pool.layout.page_size)
        self._prefix_sharing = prefix_sharing
        self._max_context_len = max_context_len
        self._free_slots = list(range(pool.layout.num_exit_slots))
        self.quarantine = Quarantine()
        self._owners = count(1)
        # Pages that only the prefix cache holds, as of the last admission or release: counting
        # them anew takes a walk over the cache, and other threads ask.
        self.num_cached = 0
        self.num_prefix_tokens_queried = 0
        self.num_prefix_tokens_hit = 0

    @property
    def page_size(self) -> int:
        """Positions of a page."""
        return self.pool.layout.page_size

    def check_fits(self, session: Session) -> None:
        """Refuse at once what can never fit.

        Raises:
            InvalidRequest: the session's longest course exceeds the pool.
        """
        num_pages = self._num_pages_at_end(session)
        if num_pages > self.allocator.num_pages:
            raise InvalidRequest(
                f"the session may grow to {num_pages * self.page_size} positions, the pool holds "
                f"{self.allocator.num_pages * self.page_size}: ask for fewer new tokens",
                field="stop.max_new_tokens",
            )

    def _num_pages_at_end(self, session: Session) -> int:
        return num_pages_for(session.max_len(self._max_context_len), self.page_size)

    # --- pages of a session ---------------------------------------------------------------------

    def admit(self, session: Session, num_spare: int = 0) -> None:
        """Give a session the pages of its tokens and an exit-state slot.

        What the prefix cache knows of its beginning is shared, or copied where the text leaves it
        within a page; `num_run` starts behind that.

        Args:
            session: waits; holds nothing.
            num_spare: pages that must be left over, for those that run to grow into.

        Raises:
            PoolExhausted: not now; nothing was taken.
        """
        if not self._free_slots:
            raise PoolExhausted("no exit-state slot is free")
        scope = self._scope(session)
        match = self.prefixes.match(session.tokens, scope or "") if scope is not None else None
        shared = [Extent(page, 1) for page in match.pages] if match else []
        tail_len = match.tail_len if match else 0
        pinned = [*shared, Extent(match.tail_page, 1)] if match and tail_len else shared
        # Held from here on: taking the session's own pages may evict what is in nobody's use.
        self.allocator.share(pinned)
        table = PageTable(shared, self.page_size)
        session.page_owner = next(self._owners)
        num_pages = num_pages_for(session.committed_len + 1, self.page_size) - len(shared)
        try:
            own = self._take(session, table, num_pages, num_spare)
        except PoolExhausted:
            self.allocator.release(pinned)
            raise
        session.table = table.grown(own)
        num_known = table.num_positions + tail_len
        if match and tail_len:
            self._copy_tail(match.tail_page, session.table, table.num_positions, tail_len)
            self.allocator.release([Extent(match.tail_page, 1)])
        session.exit_slot = self._free_slots.pop()
        session.num_run, session.is_decoding = num_known, False
        session.num_published = len(shared)
        self._note_prefix(session, num_known)
        self._count_cached()

    def _scope(self, session: Session) -> str | None:
        """Return among whose beginnings a session looks for its own; None: nobody's."""
        if self._prefix_sharing == "off":
            return None
        return session.request.tenant if self._prefix_sharing == "tenant" else ""

    def _copy_tail(self, page: int, table: PageTable, start: int, length: int) -> None:
        first = page * self.page_size
        source = list(range(first, first + length))
        self.pool.copy_positions(source, table.slots(start, start + length))

    def _note_prefix(self, session: Session, num_known: int) -> None:
        # Whoever made these pages may have needed no ids. Equal ones: no harm to its sharers.
        self.write_tokens(session, 0, session.tokens[:num_known])
        if not session.admitted_ns:
            session.num_cached = min(num_known, session.prompt_len)
            self.num_prefix_tokens_queried += session.committed_len
            self.num_prefix_tokens_hit += num_known

    def _take(
        self, session: Session, table: PageTable, num_pages: int, num_spare: int = 0
    ) -> list[Extent]:
        """Take pages to follow a table, from the prefix cache where too few are free.

        Raises:
            PoolExhausted: there are too few; nothing was taken, nor given up by the cache.
        """
        self.make_room(num_pages, num_spare)
        num_held = table.num_positions // self.page_size
        room = max(0, self._num_pages_at_end(session) - num_held - num_pages)
        return self.allocator.allocate(
            num_pages, owner=session.page_owner, behind=table.last_page, room=room
        )

    def make_room(self, num_pages: int, num_spare: int = 0) -> None:
        """Have so many pages free, see `page_room`; raises likewise."""
        self.num_cached -= make_room(self.allocator, self.prefixes, num_pages, num_spare)

    def grow(self, session: Session, num_positions: int) -> bool:
        """Give a session pages for so many positions; say whether it has them now."""
        assert session.table is not None
        missing = num_pages_for(num_positions - session.table.num_positions, self.page_size)
        if missing <= 0:
            return True
        try:
            own = self._take(session, session.table, missing)
        except PoolExhausted:
            return False
        session.table = session.table.grown(own)
        return True

    def write_tokens(self, session: Session, start: int, tokens: Sequence[TokenId]) -> None:
        """Note ids where a draft worker reads a session's history, if it needs to."""
        if session.request.sampling.needs_history and tokens:
            assert session.table is not None
            self.pool.write_tokens(session.table, start, list(tokens))

    def compact(self, session: Session, start: int, path: Sequence[int]) -> None:
        """Move what the accepted nodes of a tree wrote, in every layer, to where it belongs.

        Args:
            session: has just committed them; no round of it is in flight.
            start: position of the first draft token, whose slot is that of node 0.
            path: the nodes, in order.
        """
        moves = moves_of(path)
        if moves:
            assert session.table is not None
            slots = session.table.slots(start, start + path[-1] + 1)
            source, target = zip(*moves, strict=True)
            self.pool.copy_positions(
                [slots[node] for node in source], [slots[place] for place in target]
            )

    def publish(self, session: Session) -> None:
        """Let other sessions find the pages of this one that are full and final in every layer."""
        scope = self._scope(session)
        num_full = session.num_run // self.page_size
        if scope is None or session.table is None or num_full <= session.num_published:
            return
        pages = list(pages_of(session.table.extents))[:num_full]
        tokens = session.tokens[: num_full * self.page_size]
        added = self.prefixes.insert(tokens, pages, scope)
        self.allocator.share(Extent(page, 1) for page in added)
        session.num_published = num_full

    def release(self, session: Session) -> None:
        """Take back everything a session holds; no round of it may be in flight.

        What it has run stays known to the prefix cache while nobody needs the pages.
        """
        if session.table is None:
            return
        self.publish(session)
        self._drop(session, session.table.extents)
        self._free_slots.append(session.exit_slot)
        session.table, session.exit_slot = None, -1
        self._count_cached()

    def _count_cached(self) -> None:
        self.num_cached = self.prefixes.num_evictable(self.allocator.is_shared)

    def _drop(self, session: Session, extents: Iterable[Extent]) -> None:
        self.allocator.release(extents)
        self.allocator.drop_promises(session.page_owner)

    # --- fence and quarantine -------------------------------------------------------------------

    def fence(self, session: Session, worker_id: str) -> bool:
        """Move a session off the memory that an abandoned round may still write to.

        Positions from n - 1 on go to fresh pages, the committed part of the tail page is copied
        along, exit states go to a fresh slot; the old ones wait in quarantine. None of these pages
        is shared: the page of n - 1 is not full of final KV yet.

        Returns:
            False where there was no room for that: the session then holds nothing (it must be
            replayed), and what the late writer may touch is in quarantine all the same.
        """
        assert session.table is not None
        table, start = session.table, session.committed_len - 1
        kept, abandoned = table.split(start)
        key = (session.session_id, session.round_index)
        self.quarantine.put(key, Quarantined(tuple(abandoned), session.exit_slot, worker_id))
        num_pages = sum(extent.num_pages for extent in abandoned)
        fresh = self._take_fresh(session, PageTable(kept, self.page_size), num_pages)
        if fresh is None:
            self.allocator.quarantine(abandoned)
            self._drop(session, kept)
            session.table, session.exit_slot = None, -1
            self._count_cached()
            return False
        session.table = PageTable([*kept, *fresh], self.page_size)
        session.exit_slot = self._free_slots.pop()
        tail_start = start - start % self.page_size
        if tail_start < start:
            self.pool.copy_positions(
                table.slots(tail_start, start), session.table.slots(tail_start, start)
            )
        self.allocator.quarantine(abandoned)
        return True

    def _take_fresh(self, session: Session, kept: PageTable, num_pages: int) -> list[Extent] | None:
        if not self._free_slots:
            return None
        try:
            return self._take(session, kept, num_pages)
        except PoolExhausted:
            return None

    def end_quarantine(self, key: RoundKey) -> bool:
        """Free what one abandoned round held: its draft worker has answered."""
        held = self.quarantine.take(key)
        if held is None:
            return False
        self.allocator.end_quarantine(held.extents)
        self._free_slots.append(held.exit_slot)
        return True

    def end_quarantine_of(self, worker_id: str) -> None:
        """Free what the abandoned rounds of a draft worker held: it can write to them no more."""
        for key in self.quarantine.keys_of(worker_id):
            self.end_quarantine(key)

    def check_integrity(self, sessions: Iterable[Session]) -> None:
        """Compare accounts and sessions.

        Raises:
            AssertionError: a page or slot is lost or doubly owned.
        """
        sessions = list(sessions)
        tables = [session.extents() for session in sessions]
        cached = tuple(Extent(page, 1) for page in self.prefixes.pages)
        self.allocator.check_integrity([*tables, cached])
        held = [session.exit_slot for session in sessions if session.table]
        held += self.quarantine.exit_slots
        slots = sorted(held + self._free_slots)
        assert slots == list(range(self.pool.layout.num_exit_slots)), f"exit slots {slots}"
