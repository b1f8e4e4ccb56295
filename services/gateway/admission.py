"""Admission: how many requests run at a time, and how many wait for it and how long.

First come, first served. Refusing is done before any work, with a delay after which another try
makes sense, from the pace at which requests end. Knows nothing of what a request is.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from time import monotonic

from shared.errors import QueueFull, WorkerDraining

# Weight of the newest duration in the running mean.
_PACE = 0.1


class Admission:
    """A counter of places with a bounded queue before it."""

    def __init__(
        self,
        max_running: int,
        max_waiting: int,
        timeout_s: float,
        *,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Start empty and open."""
        self._max_running = max_running
        self._max_waiting = max_waiting
        self._timeout_s = timeout_s
        self._clock = clock
        self._num_running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_duration_s = 1.0
        self._is_closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_running(self) -> int:
        """Requests that hold a place."""
        return self._num_running

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place; wait for it where need be.

        Raises:
            QueueFull: too many wait already, or the wait took too long.
            WorkerDraining: the gateway shuts down.
        """
        await self._enter()
        started_at = self._clock()
        try:
            yield
        finally:
            duration_s = self._clock() - started_at
            self._mean_duration_s += _PACE * (duration_s - self._mean_duration_s)
            self._leave()

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

    async def _enter(self) -> None:
        if self._is_closed:
            raise WorkerDraining("the gateway shuts down", retry_delay_ms=1000)
        if self._num_running < self._max_running:
            self._num_running += 1
            self._idle.clear()
            return
        if len(self._waiting) >= self._max_waiting:
            raise self._refusal(f"{len(self._waiting)} requests wait already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._timeout_s)
        except TimeoutError:
            self._step_out(turn)
            raise self._refusal(f"no place within {self._timeout_s:g} s") from None
        except asyncio.CancelledError:
            self._step_out(turn)
            raise

    def _step_out(self, turn: "asyncio.Future[None]") -> None:
        if turn.done():
            self._leave()
        else:
            self._waiting.remove(turn)

    def _leave(self) -> None:
        """Hand the place to the first in the queue, or put it back."""
        if self._waiting:
            self._waiting.popleft().set_result(None)
            return
        self._num_running -= 1
        if not self._num_running:
            self._idle.set()

    def _refusal(self, reason: str) -> QueueFull:
        num_before = len(self._waiting) + 1
        delay_s = self._mean_duration_s * num_before / self._max_running
        return QueueFull(f"the gateway is busy: {reason}", retry_delay_ms=int(delay_s * 1000) + 1)
