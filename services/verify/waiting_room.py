"""The waiting room: sessions that have no pages yet, or lost them.

Knows the memory and its own limits, not the loop. Out of pages is normal life: a session waits, and
is refused with a retry delay once it has waited too long. One that was admitted before is never
refused: it is replayed as soon as there is room, before anybody new, the oldest first. Among the
new, tenants take turns by tokens.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from services.verify.memory import SessionMemory
from services.verify.session import Session
from shared.control.fair_queue import FairQueue
from shared.errors import PoolExhausted, QueueFull, ShortstackError

MIN_RETRY_DELAY_MS = 100
# Weight of the newest gap between two admissions in the running mean.
_PACE = 0.2
# A session of low priority that has waited so long counts as normal.
AGEING_S = 10.0
NS_PER_S = 1_000_000_000

Refusal = tuple[Session, ShortstackError]


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """What bounds admission."""

    max_sessions: int
    max_waiting: int
    queue_timeout_ms: int


class WaitingRoom:
    """A bounded queue in front of the pool."""

    def __init__(self, limits: AdmissionLimits, memory: SessionMemory) -> None:
        self._limits = limits
        self._memory = memory
        self._new: FairQueue[Session] = FairQueue(AGEING_S)
        self._returning: list[Session] = []
        self._mean_gap_ns = 0.1 * NS_PER_S
        self._last_admitted_ns = 0

    def __len__(self) -> int:
        return len(self._new) + len(self._returning)

    def __iter__(self) -> Iterator[Session]:
        yield from self._returning
        yield from self._new

    def enter(self, session: Session, num_running: int) -> list[Refusal]:
        """Queue a session.

        Returns:
            Whom a full queue has no place for: the newest of the tenant that has most waiting.

        Raises:
            InvalidRequest: it can never fit.
            QueueFull: too many wait already.
        """
        self._memory.check_fits(session)
        tenant, cost = session.request.tenant, _cost_of(session)
        refused: list[Refusal] = []
        is_next = not len(self) and num_running < self._limits.max_sessions
        if len(self._new) >= self._limits.max_waiting and not is_next:
            victim = self._new.overfull(tenant, cost)
            if victim is None:
                raise self._queue_full()
            self._new.remove(victim)
            refused.append((victim, self._queue_full()))
        now_s = session.arrived_ns / NS_PER_S
        self._new.push(session, tenant, session.request.priority, cost, now_s)
        return refused

    def _queue_full(self) -> QueueFull:
        return QueueFull(
            f"{len(self._new)} sessions are waiting", retry_delay_ms=self._retry_delay_ms()
        )

    def _retry_delay_ms(self) -> int:
        """Return the time in which all that wait now would be admitted, at the present pace."""
        delay_ms = int(self._mean_gap_ns * (len(self) + 1) / 1e6)
        return max(MIN_RETRY_DELAY_MS, min(delay_ms, self._limits.queue_timeout_ms))

    def put_back(self, session: Session) -> None:
        """Queue a session that lost its pages in front of all new ones, by age."""
        self._returning.append(session)
        self._returning.sort(key=lambda each: each.arrived_ns)

    def admit(self, num_running: int, now_ns: int) -> list[Session]:
        """Give pages to as many sessions as there is room for, in order; return them.

        Every running session may want a page soon: so many are left over.
        """
        admitted: list[Session] = []
        while num_running + len(admitted) < self._limits.max_sessions:
            session = self._returning[0] if self._returning else self._new.peek(now_ns / NS_PER_S)
            if session is None:
                break
            try:
                self._memory.admit(session, num_spare=num_running + len(admitted))
            except PoolExhausted:
                break
            self._take_out(session, now_ns)
            admitted.append(session)
        if not len(self):
            self._last_admitted_ns = 0
        return admitted

    def _take_out(self, session: Session, now_ns: int) -> None:
        if self._returning:
            self._returning.remove(session)
            return
        self._new.pop(now_ns / NS_PER_S)
        if self._last_admitted_ns:
            gap_ns = now_ns - self._last_admitted_ns
            self._mean_gap_ns += _PACE * (gap_ns - self._mean_gap_ns)
        self._last_admitted_ns = now_ns

    def refuse_late(self, now_ns: int) -> list[Refusal]:
        """Take out the sessions that have waited too long; return them with their error."""
        timeout_ns = self._limits.queue_timeout_ms * 1_000_000
        late = [session for session in self._new if now_ns - session.arrived_ns > timeout_ns]
        for session in late:
            self._new.remove(session)
        delay_ms = self._retry_delay_ms()
        message = "no room within the queue's timeout"
        return [(each, PoolExhausted(message, retry_delay_ms=delay_ms)) for each in late]

    def drop_cancelled(self) -> list[Session]:
        """Forget sessions whose stream has ended, as they hold nothing; return those that ran."""
        for session in [each for each in self._new if each.is_cancelled]:
            self._new.remove(session)
        dropped = [each for each in self._returning if each.is_cancelled]
        self._returning = [each for each in self._returning if not each.is_cancelled]
        return dropped


def _cost_of(session: Session) -> int:
    """Return what a session is charged with: the tokens it brings and those it may still emit."""
    left = session.request.stop.max_new_tokens - session.num_emitted
    return session.committed_len + max(0, left)
