"""Page tables: slots of positions, cuts at page boundaries, merged neighbours."""

from hypothesis import given
from hypothesis import strategies as st

from shared.model.page_allocator import pages_of
from shared.model.page_table import PageTable, merge_extents, num_pages_for
from shared.speculation.vocabulary import Extent

PAGES = st.lists(st.integers(0, 30), min_size=1, max_size=12, unique=True)


def table_of(pages: list[int], page_size: int) -> PageTable:
    return PageTable([Extent(page, 1) for page in pages], page_size)


@given(pages=PAGES, page_size=st.integers(1, 5), data=st.data())
def test_slots_follow_the_pages(pages: list[int], page_size: int, data: st.DataObject) -> None:
    table = table_of(pages, page_size)
    num_positions = len(pages) * page_size
    assert table.num_positions == num_positions
    start = data.draw(st.integers(0, num_positions))
    end = data.draw(st.integers(start, num_positions))
    expected = [pages[p // page_size] * page_size + p % page_size for p in range(start, end)]
    assert table.slots(start, end) == expected


@given(pages=PAGES, page_size=st.integers(1, 5), data=st.data())
def test_a_cut_keeps_every_page_and_begins_the_rest_with_that_of_the_position(
    pages: list[int], page_size: int, data: st.DataObject
) -> None:
    table = table_of(pages, page_size)
    position = data.draw(st.integers(0, len(pages) * page_size - 1))
    left, right = table.split(position)
    assert [*pages_of(left), *pages_of(right)] == pages
    assert next(iter(pages_of(right))) == pages[position // page_size]


def test_neighbours_are_merged_into_one_run_that_is_read_in_place() -> None:
    table = PageTable([Extent(4, 2), Extent(6, 1), Extent(7, 3)], 8)
    assert table.extents == (Extent(4, 6),)
    assert table.base_slot == 32


def test_scattered_pages_have_no_base_slot() -> None:
    assert PageTable([Extent(4, 2), Extent(3, 1)], 8).base_slot is None


def test_an_empty_table_holds_nothing() -> None:
    table = PageTable([], 8)
    assert (table.num_positions, table.slots(0, 0), table.base_slot) == (0, [], None)
    assert merge_extents([Extent(3, 0)]) == ()


def test_pages_are_counted_by_rounding_up() -> None:
    assert [num_pages_for(n, 4) for n in (0, 1, 4, 5, 8)] == [0, 1, 1, 2, 2]
