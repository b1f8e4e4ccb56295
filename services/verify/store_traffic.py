"""What goes to Redis and comes from it in the background, for one cell.

    states   the last one of every conversation   written when a session has ended, else every s
    counts   summed by kind of text               added when a session has ended, else every 60 s
    priors   of the kinds of text in use          read every 60 s; costs merged with them
    streams  the last record of every task stream written every s
    arms     an operator's orders                 read every 10 s
    live     how the cell is doing                told every second

Lives in the event loop; nothing here is waited for by a session. What Redis does not take waits.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass

from services.verify.stored_evidence import OpenSession
from shared.control.periodic import PeriodicTask
from shared.control.store.arms import Arms
from shared.control.store.cell_load import CellLoad
from shared.control.store.costs import CostCell
from shared.control.store.guarded_redis import Outcome
from shared.control.store.keys import DAY_MS
from shared.control.store.prior_cache import PriorCache
from shared.control.store.prior_queue import PriorQueue
from shared.control.store.store import ControlStore
from shared.control.store.stored_session import StoredSession
from shared.control.store.stream_queue import StreamQueue
from shared.control.store.write_behind import WriteBehind
from shared.ids import BootId, CellId

log = logging.getLogger(__name__)

# Conversations whose state waits, and kinds of text and days whose counts do.
MAX_PENDING = 4096
COUNTS_PERIOD_S = 60.0
FLUSH_PERIOD_S = 1.0
LAST_FLUSH_S = 1.0
REFRESH_PERIOD_MS = 60_000
ARMS_PERIOD_MS = 10_000
LIVE_PERIOD_MS = 1000
NO_ORDERS = Arms()


@dataclass(frozen=True, slots=True)
class CellFacts:
    """What the store needs to know of its cell; what changes is asked for when it is needed.

    read_load: how the cell is doing.
    read_adapter: names whatever drafts are made with besides the model; empty: nothing.
    hardware_key: whom costs are shared with (`keys.hardware_key`); empty: nobody.
    read_costs: costs measured since it was last asked, by field.
    """

    cell_id: CellId
    boot_id: BootId
    model_fingerprint: str
    read_load: Callable[[], CellLoad]
    read_adapter: Callable[[], str] = str
    hardware_key: str = ""
    read_costs: Callable[[], Mapping[str, CostCell]] = dict


class StoreTraffic:
    """The traffic of one cell; made where there is a Redis."""

    def __init__(
        self,
        store: ControlStore,
        facts: CellFacts,
        now_ms: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        """Take the store; nothing is sent before `start` or a question.

        now_ms: ms since 1970; clock: seconds that never go back.
        """
        self.store = store
        self.facts = facts
        self.now_ms = now_ms
        self._clock = clock
        self.states = WriteBehind(store, MAX_PENDING)
        self.counts = PriorQueue(f"{facts.cell_id}-{facts.boot_id:x}", clock, MAX_PENDING)
        self.streams = StreamQueue(store)
        self.priors = PriorCache(store, clock)
        self.arms: dict[str, Arms] = {}
        self._wake = asyncio.Event()
        self._are_counts_due = False
        self._counts_sent_s = clock()
        self._running: set[asyncio.Task[None]] = set()
        self._periodic = (
            PeriodicTask(REFRESH_PERIOD_MS, self._refresh),
            PeriodicTask(ARMS_PERIOD_MS, self._poll_arms),
            PeriodicTask(LIVE_PERIOD_MS, self._tell_load),
        )

    @property
    def today(self) -> int:
        """Days since 1970 (UTC)."""
        return self.now_ms() // DAY_MS

    def start(self) -> None:
        """Begin what happens by itself."""
        self.spawn(self._flush_for_ever())
        for task in self._periodic:
            task.start()

    async def close(self) -> None:
        """Write what still waits, for a second at most, and disconnect."""
        for task in self._periodic:
            await task.stop()
        self._are_counts_due = True
        with suppress(TimeoutError):
            await asyncio.wait_for(self.flush(), LAST_FLUSH_S)
        running = list(self._running)
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self.store.close()

    def claim(self, stored: StoredSession) -> "asyncio.Task[None]":
        """Begin to claim a session's conversation."""

        async def claim() -> None:
            await stored.claim(self.store)

        return self.spawn(claim())

    def fetch_priors(self, session: OpenSession) -> "asyncio.Task[None]":
        """Begin to read the priors of a session's kind of text."""

        async def fetch() -> None:
            session.priors = await self.priors.fetch(session.key, self.today)

        return self.spawn(fetch())

    def heed_arms(self, mk: str) -> None:
        """Read an operator's orders for an `mk` from now on."""
        if mk not in self.arms:
            self.arms[mk] = NO_ORDERS
            self.spawn(self._read_arms(mk))

    def write_now(self) -> None:
        """Write what waits at once, counts too: a session has ended."""
        self._are_counts_due = True
        self._wake.set()

    async def flush(self) -> None:
        """Try once to write what waits, counts only where they are due."""
        await self.states.drain()
        await self.streams.drain()
        now_s = self._clock()
        self._are_counts_due |= now_s - self._counts_sent_s >= COUNTS_PERIOD_S
        if self._are_counts_due and self.store.wait_s == 0:
            self._are_counts_due, self._counts_sent_s = False, now_s
            await self._send_counts()

    async def _send_counts(self) -> None:
        for item in self.counts.due():
            if await self.store.add_prior(item) is Outcome.DOWN:
                self._are_counts_due = True
                return
            self.counts.remove(item)

    async def _flush_for_ever(self) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), FLUSH_PERIOD_S)
            self._wake.clear()
            try:
                await self.flush()
            except Exception:
                log.exception("write-behind failed")

    async def _refresh(self) -> None:
        await self.priors.refresh(self.today)
        if self.facts.hardware_key:
            await self.store.merge_cost(self.facts.hardware_key, self.facts.read_costs())

    async def _poll_arms(self) -> None:
        for mk in list(self.arms):
            await self._read_arms(mk)

    async def _read_arms(self, mk: str) -> None:
        """Read an operator's orders; the last ones hold where Redis does not tell any."""
        arms, before = await self.store.read_arms(mk), self.arms[mk]
        if arms is not None and arms != before:
            self.arms[mk] = arms
            fields = {"mk": mk, "version": arms.version, "is_enabled": arms.is_enabled}
            log.info("orders changed", extra=fields)

    async def _tell_load(self) -> None:
        await self.store.write_live(self.facts.cell_id, self.facts.read_load())

    def spawn(self, work: Coroutine[object, object, None]) -> "asyncio.Task[None]":
        """Begin some work of the cell's; it ends with the traffic at the latest."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task
