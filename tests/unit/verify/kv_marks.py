"""Marks that stand in for KV: one for each history, so that wrong KV shows without a model."""

import zlib
from collections.abc import Sequence

from services.verify.memory import SessionMemory
from services.verify.session import Session


def run_all(memory: SessionMemory, session: Session) -> None:
    """Stand in for passes over all of a session's tokens but the last: mark their KV."""
    assert session.table is not None
    end = session.committed_len - 1
    mark_kv(memory, session, session.num_run, end)
    session.num_run, session.is_decoding = end, True
    memory.publish(session)


def mark_of(tokens: Sequence[int], position: int) -> int:
    """Return what stands for the KV of a position behind a history; exact in float32."""
    return zlib.crc32(bytes(tokens[: position + 1])) & 0xFFFFFF


def mark_kv(memory: SessionMemory, session: Session, start: int, end: int) -> None:
    """Write the marks of positions [start, end), and their ids as the engine does."""
    assert session.table is not None
    for position, slot in zip(range(start, end), session.table.slots(start, end), strict=True):
        memory.pool.layers[0][:, :, slot] = mark_of(session.tokens, position)
    memory.write_tokens(session, start, session.tokens[start:end])


def check_kv(memory: SessionMemory, session: Session) -> None:
    """Check that a session holds the KV of its own text on [0, num_run)."""
    assert session.table is not None
    kv = memory.pool.layers[0][0, 0, :, 0]
    found = [int(kv[slot]) for slot in session.table.slots(0, session.num_run)]
    assert found == [mark_of(session.tokens, position) for position in range(session.num_run)]
    if session.request.sampling.needs_history and session.num_run:
        ids = memory.pool.read_tokens(session.table, session.num_run)
        assert ids == session.tokens[: session.num_run]


def check_cached_kv(memory: SessionMemory) -> None:
    """Check that every page of the prefix cache holds the KV of the text that leads to it."""
    kv = memory.pool.layers[0][0, 0, :, 0]
    for page, node in memory.prefixes._nodes.items():
        text: list[int] = []
        upward = node
        while upward.parent is not None:
            text[:0] = upward.tokens
            upward = upward.parent
        first = len(text) - memory.page_size
        slots = range(page * memory.page_size, (page + 1) * memory.page_size)
        assert [int(kv[slot]) for slot in slots] == [
            mark_of(text, position) for position in range(first, len(text))
        ]
