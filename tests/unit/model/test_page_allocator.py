"""The page allocator against a dictionary, under random operations."""

from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shared.errors import PoolExhausted
from shared.model.page_allocator import NOBODY, PageAllocator, pages_of
from shared.speculation.vocabulary import Extent


@dataclass
class Table:
    """Pages of one owner; NOBODY makes no claims."""

    owner: int
    extents: list[Extent]


class PageMachine(RuleBasedStateMachine):
    """Tables are lists of extents; the dictionary counts the references of every page."""

    @initialize(num_pages=st.integers(1, 24))
    def start(self, num_pages: int) -> None:
        self.allocator = PageAllocator(num_pages)
        self.references = dict.fromkeys(range(num_pages), 0)
        self.tables: list[Table] = []
        self.quarantined: list[list[Extent]] = []
        self.owners = count(1)
        # What each owner was promised when it last took pages: the first page, and how many.
        self.promised: dict[int, range] = {}

    def _free(self) -> list[int]:
        set_aside = {page for extents in self.quarantined for page in pages_of(extents)}
        return [p for p, count in self.references.items() if count == 0 and p not in set_aside]

    def _promises(self) -> dict[int, list[int]]:
        return {owner: list(pages) for owner, pages in self.allocator._promises.items()}

    def _take(self, num_pages: int, owner: int, behind: int | None, room: int) -> list[Extent]:
        """Allocate, and compare with what was free and whose."""
        free, before = self._free(), self._promises()
        if num_pages > len(free):
            with pytest.raises(PoolExhausted):
                self.allocator.allocate(num_pages, owner=owner, behind=behind, room=room)
            assert self._promises() == before
            return []
        extents = self.allocator.allocate(num_pages, owner=owner, behind=behind, room=room)
        pages = list(pages_of(extents))
        assert len(pages) == len(set(pages)) == num_pages
        assert set(pages) <= set(free)
        for page in pages:
            self.references[page] = 1
        self._check_kept_off_promises(set(pages), owner, before)
        if pages and owner != NOBODY:
            self._check_promise(owner, pages[-1] + 1, room)
        return extents

    def _check_kept_off_promises(
        self, taken: set[int], owner: int, before: dict[int, list[int]]
    ) -> None:
        """What was promised to others goes last, and from the far end."""
        promised = {page for pages in self._promises().values() for page in pages}
        for other, pages in before.items():
            lost = taken & set(pages)
            if other == owner or not lost:
                continue
            assert not set(self._free()) - promised, "pages that nobody was promised were left"
            kept = [page for page in pages if page not in lost]
            assert kept == pages[: len(kept)], "not taken from the far end"
            assert self._promises()[other] == kept

    def _check_promise(self, owner: int, first: int, room: int) -> None:
        """All room is promised that lies free and unpromised behind the owner's last page."""
        found = self._promises()[owner]
        assert found == list(range(first, first + len(found)))
        assert len(found) <= room
        end = first + len(found)
        others = {p for other, pages in self._promises().items() if other != owner for p in pages}
        if len(found) < room and end in self.references:
            assert end not in self._free() or end in others, "more could have been promised"
        self.promised[owner] = range(first, end)

    @rule(num_pages=st.integers(0, 26))
    def allocate(self, num_pages: int) -> None:
        unpromised = set(self._free()) - {p for each in self._promises().values() for p in each}
        extents = self._take(num_pages, NOBODY, None, 0)
        runs = "".join("x" if page in unpromised else " " for page in self.references).split()
        if extents and any(len(run) >= num_pages for run in runs):
            assert len(extents) == 1, "a run was long enough"
        if extents:
            self.tables.append(Table(NOBODY, extents))

    @rule(num_pages=st.integers(1, 6), room=st.integers(0, 8))
    def allocate_with_room(self, num_pages: int, room: int) -> None:
        owner = next(self.owners)
        extents = self._take(num_pages, owner, None, room)
        if extents:
            self.tables.append(Table(owner, extents))

    def _owned(self) -> list[Table]:
        return [table for table in self.tables if table.owner != NOBODY]

    @precondition(lambda self: self._owned())
    @rule(data=st.data(), num_pages=st.integers(1, 6), room=st.integers(0, 8))
    def grow(self, data: st.DataObject, num_pages: int, room: int) -> None:
        tables = self._owned()
        table = tables[data.draw(st.integers(0, len(tables) - 1))]
        last = table.extents[-1].first_page + table.extents[-1].num_pages - 1
        mine = self._promises().get(table.owner, [])
        extents = self._take(num_pages, table.owner, last, room)
        if extents and mine[:1] == [last + 1]:
            assert extents[0].first_page == last + 1, "its own promise comes first"
            assert extents[0].num_pages >= min(num_pages, len(mine))
        table.extents += extents

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables))
        self.allocator.share(table.extents)
        for page in pages_of(table.extents):
            self.references[page] += 1
        self.tables.append(Table(NOBODY, list(table.extents)))

    def _forget(self, table: Table) -> None:
        if table.owner != NOBODY:
            self.allocator.drop_promises(table.owner)
            self.promised.pop(table.owner)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        table = self.tables.pop(data.draw(st.integers(0, len(self.tables) - 1)))
        self.allocator.release(table.extents)
        self._forget(table)
        for page in pages_of(table.extents):
            self.references[page] -= 1

    def _unshared(self) -> list[int]:
        return [
            index
            for index, table in enumerate(self.tables)
            if all(self.references[page] == 1 for page in pages_of(table.extents))
        ]

    @precondition(lambda self: self._unshared())
    @rule(data=st.data())
    def quarantine(self, data: st.DataObject) -> None:
        table = self.tables.pop(data.draw(st.sampled_from(self._unshared())))
        self.allocator.quarantine(table.extents)
        self._forget(table)
        for page in pages_of(table.extents):
            self.references[page] = 0
        self.quarantined.append(table.extents)

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
        allocator.check_integrity([table.extents for table in self.tables])
        assert allocator.num_free == len(self._free())
        assert allocator.num_used == sum(count > 0 for count in self.references.values())
        assert allocator.num_free + allocator.num_used + allocator.num_quarantined == len(
            self.references
        )

    @invariant()
    def promises_are_free_pages_behind_tables(self) -> None:
        if not hasattr(self, "allocator"):
            return
        promises, free = self._promises(), set(self._free())
        assert promises.keys() == {table.owner for table in self._owned()}
        pages = [page for each in promises.values() for page in each]
        assert len(pages) == len(set(pages)), "promised to two"
        assert set(pages) <= free
        for owner, each in promises.items():
            # What is left of a promise is its beginning.
            assert each == list(self.promised[owner])[: len(each)]


PageMachine.TestCase.settings = settings(max_examples=80, deadline=None, derandomize=True)
TestPageMachine = PageMachine.TestCase


def test_a_table_grows_into_the_pages_that_were_promised_to_it() -> None:
    allocator = PageAllocator(12)
    assert allocator.allocate(2, owner=1, room=3) == [Extent(0, 2)]
    # Others keep off.
    assert allocator.allocate(2, owner=2, room=3) == [Extent(5, 2)]
    assert allocator.allocate(1) == [Extent(10, 1)]
    assert allocator.num_free == 7, "promised pages count as free"
    assert allocator.allocate(2, owner=1, behind=1, room=1) == [Extent(2, 2)]
    assert allocator.allocate(3, owner=2, behind=6, room=0) == [Extent(7, 3)]
    allocator.check_integrity([[Extent(0, 4)], [Extent(5, 5)], [Extent(10, 1)]])


def test_room_is_looked_for_where_there_is_most() -> None:
    allocator = PageAllocator(12)
    held = allocator.allocate(12)
    del held
    allocator.release([Extent(0, 3), Extent(4, 6)])
    # Best fit for the pages alone would be the short run: there they could not grow.
    assert allocator.allocate(2, owner=1, room=4) == [Extent(4, 2)]
    assert allocator.allocate(2, owner=2, room=9) == [Extent(0, 2)], "as much room as there is"


def test_promised_pages_are_taken_last_and_from_the_far_end() -> None:
    allocator = PageAllocator(8)
    allocator.allocate(1, owner=1, room=5)
    assert allocator.allocate(3) == [Extent(6, 2), Extent(5, 1)]
    # Page 1 still follows the table.
    assert allocator.allocate(1, owner=1, behind=0, room=3) == [Extent(1, 1)]


def test_what_was_promised_to_an_owner_that_ended_is_anybodys() -> None:
    allocator = PageAllocator(8)
    extents = allocator.allocate(2, owner=1, room=4)
    allocator.release(extents)
    allocator.drop_promises(1)
    allocator.drop_promises(1)
    assert allocator.allocate(8) == [Extent(0, 8)]


def test_a_new_promise_takes_the_place_of_the_old_one() -> None:
    allocator = PageAllocator(10)
    allocator.allocate(1, owner=1, room=6)
    allocator.allocate(1, owner=1, behind=0, room=2)
    # Pages 2 and 3 are promised, 4 to 9 are not any more.
    assert allocator.allocate(6) == [Extent(4, 6)]


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
