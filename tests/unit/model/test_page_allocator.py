"""The page allocator against a dictionary, under random operations."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.errors import PoolExhausted
from shared.model.page_allocator import PageAllocator, pages_of
from shared.speculation.vocabulary import Extent


class PageMachine(RuleBasedStateMachine):
    """Tables are lists of extents; the dictionary counts the references of every page."""

    @initialize(num_pages=st.integers(1, 24))
    def start(self, num_pages: int) -> None:
        self.allocator = PageAllocator(num_pages)
        self.references = dict.fromkeys(range(num_pages), 0)
        self.tables: list[list[Extent]] = []
        self.quarantined: list[list[Extent]] = []

    def _free(self) -> list[int]:
        set_aside = {page for extents in self.quarantined for page in pages_of(extents)}
        return [p for p, count in self.references.items() if count == 0 and p not in set_aside]

    @rule(num_pages=st.integers(0, 26))
    def allocate(self, num_pages: int) -> None:
        free = self._free()
        if num_pages > len(free):
            with pytest.raises(PoolExhausted):
                self.allocator.allocate(num_pages)
            return
        extents = self.allocator.allocate(num_pages)
        pages = list(pages_of(extents))
        assert len(pages) == len(set(pages)) == num_pages
        assert set(pages) <= set(free)
        runs = "".join("x" if page in free else " " for page in self.references).split()
        if num_pages and any(len(run) >= num_pages for run in runs):
            assert len(extents) == 1, "a run was long enough"
        for page in pages:
            self.references[page] = 1
        self.tables.append(extents)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables))
        self.allocator.share(table)
        for page in pages_of(table):
            self.references[page] += 1
        self.tables.append(list(table))

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        self.allocator.release(table)
        for page in pages_of(table):
            self.references[page] -= 1

    def _unshared(self) -> list[int]:
        return [
            index
            for index, table in enumerate(self.tables)
            if all(self.references[page] == 1 for page in pages_of(table))
        ]

    @precondition(lambda self: self._unshared())
    @rule(data=st.data())
    def quarantine(self, data: st.DataObject) -> None:
        table = self.tables.pop(data.draw(st.sampled_from(self._unshared())))
        self.allocator.quarantine(table)
        for page in pages_of(table):
            self.references[page] = 0
        self.quarantined.append(table)

    @precondition(lambda self: self.quarantined)
    @rule(data=st.data())
    def end_quarantine(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.quarantined) - 1))
        self.allocator.end_quarantine(self.quarantined.pop(index))

    @invariant()
    def accounts_agree(self) -> None:
        if not hasattr(self, "allocator"):
            return
        allocator = self.allocator
        allocator.check_integrity(self.tables)
        assert allocator.num_free == len(self._free())
        assert allocator.num_used == sum(count > 0 for count in self.references.values())
        assert allocator.num_free + allocator.num_used + allocator.num_quarantined == len(
            self.references
        )


PageMachine.TestCase.settings = settings(max_examples=60, deadline=None, derandomize=True)
TestPageMachine = PageMachine.TestCase


def test_the_shortest_run_that_fits_is_taken() -> None:
    allocator = PageAllocator(10)
    extents = [allocator.allocate(n)[0] for n in (3, 1, 2, 4)]
    allocator.release([extents[0]])
    allocator.release([extents[2]])
    assert allocator.allocate(2) == [Extent(4, 2)]
    assert allocator.allocate(3) == [Extent(0, 3)]


def test_scattered_pages_are_taken_where_no_run_is_long_enough() -> None:
    allocator = PageAllocator(6)
    pages = [allocator.allocate(1)[0] for _ in range(6)]
    allocator.release([pages[0], pages[2], pages[3], pages[5]])
    assert sorted(pages_of(allocator.allocate(4))) == [0, 2, 3, 5]
    assert allocator.num_free == 0


def test_a_failed_allocation_takes_nothing() -> None:
    allocator = PageAllocator(4)
    allocator.allocate(3)
    with pytest.raises(PoolExhausted, match="2 pages wanted, 1 of 4 free"):
        allocator.allocate(2)
    assert allocator.num_free == 1


@pytest.mark.parametrize(
    ("tables", "fault"),
    [
        ([[Extent(0, 2)], [Extent(1, 1)]], "references differ"),
        ([], "references differ"),
        ([[Extent(0, 3)]], "references differ"),
    ],
)
def test_check_integrity_names_pages_that_are_lost_or_doubly_owned(
    tables: list[list[Extent]], fault: str
) -> None:
    allocator = PageAllocator(4)
    allocator.allocate(2)
    allocator.check_integrity([[Extent(0, 2)]])
    with pytest.raises(AssertionError, match=fault):
        allocator.check_integrity(tables)


def test_a_shared_page_cannot_be_quarantined() -> None:
    allocator = PageAllocator(2)
    extents = allocator.allocate(1)
    allocator.share(extents)
    with pytest.raises(AssertionError, match="shared"):
        allocator.quarantine(extents)
