"""What sessions leave to others, and begin with: the verify worker's side of the control store.

Beside the decoding, never in it: nobody waits for it but for a few ms, and then beside a prefill.
Without a Redis nothing is kept, and the calls are the same. Knows nothing of what evidence means.

    session = store.open(request)        begins to ask: the conversation's state, priors
    await session.carried()              what is known in time
    store.note(session, ...)             every 64 rounds or 2 s (`schedule.FlushSchedule`)
    store.close_session(session, ...)    at the end of its stream, whatever ended it
"""

import asyncio
import time
from collections.abc import Callable

from services.verify.session import SessionRequest
from services.verify.store_traffic import NO_ORDERS, CellFacts, StoreTraffic
from services.verify.stored_evidence import OpenSession, StoredEvidence, state_of
from shared.control.evidence.sampling_class import sampling_class_of
from shared.control.store.arms import Arms
from shared.control.store.costs import CostCell
from shared.control.store.keys import model_key, session_name
from shared.control.store.prior_counts import Counts, PriorKey
from shared.control.store.store import ControlStore
from shared.control.store.stored_session import StoredSession
from shared.settings import RedisSettings
from shared.speculation.vocabulary import OFF

NOT_KEPT = PriorKey("", "")


class SessionStore:
    """All methods belong to the event loop, but for `arms_of`."""

    def __init__(
        self,
        settings: RedisSettings,
        facts: CellFacts,
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the settings; connects at the first use.

        now_ms: ms since 1970; clock: seconds that never go back.
        """
        self._claim_timeout_s = settings.claim_timeout_ms / 1000
        self._facts = facts
        self._num_turns = 0
        self.traffic: StoreTraffic | None = None
        if settings.url:
            store = ControlStore(settings, now_ms, clock)
            self.traffic = StoreTraffic(store, facts, now_ms, clock)

    @property
    def is_degraded(self) -> bool:
        """Whether there is a Redis, and it is away."""
        return self.traffic is not None and self.traffic.store.is_degraded

    def start(self) -> None:
        """Begin what happens in the background."""
        if self.traffic is not None:
            self.traffic.start()

    async def close(self) -> None:
        """Write what still waits, for a second at most, and disconnect."""
        if self.traffic is not None:
            await self.traffic.close()

    def open(self, request: SessionRequest) -> OpenSession:
        """Begin to ask for what a session begins with; never waits."""
        deadline_s = asyncio.get_running_loop().time() + self._claim_timeout_s
        method, traffic = request.wished.method, self.traffic
        if traffic is None or method == OFF:
            return OpenSession(NOT_KEPT, None, deadline_s)
        sampling_class = sampling_class_of(request.sampling)
        adapter = self._facts.read_adapter()
        mk = model_key(self._facts.model_fingerprint, method, adapter, sampling_class)
        key = PriorKey(mk, request.tenant, request.task_key)
        session = OpenSession(key, self._stored_session(request, mk), deadline_s)
        if session.stored is not None:
            session.left_here = traffic.states.take_over(session.stored)
            session.ask(traffic.claim(session.stored))
        session.priors = traffic.priors.get(key)
        if session.priors is None:
            session.ask(traffic.fetch_priors(session))
        traffic.heed_arms(mk)
        return session

    def note(self, session: OpenSession, evidence: StoredEvidence | None, counts: Counts) -> None:
        """Take a session's evidence as it is now.

        Args:
            session: as opened.
            evidence: None where there is none yet; it is needed for conversations only.
            counts: for priors, since they were last taken.
        """
        self._take(session, evidence, counts, is_end=False)

    def close_session(
        self, session: OpenSession, evidence: StoredEvidence | None, counts: Counts
    ) -> None:
        """Take what a session leaves at its end, as `note`; it is written at once."""
        self._take(session, evidence, counts, is_end=True)

    def arms_of(self, session: OpenSession) -> Arms:
        """Return an operator's orders for a session, as last read; may be asked from any thread."""
        return self.traffic.arms.get(session.key.mk, NO_ORDERS) if self.traffic else NO_ORDERS

    async def read_costs(self) -> dict[str, CostCell]:
        """Return the costs of equal machines, for a warm start; none where Redis is away."""
        if self.traffic is None or not self._facts.hardware_key:
            return {}
        return await self.traffic.store.read_cost(self._facts.hardware_key) or {}

    def _take(
        self, session: OpenSession, evidence: StoredEvidence | None, counts: Counts, is_end: bool
    ) -> None:
        traffic = self.traffic
        if traffic is None or session.key is NOT_KEPT:
            return
        traffic.counts.add(session.key, traffic.today, counts)
        if session.stored is not None and evidence is not None:
            state = state_of(evidence, session.key.mk, session.state, traffic.now_ms())
            traffic.states.put(session.stored, state)
        if is_end:
            traffic.write_now()

    def _stored_session(self, request: SessionRequest, mk: str) -> StoredSession | None:
        if not request.session_key:
            return None
        self._num_turns += 1
        name = session_name(request.tenant, request.session_key)
        return StoredSession(name, mk, self._num_turns)
