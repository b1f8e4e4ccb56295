"""The cell's side of the control store: what it tells of itself, what sessions begin with."""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from importlib.metadata import version
from typing import Any

from services.verify.engine import VerifyEngine
from services.verify.events import Adopt, WarmStart
from services.verify.known_priors import KnownPriors
from services.verify.session import Session
from services.verify.session_log import SessionLog
from services.verify.session_store import SessionStore
from services.verify.settings import VerifyServiceSettings
from services.verify.store_link import StoreLink
from services.verify.store_traffic import CellFacts, StoreTraffic
from services.verify.stored_evidence import OpenSession
from services.verify.stream_link import StreamLink
from shared.control.evidence.prior import Prior
from shared.control.skip_search.search_options import SearchOptions
from shared.control.store.cell_load import CellLoad
from shared.control.store.costs import CostCell
from shared.control.store.keys import hardware_key
from shared.ids import BootId, CellId
from shared.telemetry.machine import describe_machine

log = logging.getLogger(__name__)

# What a session begins with is of use for some time after it has begun.
CARRY_TIMEOUT_S = 1.0


class CellStore:
    """Lives in the event loop; `link` belongs to the engine's thread, None without a Redis.

    read_drafting: names whatever drafts are made with besides the model.
    """

    def __init__(
        self,
        settings: VerifyServiceSettings,
        boot_id: BootId,
        model_fingerprint: str,
        sessions: SessionLog,
        read_drafting: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        # Costs that the store was told of: measurements by field.
        self._num_told: dict[str, int] = {}
        self._engine: VerifyEngine
        facts = CellFacts(
            CellId(settings.verify.cell_id),
            boot_id,
            model_fingerprint,
            self._load_now,
            read_drafting,
            self._hardware_key(model_fingerprint),
            self._new_costs,
        )
        self._store = SessionStore(settings.redis, facts)
        self._known_priors = KnownPriors()
        self._read_drafting = read_drafting
        is_kept = self._store.traffic is not None
        self.link = StoreLink(self._store, self._loop) if is_kept else None

    @property
    def traffic(self) -> StoreTraffic | None:
        """What goes to Redis and comes from there; None without one."""
        return self._store.traffic

    def start(self, engine: VerifyEngine) -> None:
        """Begin the background work; a new process begins with what equal machines measured."""
        self._engine = engine
        self._store.start()
        if self.link is not None:
            self._run(self._warm_start())

    async def close(self) -> None:
        """Write what still waits, and disconnect; the engine has ended."""
        for task in self._tasks:
            task.cancel()
        await self._store.close()

    def link_streams(self, options: SearchOptions) -> StreamLink | None:
        """Return the way of task streams' records; None without a Redis."""
        if self.traffic is None:
            return None
        # The engine is made behind this; no record is read before it has started.
        return StreamLink(
            self.traffic, options, self._read_drafting, self._loop, lambda e: self._engine.post(e)
        )

    def open(self, session: Session) -> None:
        """Begin to ask for what a session begins with; nobody waits for it."""
        if self.link is None:
            return
        session.opened = opened = self._store.open(session.request)
        session.is_killed = lambda: not self._store.arms_of(opened).is_enabled
        self._run(self._carry(session, opened))

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry(self, session: Session, opened: OpenSession) -> None:
        carried = await opened.carried(CARRY_TIMEOUT_S)
        prior: Prior | None = None
        try:
            prior = self._known_priors.prior_of(opened.key, carried.priors)
        except ValueError as error:
            log.warning("priors left out: they cannot be read", extra={"error": str(error)})
        saved = carried.evidence.saved if carried.evidence is not None else None
        if prior is not None or saved is not None:
            self._engine.post(Adopt(session, prior, saved))

    async def _warm_start(self) -> None:
        cells = await self._store.read_costs()
        if cells:
            self._engine.post(WarmStart({name: 1e3 * each.mean_us for name, each in cells.items()}))

    # --- what the store asks for ----------------------------------------------------------------

    def _hardware_key(self, model_fingerprint: str) -> str:
        model, machine = self._settings.model, describe_machine()
        hardware = f"{machine.cpu_model}, {machine.num_cores} cores, {model.device}"
        build = version("shortstack-serve")
        return hardware_key(hardware, model_fingerprint, model.dtype, build, model.num_threads)

    def _load_now(self) -> CellLoad:
        roster = self._engine.roster
        states = self._sessions.states()
        num_drafting = sum(not state.decision.is_off for state in states)
        return CellLoad(
            num_sessions=len(roster.running),
            num_waiting=roster.num_waiting,
            mode="on" if 2 * num_drafting > len(states) else "off",
            tokens_per_s=sum(state.tokens_per_s for state in states),
            is_degraded=not self._engine.rounds.has_draft_worker,
        )

    def _new_costs(self) -> dict[str, CostCell]:
        """Return what was measured since the last call."""
        found: dict[str, CostCell] = {}
        at_ms = time.time_ns() // 1_000_000
        for field, (ns, count) in self._engine.steps.governor.costs.to_cells().items():
            num_new = int(count) - self._num_told.get(field, 0)
            if num_new > 0:
                found[field] = CostCell(ns / 1e3, 0.0, num_new, at_ms)
                self._num_told[field] = int(count)
        return found
