"""Which pages belong to whom. Pure accounting: no tensors, no sessions, no clock.

A page is in exactly one state:

    free          nobody's
    promised      nobody's, but the table that ends before it is expected to grow into it
    used          referenced by one or more page tables, or by the prefix cache
    quarantined   given up by its session while a draft worker may still write to it

Allocation prefers one contiguous extent (attention then reads it in place), best fit first so that
long runs survive; only when no run is long enough are several taken. Tables grow page by page, so
the pages behind a new one are promised to its owner: others keep off them while there is anything
else. A promise reserves nothing: promised pages count as free, and are taken, from the far end,
once no other is left.
"""

import re
from collections.abc import Iterable

from shared.errors import PoolExhausted
from shared.speculation.vocabulary import Extent

FREE, PROMISED, USED, QUARANTINED = range(4)
NOBODY = 0
_UNPROMISED_RUN = re.compile(bytes([FREE]) + b"+")
_PROMISED_RUN = re.compile(bytes([PROMISED]) + b"+")


class PageAllocator:
    """Reference-counted pages [0, num_pages)."""

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self._references = [0] * num_pages
        self._states = bytearray(num_pages)
        self._promised_to = [NOBODY] * num_pages
        self._promises: dict[int, list[int]] = {}
        self._num_free = num_pages
        self._num_quarantined = 0
        self._num_shared = 0

    @property
    def num_free(self) -> int:
        """Pages that can be allocated, the promised ones among them."""
        return self._num_free

    @property
    def num_quarantined(self) -> int:
        """Pages set aside until a late writer is known to be gone."""
        return self._num_quarantined

    @property
    def num_used(self) -> int:
        """Pages referenced by page tables or the prefix cache."""
        return self.num_pages - self._num_free - self._num_quarantined

    @property
    def num_shared(self) -> int:
        """Pages with more than one reference."""
        return self._num_shared

    def is_shared(self, page: int) -> bool:
        """Say whether a page has more than one reference."""
        return self._references[page] > 1

    def allocate(
        self, num_pages: int, *, owner: int = NOBODY, behind: int | None = None, room: int = 0
    ) -> list[Extent]:
        """Take pages, each with one reference.

        Args:
            num_pages: how many.
            owner: whom promises are made to, and whose own promises are taken first.
            behind: a page that the new ones are to follow in the pool, if they can.
            room: pages that the owner will want later: promised to it where they are free.

        Raises:
            PoolExhausted: fewer are free; nothing was taken.
        """
        if num_pages > self._num_free:
            raise PoolExhausted(
                f"{num_pages} pages wanted, {self._num_free} of {self.num_pages} free"
            )
        extents = [] if behind is None else self._take_behind(behind, num_pages, owner)
        num_left = num_pages - sum(extent.num_pages for extent in extents)
        if num_left:
            chosen = self._choose(num_left, room)
            for extent in chosen:
                self._take(extent)
            extents += chosen
        if extents and owner != NOBODY:
            last = extents[-1]
            self._promise(last.first_page + last.num_pages, room, owner)
        return extents

    def _take_behind(self, behind: int, num_pages: int, owner: int) -> list[Extent]:
        """Take what follows a page and is free or promised to the owner itself."""
        first = end = behind + 1
        while end < min(first + num_pages, self.num_pages) and self._is_open_to(end, owner):
            end += 1
        if end == first:
            return []
        extent = Extent(first, end - first)
        self._take(extent)
        return [extent]

    def _is_open_to(self, page: int, owner: int) -> bool:
        state = self._states[page]
        return state == FREE or (state == PROMISED and self._promised_to[page] == owner)

    def _take(self, extent: Extent) -> None:
        for page in pages_of([extent]):
            if self._states[page] == PROMISED:
                self._promises[self._promised_to[page]].remove(page)
                self._promised_to[page] = NOBODY
            self._states[page] = USED
            self._references[page] = 1
        self._num_free -= extent.num_pages

    def _choose(self, num_pages: int, room: int) -> list[Extent]:
        runs = self._runs(_UNPROMISED_RUN)
        longest = max((run.num_pages for run in runs), default=0)
        if longest >= num_pages:
            # With all its room where there is such a run, else with as much of it as can be.
            wish = min(num_pages + room, longest)
            fitting = [run for run in runs if run.num_pages >= wish]
            best = min(fitting, key=lambda run: run.num_pages)
            return [Extent(best.first_page, num_pages)]
        chosen: list[Extent] = []
        for run in sorted(runs, key=lambda run: -run.num_pages):
            chosen.append(Extent(run.first_page, min(run.num_pages, num_pages)))
            num_pages -= chosen[-1].num_pages
            if num_pages == 0:
                return chosen
        # From the far end: what lies next to a table is what it will want first.
        for run in self._runs(_PROMISED_RUN):
            taken = min(run.num_pages, num_pages)
            chosen.append(Extent(run.first_page + run.num_pages - taken, taken))
            num_pages -= taken
            if num_pages == 0:
                break
        return chosen

    def _runs(self, pattern: re.Pattern[bytes]) -> list[Extent]:
        found = pattern.finditer(self._states)
        return [Extent(each.start(), each.end() - each.start()) for each in found]

    def _promise(self, first: int, num_pages: int, owner: int) -> None:
        self.drop_promises(owner)
        pages = []
        for page in range(first, min(first + num_pages, self.num_pages)):
            if self._states[page] != FREE:
                break
            self._states[page] = PROMISED
            self._promised_to[page] = owner
            pages.append(page)
        self._promises[owner] = pages

    def drop_promises(self, owner: int) -> None:
        """Make what was promised to an owner anybody's."""
        for page in self._promises.pop(owner, ()):
            self._states[page] = FREE
            self._promised_to[page] = NOBODY

    def share(self, extents: Iterable[Extent]) -> None:
        """Add one reference to pages in use, for a second page table."""
        for page in pages_of(extents):
            assert self._references[page] > 0, f"page {page} is not in use"
            self._references[page] += 1
            self._num_shared += self._references[page] == 2

    def release(self, extents: Iterable[Extent]) -> None:
        """Drop one reference of each page; the last one frees it."""
        for page in pages_of(extents):
            self._drop(page)
            if self._references[page] == 0:
                self._states[page] = FREE
                self._num_free += 1

    def quarantine(self, extents: Iterable[Extent]) -> None:
        """Drop one reference of each page; those without another are set aside, not freed."""
        for page in pages_of(extents):
            self._drop(page)
            assert self._references[page] == 0, f"page {page} is shared: no round may write to it"
            self._states[page] = QUARANTINED
            self._num_quarantined += 1

    def _drop(self, page: int) -> None:
        assert self._references[page] > 0, f"page {page} is not in use"
        self._references[page] -= 1
        self._num_shared -= self._references[page] == 1

    def end_quarantine(self, extents: Iterable[Extent]) -> None:
        """Free pages that were set aside: their late writer has answered or is gone."""
        for page in pages_of(extents):
            assert self._states[page] == QUARANTINED, f"page {page} is not in quarantine"
            self._states[page] = FREE
            self._num_quarantined -= 1
            self._num_free += 1

    def check_integrity(self, tables: Iterable[Iterable[Extent]]) -> None:
        """Compare the accounts with the page tables that exist, the prefix cache's among them.

        Raises:
            AssertionError: a page is lost, doubly owned or miscounted; says which.
        """
        expected = [0] * self.num_pages
        for table in tables:
            for page in pages_of(table):
                expected[page] += 1
        wrong = [page for page in range(self.num_pages) if expected[page] != self._references[page]]
        assert not wrong, f"pages {wrong}: references differ from the page tables"
        for page, state in enumerate(self._states):
            is_used = state == USED
            assert is_used == (self._references[page] > 0), f"page {page} is in state {state}"
        promised = sorted(page for pages in self._promises.values() for page in pages)
        marked = [page for page in range(self.num_pages) if self._states[page] == PROMISED]
        assert promised == marked, f"promised {promised}, marked {marked}"
        num_free = self._states.count(FREE) + self._states.count(PROMISED)
        assert num_free == self._num_free, f"{num_free} pages are free, not {self._num_free}"
        num_aside = self._states.count(QUARANTINED)
        assert num_aside == self._num_quarantined, f"{num_aside} pages are in quarantine"
        num_shared = sum(references > 1 for references in self._references)
        assert num_shared == self._num_shared, f"{num_shared} pages are shared"


def pages_of(extents: Iterable[Extent]) -> Iterable[int]:
    """Iterate over the pages of extents, in order."""
    for extent in extents:
        yield from range(extent.first_page, extent.first_page + extent.num_pages)
