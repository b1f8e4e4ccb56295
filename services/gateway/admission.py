"""Admission: how many requests run at a time, whose turn it is, and how long they wait for it.

Tenants take turns by tokens (`shared.control.fair_queue`). Refusing is done before any work, with a
delay after which another try makes sense, from the rate at which places come free. Knows nothing of
what a request is but its tenant, priority, size and deadline.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from services.gateway.drain_rate import DrainRate
from services.gateway.tenant_limits import TenantLimits
from services.gateway.token_bucket import TenantBuckets
from shared.control.fair_queue import FairQueue, Priority
from shared.errors import DeadlineExceeded, QueueFull, ShortstackError, WorkerDraining

MIN_RETRY_DELAY_S = 0.1


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What bounds admission; 0 of a tenant's own bounds is none."""

    max_running: int
    max_waiting: int
    timeout_s: float
    ageing_s: float = 10.0
    max_running_of_tenant: int = 0
    tenant_tokens_per_s: float = 0.0
    tenant_burst_tokens: float = 0.0

    @property
    def of_tenant(self) -> TenantLimits:
        """What bounds a tenant that has no bounds of its own."""
        return TenantLimits(
            self.max_running_of_tenant, self.tenant_tokens_per_s, self.tenant_burst_tokens
        )


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request wants: at most so many tokens, prompt included, by a point of the clock."""

    tenant: str = ""
    priority: Priority = Priority.NORMAL
    num_tokens: int = 1
    deadline_s: float = inf


@dataclass(slots=True, eq=False)
class Place:
    """A place that is held or waited for; its holder notes the tokens that it really takes."""

    claim: Claim
    num_used: int = 0
    # Done when the turn has come, or with the reason why it will not; None if nobody waited.
    turn: "asyncio.Future[ShortstackError | None] | None" = field(default=None, repr=False)


class Admission:
    """A counter of places with a bounded, fair queue before it."""

    def __init__(
        self,
        limits: AdmissionLimits,
        *,
        limits_of: Callable[[str], TenantLimits] | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Start empty and open.

        limits_of: tells the bounds of each tenant; those of the limits for all, if left out.
        """
        self._limits = limits
        self._limits_of = limits_of or (lambda tenant: limits.of_tenant)
        self._clock = clock
        self._num_running = 0
        self._running_of: Counter[str] = Counter()
        self._queue: FairQueue[Place] = FairQueue(limits.ageing_s)
        self._buckets = TenantBuckets(self._limits_of)
        self._rate = DrainRate(limits.max_running)
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_running(self) -> int:
        """Requests that hold a place."""
        return self._num_running

    @property
    def max_running(self) -> int:
        """Places."""
        return self._limits.max_running

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._queue)

    @property
    def is_open(self) -> bool:
        """Whether new requests are taken at all."""
        return not self._is_closed

    def check_open(self, tenant: str) -> None:
        """Refuse early, before the size of a request is known, what would be refused anyway.

        Raises:
            QueueFull, WorkerDraining: as `enter`.
        """
        if self._is_closed:
            raise WorkerDraining("the gateway shuts down", retry_delay_ms=1000)
        is_full = len(self._queue) >= self._limits.max_waiting
        if is_full and not self._has_room_for(tenant) and not self._queue.overfull(tenant, 1):
            raise self._refusal(f"{len(self._queue)} requests wait already")

    async def enter(self, claim: Claim) -> Place:
        """Take a place, and wait for it where need be; whoever gets one calls `leave` once.

        Raises:
            RateLimited: the tenant has taken too many tokens lately.
            QueueFull: too many wait already, the turn would come too late or came too late.
            DeadlineExceeded: the request's own time ended first.
            WorkerDraining: the gateway shuts down.
        """
        self.check_open(claim.tenant)
        self._buckets.take(claim.tenant, claim.num_tokens, self._clock())
        place = Place(claim)
        try:
            await self._wait_for(place)
        except BaseException:
            self._give_up(place)
            raise
        return place

    def leave(self, place: Place) -> None:
        """Put a place back, and hand out what is free."""
        now_s, claim = self._clock(), place.claim
        self._rate.note_free(now_s)
        self._num_running -= 1
        self._note_running(claim.tenant, -1)
        num_unused = claim.num_tokens - place.num_used
        self._buckets.give_back(claim.tenant, num_unused, now_s)
        if place.turn:
            self._queue.refund(claim.tenant, num_unused)
            self._queue.charge(claim.tenant, -num_unused)
        self._hand_out(now_s)
        if not self._num_running:
            self._idle.set()

    def close(self) -> None:
        """Refuse whoever comes from now on; those in the queue still get their turn."""
        self._is_closed = True

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until nobody runs or waits; return whether that came true in time."""
        try:
            await asyncio.wait_for(self._idle.wait(), timeout_s)
        except TimeoutError:
            return self._idle.is_set()
        return True

    def note_new_limits(self) -> None:
        """Keep to other bounds of tenants from now on; who runs goes on."""
        for tenant in self._running_of:
            self._queue.set_held(tenant, self._is_held(tenant))
        self._hand_out(self._clock())

    async def _wait_for(self, place: Place) -> None:
        now_s = self._clock()
        if self._has_room_for(place.claim.tenant):
            self._begin(place, now_s)
            return
        self._refuse_if_late(place.claim, now_s)
        self._make_room_for(place.claim)
        place.turn = asyncio.get_running_loop().create_future()
        claim = place.claim
        self._queue.push(place, claim.tenant, claim.priority, claim.num_tokens, now_s)
        await self._wait(place.turn, claim, now_s)

    async def _wait(
        self, turn: "asyncio.Future[ShortstackError | None]", claim: Claim, now_s: float
    ) -> None:
        timeout_s = min(self._limits.timeout_s, claim.deadline_s - now_s)
        try:
            # Not `wait_for`: of a turn and a cancel at once it would forget the cancel.
            async with asyncio.timeout(timeout_s):
                refusal = await asyncio.shield(turn)
        except TimeoutError:
            if timeout_s < self._limits.timeout_s:
                raise DeadlineExceeded("the request's time ended in the queue") from None
            raise self._refusal(f"no place within {timeout_s:g} s") from None
        if refusal:
            raise refusal

    def _give_up(self, place: Place) -> None:
        """Undo what was done for a place that its request does not take; its turn may have come."""
        claim, turn = place.claim, place.turn
        if turn and turn.done() and turn.result() is None:
            self.leave(place)
            return
        if turn and not turn.done():
            self._queue.remove(place)
        self._buckets.give_back(claim.tenant, claim.num_tokens, self._clock())

    def _has_room_for(self, tenant: str) -> bool:
        """Whether a tenant can run one more at once. Whoever waits then cannot."""
        return self._num_running < self._limits.max_running and not self._is_held(tenant)

    def _is_held(self, tenant: str) -> bool:
        most = self._limits_of(tenant).max_running
        return bool(most) and self._running_of[tenant] >= most

    def _refuse_if_late(self, claim: Claim, now_s: float) -> None:
        """Refuse at once whose turn would hardly come in time."""
        if self._is_held(claim.tenant):
            return  # Its turn depends on its own tenant's requests, whose rate is not known.
        left_s = min(claim.deadline_s - now_s, self._limits.timeout_s)
        if self._rate.sure_wait_s(len(self._queue) + 1) <= left_s:
            return  # In time even behind all others: no need to look for its turn.
        num_before = self._queue.num_before(claim.tenant, claim.priority, claim.num_tokens, now_s)
        if self._rate.sure_wait_s(num_before + 1) <= left_s:
            return
        wait_s = self._rate.wait_s(num_before + 1, now_s)
        raise self._refusal(
            f"the turn would come in about {wait_s:.1f} s, {left_s:.1f} s are left",
            wait_s - left_s,
        )

    def _make_room_for(self, claim: Claim) -> None:
        """See to it that one more can wait; a tenant with more waiting gives up its newest."""
        num_waiting = len(self._queue)
        if num_waiting < self._limits.max_waiting:
            return
        given_up = self._queue.overfull(claim.tenant, claim.num_tokens)
        refusal = self._refusal(f"{num_waiting} requests wait already")
        if given_up is None or given_up.turn is None:
            raise refusal
        self._queue.remove(given_up)
        given_up.turn.set_result(refusal)

    def _begin(self, place: Place, now_s: float) -> None:
        tenant = place.claim.tenant
        self._num_running += 1
        self._note_running(tenant, 1)
        self._idle.clear()
        if self._num_running == self._limits.max_running:
            self._rate.note_full(now_s)

    def _hand_out(self, now_s: float) -> None:
        while self._num_running < self._limits.max_running:
            if self._queue.peek(now_s) is None:
                break
            place = self._queue.pop(now_s)
            assert place.turn is not None, "who is in the queue waits"
            self._begin(place, now_s)
            place.turn.set_result(None)

    def _note_running(self, tenant: str, change: int) -> None:
        self._running_of[tenant] += change
        if not self._running_of[tenant]:
            del self._running_of[tenant]
        if self._limits_of(tenant).max_running:
            self._queue.set_held(tenant, self._is_held(tenant))

    def _refusal(self, reason: str, wait_s: float | None = None) -> QueueFull:
        """Return the error with a delay: given, or until those that wait now will have left."""
        if wait_s is None:
            wait_s = self._rate.wait_s(len(self._queue) + 1, self._clock())
        wait_s = min(max(wait_s, MIN_RETRY_DELAY_S), max(self._limits.timeout_s, 1.0))
        return QueueFull(f"the gateway is busy: {reason}", retry_delay_ms=int(wait_s * 1000) + 1)
