"""States on their way to Redis: the last one of every conversation, however many came before it.

While Redis is away they wait here, and a conversation that goes on in this process finds its state
here. Beyond the limit the oldest is dropped and counted.
"""

import asyncio
from dataclasses import dataclass

from shared.control.store.guarded_redis import Outcome
from shared.control.store.session_state import SessionState
from shared.control.store.store import ControlStore
from shared.control.store.stored_session import StoredSession


@dataclass(slots=True, eq=False)
class _Pending:
    session: StoredSession
    state: SessionState
    # The same at every try, so that one whose answer was lost is found to be done.
    seq: int


class WriteBehind:
    """The states that wait, by conversation, oldest first."""

    def __init__(self, store: ControlStore, max_sessions: int) -> None:
        """Start empty."""
        self._store = store
        self._max_sessions = max_sessions
        self._pending: dict[str, _Pending] = {}
        self._lock = asyncio.Lock()
        self.num_dropped = 0

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, session: StoredSession, state: SessionState) -> None:
        """Take a session's newest state in place of what waits of its conversation.

        Of two sessions of one conversation the later one owns its state.
        """
        pending = self._pending.get(session.name)
        session.is_over |= pending is not None and pending.session.turn > session.turn
        if session.is_over:
            return
        session.num_states += 1
        self._pending.pop(session.name, None)
        self._pending[session.name] = _Pending(session, state, session.num_states)
        if len(self._pending) > self._max_sessions:
            del self._pending[next(iter(self._pending))]
            self.num_dropped += 1

    def take_over(self, session: StoredSession) -> SessionState | None:
        """Return what waits of a new session's conversation, and write it as that session's.

        None: nothing of the session's `mk` waits.
        """
        pending = self._pending.get(session.name)
        if pending is None or pending.state.mk != session.mk:
            return None
        self.put(session, pending.state)
        return pending.state

    async def drain(self) -> None:
        """Try once to write all that waits; stop where Redis is down."""
        async with self._lock:
            for name, pending in list(self._pending.items()):
                if self._store.wait_s > 0:
                    return
                outcome = await pending.session.write(self._store, pending.seq, pending.state)
                if outcome is Outcome.DOWN:
                    return
                if self._pending.get(name) is pending:
                    del self._pending[name]
