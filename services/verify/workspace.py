"""A workspace: pages behind a session's committed positions that are nobody's, lent for one look.

    session      [ page | page | page ..a..... n-1 | ... ]
    workspace    [ page | page ] [ copy of ..a | fresh | fresh ]

The full pages before position a are the session's own and only read; the part of a page before it
is copied along. All is given back before the engine goes on, so nobody else ever sees these pages.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from services.verify.memory import SessionMemory
from services.verify.session import Session
from shared.model.page_table import PageTable, num_pages_for


@contextmanager
def workspace(memory: SessionMemory, session: Session, start: int, end: int) -> Iterator[PageTable]:
    """Lend a table of positions [0, end) whose [0, start) hold the session's KV.

    Args:
        memory: of the session's cell.
        session: has pages; start <= its num_run.
        start: first position that may be written.
        end: of the positions that may be.

    Raises:
        PoolExhausted: too few pages are free, those of the prefix cache counted; nothing was taken,
            and no session's pages given up.
    """
    assert session.table is not None
    kept, _ = session.table.split(start)
    tail_start = start - start % memory.page_size
    num_pages = num_pages_for(end - tail_start, memory.page_size)
    memory.make_room(num_pages)
    fresh = memory.allocator.allocate(num_pages)
    try:
        table = PageTable([*kept, *fresh], memory.page_size)
        if tail_start < start:
            source = session.table.slots(tail_start, start)
            memory.pool.copy_positions(source, table.slots(tail_start, start))
        yield table
    finally:
        memory.allocator.release(fresh)
