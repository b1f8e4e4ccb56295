"""One session's right to the state of its conversation: claimed once, lost to a later claim."""

import asyncio

from shared.control.store.claim import Claim
from shared.control.store.guarded_redis import Outcome
from shared.control.store.session_state import SessionState
from shared.control.store.store import ControlStore


class StoredSession:
    """A session whose conversation is kept.

    carried: what the turn before left; None until the claim has told, and where there is nothing.
    is_over: another one has the state now, or nobody can: it is written no more.
    """

    def __init__(self, name: str, mk: str, turn: int) -> None:
        """Name the state (`keys.session_name`); turn counts the sessions of this process."""
        self.name = name
        self.mk = mk
        self.turn = turn
        self.carried: SessionState | None = None
        self.epoch: int | None = None
        self.is_over = False
        self.num_states = 0
        self._lock = asyncio.Lock()

    async def claim(self, store: ControlStore) -> Outcome:
        """Claim the state, unless that is done; where Redis is down it can be tried again."""
        async with self._lock:
            if self.epoch is not None or self.is_over:
                return Outcome.STALE if self.is_over else Outcome.DONE
            answer = await store.claim(self.name, self.mk)
            if isinstance(answer, Claim):
                self.epoch, self.carried = answer.epoch, answer.state
                return Outcome.DONE
            self.is_over = answer is not Outcome.DOWN
            return answer

    async def write(self, store: ControlStore, seq: int, state: SessionState) -> Outcome:
        """Write a state; seq counts those of this session."""
        outcome = await self.claim(store)
        if self.epoch is None or self.is_over:
            return outcome
        outcome = await store.flush(self.name, self.epoch, seq, state)
        self.is_over = outcome in (Outcome.STALE, Outcome.REFUSED)
        return outcome
