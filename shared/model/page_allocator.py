"""Which pages belong to whom. Pure accounting: no tensors, no sessions, no clock.

A page is in exactly one state:

    free          nobody's
    used          referenced by one or more page tables
    quarantined   given up by its session while a draft worker may still write to it

Allocation prefers one contiguous extent (attention then reads it in place), best fit first so that
long runs survive; only when no run is long enough are several taken.
"""

from collections.abc import Iterable

from shared.errors import PoolExhausted
from shared.speculation.vocabulary import Extent


class PageAllocator:
    """Reference-counted pages [0, num_pages)."""

    def __init__(self, num_pages: int) -> None:
        self.num_pages = num_pages
        self._references = [0] * num_pages
        self._quarantined: set[int] = set()
        self._num_free = num_pages

    @property
    def num_free(self) -> int:
        """Pages that can be allocated."""
        return self._num_free

    @property
    def num_quarantined(self) -> int:
        """Pages set aside until a late writer is known to be gone."""
        return len(self._quarantined)

    @property
    def num_used(self) -> int:
        """Pages referenced by page tables."""
        return self.num_pages - self._num_free - len(self._quarantined)

    def allocate(self, num_pages: int) -> list[Extent]:
        """Take pages, each with one reference.

        Raises:
            PoolExhausted: fewer are free; nothing was taken.
        """
        if num_pages > self._num_free:
            raise PoolExhausted(
                f"{num_pages} pages wanted, {self._num_free} of {self.num_pages} free"
            )
        extents = self._choose(num_pages)
        for page in pages_of(extents):
            self._references[page] = 1
        self._num_free -= num_pages
        return extents

    def _choose(self, num_pages: int) -> list[Extent]:
        runs = self._free_runs()
        fitting = [run for run in runs if run.num_pages >= num_pages]
        if fitting:
            best = min(fitting, key=lambda run: run.num_pages)
            return [Extent(best.first_page, num_pages)] if num_pages else []
        chosen: list[Extent] = []
        for run in sorted(runs, key=lambda run: -run.num_pages):
            taken = min(run.num_pages, num_pages)
            chosen.append(Extent(run.first_page, taken))
            num_pages -= taken
            if num_pages == 0:
                break
        return chosen

    def _free_runs(self) -> list[Extent]:
        runs: list[Extent] = []
        start = None
        for page in range(self.num_pages + 1):
            is_free = page < self.num_pages and self._is_free(page)
            if is_free and start is None:
                start = page
            elif not is_free and start is not None:
                runs.append(Extent(start, page - start))
                start = None
        return runs

    def _is_free(self, page: int) -> bool:
        return self._references[page] == 0 and page not in self._quarantined

    def share(self, extents: Iterable[Extent]) -> None:
        """Add one reference to pages in use, for a second page table."""
        for page in pages_of(extents):
            assert self._references[page] > 0, f"page {page} is not in use"
            self._references[page] += 1

    def release(self, extents: Iterable[Extent]) -> None:
        """Drop one reference of each page; the last one frees it."""
        for page in pages_of(extents):
            self._drop(page)
            if self._references[page] == 0:
                self._num_free += 1

    def quarantine(self, extents: Iterable[Extent]) -> None:
        """Drop one reference of each page; those without another are set aside, not freed."""
        for page in pages_of(extents):
            self._drop(page)
            assert self._references[page] == 0, f"page {page} is shared: no round may write to it"
            self._quarantined.add(page)

    def _drop(self, page: int) -> None:
        assert self._references[page] > 0, f"page {page} is not in use"
        self._references[page] -= 1

    def end_quarantine(self, extents: Iterable[Extent]) -> None:
        """Free pages that were set aside: their late writer has answered or is gone."""
        for page in pages_of(extents):
            self._quarantined.remove(page)
            self._num_free += 1

    def check_integrity(self, tables: Iterable[Iterable[Extent]]) -> None:
        """Compare the accounts with the page tables that exist.

        Raises:
            AssertionError: a page is lost, doubly owned or miscounted; says which.
        """
        expected = [0] * self.num_pages
        for table in tables:
            for page in pages_of(table):
                expected[page] += 1
        wrong = [page for page in range(self.num_pages) if expected[page] != self._references[page]]
        assert not wrong, f"pages {wrong}: references differ from the page tables"
        both = [page for page in self._quarantined if self._references[page]]
        assert not both, f"pages {both} are in use and in quarantine"
        num_free = sum(map(self._is_free, range(self.num_pages)))
        assert num_free == self._num_free, f"{num_free} pages are free, not {self._num_free}"


def pages_of(extents: Iterable[Extent]) -> Iterable[int]:
    """Iterate over the pages of extents, in order."""
    for extent in extents:
        yield from range(extent.first_page, extent.first_page + extent.num_pages)
