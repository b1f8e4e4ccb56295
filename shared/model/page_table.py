"""A session's page table: from positions to slots of the pool. No tensors.

position p  ->  page table[p // page_size]  ->  slot page * page_size + p % page_size
"""

from collections.abc import Iterable, Sequence
from itertools import accumulate

from shared.speculation.vocabulary import Extent


class PageTable:
    """The pages of one session, as extents in the order of its positions."""

    def __init__(self, extents: Sequence[Extent], page_size: int) -> None:
        self.extents = merge_extents(extents)
        self.page_size = page_size
        self._bounds = [0, *accumulate(extent.num_pages * page_size for extent in self.extents)]

    @property
    def num_positions(self) -> int:
        """Positions that the pages hold."""
        return self._bounds[-1]

    @property
    def base_slot(self) -> int | None:
        """Slot of position 0 if all pages lie in one run, else None."""
        if len(self.extents) != 1:
            return None
        return self.extents[0].first_page * self.page_size

    @property
    def last_page(self) -> int | None:
        """The page of the last positions; None while there are no pages."""
        last = self.extents[-1] if self.extents else None
        return last.first_page + last.num_pages - 1 if last else None

    def grown(self, extents: Sequence[Extent]) -> "PageTable":
        """Return a table with more pages behind these."""
        return PageTable([*self.extents, *extents], self.page_size)

    def slots(self, start: int, end: int) -> list[int]:
        """Return the slots of positions [start, end)."""
        base = self.base_slot
        if base is not None:
            return list(range(base + start, base + end))
        found: list[int] = []
        for extent, low, high in zip(self.extents, self._bounds, self._bounds[1:], strict=False):
            first, last = max(start, low), min(end, high)
            if first < last:
                shift = extent.first_page * self.page_size - low
                found.extend(range(first + shift, last + shift))
        return found

    def split(self, position: int) -> tuple[list[Extent], list[Extent]]:
        """Cut at a page boundary: extents of the pages before that of `position`, and the rest."""
        num_left = position // self.page_size
        left: list[Extent] = []
        right: list[Extent] = []
        for extent in self.extents:
            taken = min(extent.num_pages, num_left)
            num_left -= taken
            if taken:
                left.append(Extent(extent.first_page, taken))
            if taken < extent.num_pages:
                right.append(Extent(extent.first_page + taken, extent.num_pages - taken))
        return left, right


def merge_extents(extents: Iterable[Extent]) -> tuple[Extent, ...]:
    """Join neighbours that follow each other in the pool."""
    merged: list[Extent] = []
    for extent in extents:
        last = merged[-1] if merged else None
        if last is not None and last.first_page + last.num_pages == extent.first_page:
            merged[-1] = Extent(last.first_page, last.num_pages + extent.num_pages)
        elif extent.num_pages:
            merged.append(extent)
    return tuple(merged)


def num_pages_for(num_positions: int, page_size: int) -> int:
    """Return the pages that hold so many positions."""
    return -(-num_positions // page_size)
