"""The way of spans from an engine's thread to the exporter: values in, spans made elsewhere.

`put` is all that the engine's thread pays. A thread of the outbox's own makes spans of what was put
and queues them. When it is far behind, what comes is dropped and counted.
"""

import logging
import queue
import threading
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from shared.telemetry.past_span import PastSpan

log = logging.getLogger(__name__)

MAX_PENDING = 256
CLOSE_TIMEOUT_S = 2.0

ItemT = TypeVar("ItemT")
Export = Callable[[Iterable[PastSpan]], None]


class SpanOutbox(Generic[ItemT]):
    """Makes spans of items behind the back of whoever puts them."""

    def __init__(self, make: Callable[[ItemT], Iterable[PastSpan]], export: Export) -> None:
        self._make = make
        self._export = export
        self._items: queue.SimpleQueue[ItemT | None] = queue.SimpleQueue()
        self.num_dropped = 0
        self._thread = threading.Thread(target=self._run, name="span-outbox", daemon=True)
        self._thread.start()

    def put(self, item: ItemT) -> None:
        """Take an item; never waits."""
        if self._items.qsize() >= MAX_PENDING:
            self.num_dropped += 1
            return
        self._items.put(item)

    def close(self) -> None:
        """Make what was put, for a bounded time."""
        self._items.put(None)
        self._thread.join(CLOSE_TIMEOUT_S)
        if self.num_dropped:
            log.warning("spans dropped", extra={"num_batches": self.num_dropped})

    def _run(self) -> None:
        while (item := self._items.get()) is not None:
            try:
                self._export(self._make(item))
            except Exception:
                # A bug in the making of spans ends this batch of them, nothing else.
                log.exception("spans not made")
