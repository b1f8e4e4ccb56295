"""Running requests by id, so that whoever knows an id can end its request.

A request is ended only while it waits for something of its own (a place, a cell): the task that
serves it is cancelled there, and `Cancelled` is raised in its place. While it writes to its client
it is left alone and ends at its next wait.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import Cancelled, InvalidRequest
from shared.ids import RequestId


class RunningRequest:
    """One request that can be ended from outside."""

    def __init__(self) -> None:
        """Start running."""
        self.is_cancelled = False
        self.ended = asyncio.Event()
        self._waiting_task: asyncio.Task[object] | None = None

    def cancel(self) -> None:
        """End the request at its current or next wait."""
        if not self.is_cancelled and self._waiting_task:
            self._waiting_task.cancel()
        self.is_cancelled = True

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark a wait that `cancel` may end.

        Raises:
            Cancelled: `cancel` was called. The client's own going away stays a CancelledError.
        """
        if self.is_cancelled:
            raise Cancelled("cancelled by request id")
        task = asyncio.current_task()
        assert task is not None, "a request is served by a task"
        self._waiting_task = task
        try:
            yield
        except asyncio.CancelledError:
            if self.is_cancelled and task.uncancel() == 0:
                raise Cancelled("cancelled by request id") from None
            raise
        finally:
            self._waiting_task = None


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
        running = self._by_id[request_id] = RunningRequest()
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
        running.cancel()
        await running.ended.wait()
        return True
