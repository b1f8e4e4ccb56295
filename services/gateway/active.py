"""Running requests by id, so that whoever knows an id can end its request.

A request is ended where it waits for something of its own (a place, a cell): the task that serves
it is cancelled there, and `Cancelled` is raised in its place, so that the client still gets a last
message. While it writes to its client it is left alone, unless the client has stopped reading: then
the task is cancelled in the write, and what the client finds when it reads on is an error.

What a client has not taken is bounded by that too: a write returns once the transport has room for
it, and nothing is read from a cell meanwhile, so that the cell's own stream fills and its session
pauses. All that is held for a slow client is one message and the buffers of two streams.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Cancelled, InvalidRequest, ShortstackError, WorkerDraining
from shared.ids import RequestId

log = logging.getLogger(__name__)

# A client that takes nothing for so long after its request was cancelled has stopped reading.
WRITE_TIMEOUT_S = 1.0


class RunningRequest:
    """One request that can be ended from outside."""

    def __init__(self, request_id: RequestId, task: asyncio.Task[object]) -> None:
        """Start running, served by a task."""
        self.ended = asyncio.Event()
        self.cut_off_reason = ""
        self.is_slow_reader = False
        self._request_id = request_id
        self._task = task
        self._ending: ShortstackError | None = None
        self._is_waiting = False

    async def cancel(self) -> None:
        """End the request, and return when it has ended."""
        self._end_with(Cancelled("cancelled by request id"))
        try:
            await asyncio.wait_for(self.ended.wait(), WRITE_TIMEOUT_S)
        except TimeoutError:
            self.cut_off("cancelled by request id")
            await self.ended.wait()

    def send_away(self) -> None:
        """End the request with an error that tells the client to try again; does not wait."""
        reason = "the gateway shut down before the request had ended; send it again"
        self._end_with(WorkerDraining(reason, retry_delay_ms=1000))

    def _end_with(self, error: ShortstackError) -> None:
        if self._ending is not None:
            return
        self._ending = error
        if self._is_waiting:
            self._task.cancel()

    @contextmanager
    def writing(self, timeout_s: float) -> Iterator[None]:
        """Mark a write to the client; one that takes longer ends the request. 0: however long."""
        if not timeout_s:
            yield
            return
        timer = asyncio.get_running_loop().call_later(
            timeout_s, self.cut_off_slow_reader, timeout_s
        )
        try:
            yield
        finally:
            timer.cancel()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark a wait that `cancel` and `send_away` may end.

        Raises:
            Cancelled: `cancel` was called. The client's own going away stays a CancelledError.
            WorkerDraining: `send_away` was called.
        """
        if self._ending is not None:
            raise self._ending
        self._is_waiting = True
        try:
            yield
        except asyncio.CancelledError:
            if self._ending is not None and self._task.uncancel() == 0:
                raise self._ending from None
            raise
        finally:
            self._is_waiting = False

    def cut_off_slow_reader(self, timeout_s: float) -> None:
        """End the request of a client that has taken nothing for so long."""
        fields = {"request_id": self._request_id, "timeout_s": timeout_s}
        log.warning("slow reader cut off", extra=fields)
        self.is_slow_reader = True
        self.cut_off(f"the client has taken nothing for {timeout_s:g} s")

    def cut_off(self, reason: str) -> None:
        """End the request wherever it is, at once; the client is told the reason if it reads."""
        self.cut_off_reason = reason
        self._task.cancel()


class ActiveRequests:
    """All running requests of this gateway."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_id: dict[tuple[str, RequestId], RunningRequest] = {}

    def is_running(self, request_id: RequestId, scope: str = "") -> bool:
        """Whether a request of this id is running in a scope."""
        return (scope, request_id) in self._by_id

    @contextmanager
    def entered(self, request_id: RequestId, scope: str = "") -> Iterator[RunningRequest]:
        """Hold a request under its id, which is the only such one of its scope (see `Caller`).

        Raises:
            InvalidRequest: a request of this id is running.
        """
        key = (scope, request_id)
        if key in self._by_id:
            raise InvalidRequest(f"request_id {request_id!r} is running", field="request_id")
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        running = self._by_id[key] = RunningRequest(request_id, task)
        try:
            yield running
        finally:
            del self._by_id[key]
            running.ended.set()

    def send_all_away(self) -> None:
        """End every request with an error that tells the client to try again."""
        for running in list(self._by_id.values()):
            running.send_away()

    async def cancel(self, request_id: RequestId, scope: str = "") -> bool:
        """End a request of a scope and wait until it has ended; return whether it was running."""
        running = self._by_id.get((scope, request_id))
        if running is None:
            return False
        await running.cancel()
        return True

    def cut_off_all(self, reason: str) -> None:
        """End all requests at once."""
        for running in self._by_id.values():
            running.cut_off(reason)
