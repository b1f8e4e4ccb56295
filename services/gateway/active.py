"""Running requests by id, so that whoever knows an id can end its request.

A request is ended where it waits for something of its own (a place, a cell): the task that serves
it is cancelled there, and `Cancelled` is raised in its place, so that the client still gets a last
message. While it writes to its client it is left alone, unless the client has stopped reading: then
its stream is cut off.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Cancelled, InvalidRequest
from shared.ids import RequestId

# A client that takes nothing for so long has stopped reading.
WRITE_TIMEOUT_S = 1.0


class RunningRequest:
    """One request that can be ended from outside."""

    def __init__(self, task: asyncio.Task[object]) -> None:
        """Start running, served by a task."""
        self.ended = asyncio.Event()
        self._task = task
        self._is_cancelled = False
        self._is_waiting = False

    async def cancel(self) -> None:
        """End the request, and return when it has ended."""
        if not self._is_cancelled and self._is_waiting:
            self._task.cancel()
        self._is_cancelled = True
        try:
            await asyncio.wait_for(self.ended.wait(), WRITE_TIMEOUT_S)
        except TimeoutError:
            self._task.cancel()
            await self.ended.wait()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark a wait that `cancel` may end.

        Raises:
            Cancelled: `cancel` was called. The client's own going away stays a CancelledError.
        """
        if self._is_cancelled:
            raise Cancelled("cancelled by request id")
        self._is_waiting = True
        try:
            yield
        except asyncio.CancelledError:
            if self._is_cancelled and self._task.uncancel() == 0:
                raise Cancelled("cancelled by request id") from None
            raise
        finally:
            self._is_waiting = False


class ActiveRequests:
    """All running requests of this gateway."""

    def __init__(self) -> None:
        """Start with none."""
        self._by_id: dict[RequestId, RunningRequest] = {}

    @contextmanager
    def entered(self, request_id: RequestId) -> Iterator[RunningRequest]:
        """Hold a request under its id.

        Raises:
            InvalidRequest: a request of this id is running.
        """
        if request_id in self._by_id:
            raise InvalidRequest(f"request_id {request_id!r} is running", field="request_id")
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        running = self._by_id[request_id] = RunningRequest(task)
        try:
            yield running
        finally:
            del self._by_id[request_id]
            running.ended.set()

    async def cancel(self, request_id: RequestId) -> bool:
        """End a request and wait until it has ended; return whether it was running."""
        running = self._by_id.get(request_id)
        if running is None:
            return False
        await running.cancel()
        return True
