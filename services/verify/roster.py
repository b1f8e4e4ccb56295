"""The roster: which sessions run, and how they come to and lose their memory.

    new --enter--> waiting --admit--> running --end--> gone
                      ^                  |
                      +--preempt, lost---+   replayed from its ids, before anybody new

Owned by the engine's thread; knows nothing of passes or drafts. What streams are to be told is
gathered in `events`.
"""

from collections.abc import Container

from services.verify.commit import finish
from services.verify.memory import SessionMemory
from services.verify.session import Moved, Session, SessionEvent, Started, by_place
from services.verify.waiting_room import WaitingRoom
from shared.errors import InvalidRequest, QueueFull, WorkerDraining
from shared.speculation.vocabulary import FinishReason, SpeculationSummary


class Roster:
    """The sessions of one cell."""

    def __init__(self, waiting: WaitingRoom, memory: SessionMemory) -> None:
        self.running: list[Session] = []
        self.events: list[tuple[Session, SessionEvent]] = []
        self.summary = SpeculationSummary()
        self.is_draining = False
        self.num_preemptions = 0
        self._waiting = waiting
        self._memory = memory

    def __len__(self) -> int:
        """Sessions running and waiting."""
        return len(self.running) + len(self._waiting)

    @property
    def num_waiting(self) -> int:
        """Sessions without memory."""
        return len(self._waiting)

    def enter(self, session: Session) -> None:
        """Queue a session, or refuse it."""
        try:
            if self.is_draining:
                raise WorkerDraining("this worker is draining")
            self.events += self._waiting.enter(session, len(self.running))
        except (WorkerDraining, InvalidRequest, QueueFull) as error:
            self.events.append((session, error))

    def admit(self, now_ns: int) -> bool:
        """Let in whom there is room for, refuse who has waited too long; say whether any came."""
        admitted = self._waiting.admit(len(self.running), now_ns)
        for session in admitted:
            self.running.append(session)
            if not session.admitted_ns:
                session.admitted_ns = now_ns
                session.timings.queue_ns = now_ns - session.arrived_ns
                self.events.append((session, Started(session.num_cached)))
        self.events += self._waiting.refuse_late(now_ns)
        return bool(admitted)

    def end(self, session: Session, reason: FinishReason, now_ns: int) -> None:
        """Take a session's memory back and tell its stream the end."""
        self._memory.release(session)
        self.running.remove(session)
        self.summary.add(session.summary)
        self.events.append((session, finish(session, reason, now_ns)))

    def drop_cancelled(self, in_flight: Container[Session], now_ns: int) -> list[Session]:
        """End the sessions whose streams have ended; one in flight only once it has landed."""
        ended = [each for each in self.running if each.is_cancelled and each not in in_flight]
        for session in ended:
            self.end(session, FinishReason.CANCELLED, now_ns)
        for session in self._waiting.drop_cancelled():
            self.summary.add(session.summary)
            self.events.append((session, finish(session, FinishReason.CANCELLED, now_ns)))
            ended.append(session)
        return ended

    def move_all(self, reason: str) -> None:
        """Tell every session to go on elsewhere."""
        for session in [*self.running, *self._waiting]:
            self.events.append((session, Moved(reason)))
            session.is_cancelled = True

    def put_back(self, session: Session) -> None:
        """Queue a session that has lost its memory; it is replayed from its ids."""
        self.running.remove(session)
        self._waiting.put_back(session)

    # --- growth and preemption ------------------------------------------------------------------

    def make_room(
        self, session: Session, num_positions: int, in_flight: Container[Session]
    ) -> bool:
        """Give a session pages for so many positions, taking them from others where need be.

        Those of low priority lose theirs first, then whoever came last: the oldest session always
        goes on, so each in its turn does. A session that is its own last victim is put back.

        Args:
            session: runs.
            num_positions: that its table must hold.
            in_flight: sessions whose pages somebody else may write to now.

        Returns:
            Whether the session has them; else it has lost its memory, or must sit this pass out.
        """
        while not self._memory.grow(session, num_positions):
            victim = self._victim(session, in_flight)
            if victim is None:
                return False
            self._preempt(victim)
            if victim is session:
                return False
        return True

    def _victim(self, session: Session, in_flight: Container[Session]) -> Session | None:
        """Return who comes behind all others, `session` itself included; None: nobody can go now.

        While those behind `session` are in flight it waits for them to land.
        """
        behind = [each for each in self.running if by_place(each) > by_place(session)]
        landed = [each for each in behind if each not in in_flight]
        if landed:
            return max(landed, key=by_place)
        return None if behind else session

    def _preempt(self, session: Session) -> None:
        self._memory.release(session)
        self.put_back(session)
        session.num_preemptions += 1
        self.num_preemptions += 1
