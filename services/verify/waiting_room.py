"""The waiting room: sessions that have no pages yet, or lost them; first come, first served.

Knows the memory and its own limits, not the loop. Out of pages is normal life: a session waits, and
is refused with a retry delay once it has waited too long. One that was admitted before is never
refused: it is replayed as soon as there is room.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from services.verify.memory import SessionMemory
from services.verify.session import Session
from shared.errors import PoolExhausted, QueueFull

RETRY_DELAY_MS = 1000


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
        self._waiting: deque[Session] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._waiting)

    def enter(self, session: Session, num_running: int) -> None:
        """Queue a session.

        Raises:
            InvalidRequest: it can never fit.
            QueueFull: too many wait already.
        """
        self._memory.check_fits(session)
        is_next = not self._waiting and num_running < self._limits.max_sessions
        if len(self._waiting) >= self._limits.max_waiting and not is_next:
            raise QueueFull(
                f"{len(self._waiting)} sessions are waiting", retry_delay_ms=RETRY_DELAY_MS
            )
        self._waiting.append(session)

    def put_back(self, session: Session) -> None:
        """Queue a session that lost its pages in front of all others."""
        self._waiting.appendleft(session)

    def admit(self, num_running: int) -> list[Session]:
        """Give pages to as many sessions as there is room for, in order; return them."""
        admitted: list[Session] = []
        while self._waiting and num_running + len(admitted) < self._limits.max_sessions:
            try:
                self._memory.admit(self._waiting[0])
            except PoolExhausted:
                break
            admitted.append(self._waiting.popleft())
        return admitted

    def refuse_late(self, now_ns: int) -> list[tuple[Session, PoolExhausted]]:
        """Take out the sessions that have waited too long; return them with their error."""
        timeout_ns = self._limits.queue_timeout_ms * 1_000_000
        late = [
            session
            for session in self._waiting
            if not session.admitted_ns and now_ns - session.arrived_ns > timeout_ns
        ]
        for session in late:
            self._waiting.remove(session)
        message = "no room within the queue's timeout"
        return [(each, PoolExhausted(message, retry_delay_ms=RETRY_DELAY_MS)) for each in late]

    def drop_cancelled(self) -> None:
        """Forget sessions whose stream has ended; they hold nothing."""
        self._waiting = deque(each for each in self._waiting if not each.is_cancelled)
