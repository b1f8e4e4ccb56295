"""The client's side of one HTTP request: whether it is there, and whether it reads."""

import asyncio
from collections.abc import Callable, Coroutine

from starlette.types import Message, Receive, Scope, Send

from services.gateway.http_face.server import ABORT


class SlowReader(Exception):
    """The client has taken nothing for too long."""


class Writer:
    """Sends the messages of one answer; a client that does not read is waited for only so long."""

    def __init__(self, scope: Scope, send: Send, timeout_s: float) -> None:
        """Take what sends; a timeout of 0 is none."""
        self._send = send
        self._abort: Callable[[], None] | None = scope.get(ABORT)
        self.timeout_s = timeout_s

    async def send(self, message: Message) -> None:
        """Send; returns once the transport has room for more.

        Raises:
            SlowReader: it had none for too long.
        """
        try:
            async with asyncio.timeout(self.timeout_s or None):
                await self._send(message)
        except TimeoutError:
            raise SlowReader from None

    def abort(self) -> None:
        """Drop the connection with all that was not sent."""
        if self._abort is not None:
            self._abort()


async def while_connected(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Run something to its end, or until the client goes away: then it is cancelled."""
    try:
        async with asyncio.timeout(None) as stay:
            leaving = asyncio.create_task(_end_when_left(receive, stay))
            try:
                await work
            finally:
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
    except TimeoutError:
        if not stay.expired():
            raise


async def _end_when_left(receive: Receive, stay: asyncio.Timeout) -> None:
    await _has_left(receive)
    stay.reschedule(asyncio.get_running_loop().time())


async def _has_left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
