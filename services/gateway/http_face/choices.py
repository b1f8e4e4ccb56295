"""The completions of one HTTP request, all at once, as one run of events.

Each choice is a request of the gateway and has a task of its own. What a choice has made and nobody
has taken is bounded: it goes on only when its last event was taken, so that its cell pauses while
the client does not read. Leaving the context ends all of them, and with them their sessions.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Self

from opentelemetry.context import Context

from services.gateway.active import RunningRequest
from services.gateway.completion import Completion, CompletionEvent, Finished
from services.gateway.parts import GatewayParts
from services.gateway.request import RequestLimits, TextRequest
from shared.errors import Cancelled
from shared.ids import new_request_id
from shared.speculation.vocabulary import FinishReason


@dataclass(frozen=True, slots=True)
class ChoiceEvent:
    """What happened to one choice."""

    index: int
    event: CompletionEvent


@dataclass(slots=True)
class Choices:
    """Choices that run while the context lasts; each round tells its tokens' texts if asked to."""

    requests: Sequence[TextRequest]
    limits: RequestLimits
    parts: GatewayParts
    deadline_s: float
    trace_context: Context
    has_token_texts: bool = False
    num_open: int = field(init=False)
    _events: "asyncio.Queue[ChoiceEvent | Exception]" = field(default_factory=asyncio.Queue)
    _places: list[asyncio.Semaphore] = field(default_factory=list)
    _running: list[RunningRequest] = field(default_factory=list)
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Count the choices."""
        self.num_open = len(self.requests)

    async def __aenter__(self) -> Self:
        self._places = [asyncio.Semaphore(1) for _ in self.requests]
        self._tasks = [asyncio.create_task(self._run(index)) for index in range(self.num_open)]
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next(self, timeout_s: float = 0.0) -> ChoiceEvent | None:
        """Return what happens next, to whichever choice; None after the timeout, if there is one.

        Raises:
            ShortstackError: a choice was refused or failed; the others are of no use then.
        """
        if self._events.empty() and timeout_s:
            try:
                async with asyncio.timeout(timeout_s):
                    item = await self._events.get()
            except TimeoutError:
                return None
        else:
            item = await self._events.get()
        if isinstance(item, Exception):
            raise item
        if isinstance(item.event, Finished):
            if item.event.reason is FinishReason.CANCELLED:
                raise Cancelled("cancelled by request id")
            self.num_open -= 1
        self._places[item.index].release()
        return item

    def cut_off_slow_reader(self, timeout_s: float) -> None:
        """End all choices: their client has taken nothing for so long."""
        for running in self._running:
            if not running.ended.is_set():
                running.cut_off_slow_reader(timeout_s)

    async def _run(self, index: int) -> None:
        request, running = self.requests[index], None
        scope = self.limits.scope
        if self.parts.active.is_running(request.request_id, scope):
            # A proxy's second try may come before the end of its first one was seen.
            request = replace(request, request_id=new_request_id())
        try:
            with self.parts.active.entered(request.request_id, scope) as running:
                self._running.append(running)
                completion = Completion(
                    request,
                    self.limits,
                    self.parts.tools,
                    running,
                    self.deadline_s,
                    self.trace_context,
                    self.has_token_texts,
                )
                async with aclosing(completion.run()) as events:
                    async for event in events:
                        await self._places[index].acquire()
                        self._events.put_nowait(ChoiceEvent(index, event))
        except asyncio.CancelledError:
            if running is None or not running.cut_off_reason:
                raise
            self._events.put_nowait(Cancelled(running.cut_off_reason))
        except Exception as error:
            self._events.put_nowait(error)
