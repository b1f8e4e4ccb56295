"""Senders: one for each mode of the gateway and for each peer. All take the same requests.

Times are read in this process, where a client would read its messages: over gRPC from the gateway,
through pipes from a peer.
"""

import asyncio
import time
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from shared.errors import ShortstackError
from shortstack.bench.serve.modes import Mode
from shortstack.bench.serve.result import Outcome, Result, ServerSide
from shortstack.bench.serve.stream_messages import StreamOrder
from shortstack.bench.serve.stream_peer import StreamPeer
from shortstack.bench.serve.workload import WorkItem
from shortstack.client import Client
from shortstack.events import Finished, Tokens
from shortstack.request import Limits, Request

REQUEST_TIMEOUT_S = 900.0


class Sender(Protocol):
    """Sends one request and waits for its end."""

    @property
    def name(self) -> str:
        """Whose results these are."""
        ...

    async def send(self, item: WorkItem, sent_ns: int) -> Result:
        """Send a request now; it should have been sent at sent_ns."""
        ...


@dataclass(frozen=True, slots=True)
class Ends:
    """What ends an answer before its length does."""

    eos_token_ids: tuple[int, ...]
    ignore_eos: bool = False


@dataclass(slots=True)
class Arrivals:
    """Gathers the messages of one request."""

    times_ns: list[int]
    lens: list[int]
    token_ids: list[int]

    @classmethod
    def none(cls) -> "Arrivals":
        """Return an empty gathering."""
        return cls([], [], [])

    def add(self, token_ids: tuple[int, ...]) -> None:
        """Take what has come just now."""
        if token_ids:
            self.times_ns.append(time.perf_counter_ns())
            self.lens.append(len(token_ids))
            self.token_ids += token_ids

    def result(
        self,
        item: WorkItem,
        sent_ns: int,
        outcome: Outcome,
        *,
        error: str = "",
        retry_delay_ms: int = 0,
        server: ServerSide | None = None,
    ) -> Result:
        """Return what became of the request, which has ended just now."""
        return Result(
            item,
            sent_ns,
            time.perf_counter_ns(),
            outcome,
            tuple(self.times_ns),
            tuple(self.lens),
            tuple(self.token_ids),
            error,
            retry_delay_ms,
            server=server,
        )


@dataclass(frozen=True, slots=True)
class GatewaySender:
    """Sends to a gateway, as any client would."""

    mode: Mode
    client: Client
    ends: Ends

    @property
    def name(self) -> str:
        """Whose results these are."""
        return self.mode.name

    async def send(self, item: WorkItem, sent_ns: int, arrivals: Arrivals | None = None) -> Result:
        """Send a request and wait for its end; whoever may cancel it brings the gathering."""
        arrivals, finished = arrivals or Arrivals.none(), None
        try:
            async with aclosing(self.client.generate(self.request_of(item))) as events:
                async for event in events:
                    if isinstance(event, Tokens):
                        arrivals.add(event.token_ids)
                    elif isinstance(event, Finished):
                        finished = event
        except ShortstackError as error:
            return failed_result(arrivals, item, sent_ns, error)
        if finished is None:
            return arrivals.result(item, sent_ns, Outcome.FAILED, error="no last message")
        return arrivals.result(item, sent_ns, Outcome.DONE, server=server_side(finished))

    async def send_now(self, item: WorkItem) -> Result:
        """Send a request now and wait for its end."""
        return await self.send(item, time.perf_counter_ns())

    async def send_for(self, item: WorkItem, span_s: float) -> Result:
        """Send a request now and cancel it when it has not ended after so long."""
        arrivals, sent_ns = Arrivals.none(), time.perf_counter_ns()
        try:
            async with asyncio.timeout(span_s):
                return await self.send(item, sent_ns, arrivals)
        except TimeoutError:
            return arrivals.result(item, sent_ns, Outcome.CANCELLED)

    def request_of(self, item: WorkItem) -> Request:
        """Return what is sent."""
        limits = Limits(max_new_tokens=item.max_new_tokens, ignore_eos=self.ends.ignore_eos)
        return Request(
            item.prompt.token_ids,
            limits=limits,
            speculation=self.mode.speculation,
            timeout_s=REQUEST_TIMEOUT_S,
        )


def failed_result(
    arrivals: Arrivals, item: WorkItem, sent_ns: int, error: ShortstackError
) -> Result:
    """Tell a refusal, which says when to come again, from a failure."""
    is_refusal = error.status == "RESOURCE_EXHAUSTED" and error.retry_delay_ms > 0
    return arrivals.result(
        item,
        sent_ns,
        Outcome.REFUSED if is_refusal else Outcome.FAILED,
        error=f"{error.status}: {error.message}",
        retry_delay_ms=error.retry_delay_ms,
    )


def server_side(finished: Finished) -> ServerSide:
    """Return what the server tells."""
    return ServerSide(
        finished.timings.queue_ns,
        finished.speculation,
        finished.prompt_len,
        finished.num_cached_tokens,
        finished.num_preemptions,
    )


@dataclass(frozen=True, slots=True)
class PeerSender:
    """Sends to a peer in a child process."""

    name: str
    peer: StreamPeer
    ends: Ends

    async def send(self, item: WorkItem, sent_ns: int) -> Result:
        """Send a request and wait for its end."""
        eos_token_ids = () if self.ends.ignore_eos else self.ends.eos_token_ids
        order = StreamOrder(0, item.prompt.token_ids, item.max_new_tokens, eos_token_ids)
        arrivals, error = Arrivals.none(), ""
        async for message in self.peer.stream(order):
            arrivals.add(message.token_ids)
            error = message.error
        outcome = Outcome.FAILED if error else Outcome.DONE
        return arrivals.result(item, sent_ns, outcome, error=error)
