"""Task streams' records on their way to Redis: the last one of every stream.

Of two writers of one stream the one that tried more candidates wins; the other is told that it is
behind. While Redis is away records wait; beyond a limit the oldest is dropped: the stream's next
one brings all of it again.
"""

from collections.abc import Callable
from typing import NamedTuple

from shared.control.store.guarded_redis import Outcome
from shared.control.store.store import ControlStore

MAX_STREAMS = 256


class _Pending(NamedTuple):
    num_evaluations: int
    record: str


def ignore(key: str) -> None:
    """Tell nobody."""


class StreamQueue:
    """The records that wait, by key, oldest first.

    on_behind: hears of a key under which there is a record of more candidates than ours has.
    """

    def __init__(self, store: ControlStore) -> None:
        """Start empty."""
        self._store = store
        self._pending: dict[str, _Pending] = {}
        self.on_behind: Callable[[str], None] = ignore

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, key: str, num_evaluations: int, record: str) -> None:
        """Take a stream's newest record in place of what waits of it."""
        self._pending.pop(key, None)
        self._pending[key] = _Pending(num_evaluations, record)
        if len(self._pending) > MAX_STREAMS:
            del self._pending[next(iter(self._pending))]

    async def drain(self) -> None:
        """Try once to write all that waits; stop where Redis is down."""
        for key, pending in list(self._pending.items()):
            if self._store.wait_s > 0:
                return
            outcome = await self._store.write_stream(key, *pending)
            if outcome is Outcome.DOWN:
                return
            if self._pending.get(key) is pending:
                del self._pending[key]
            if outcome is Outcome.STALE:
                self.on_behind(key)
