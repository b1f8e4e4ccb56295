"""Turns: one way calls with all its clients at once, then the next way with the same requests.

When a round was committed the worker tells afterwards, on the clock that this process reads too, so
that each message has a delay of its own: from its commit to its arrival here.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, translated_errors
from shared.rpc.shortstack_pb2_grpc import VerifyServiceStub
from shortstack.bench.cpu_time import cpu_s
from shortstack.bench.gateway.callers import DIRECT, WAYS, Caller, Order, Stream
from shortstack.errors import CommandError
from shortstack.stack import Stack

POLL_S, LOG_TIMEOUT_S, UNARY_TIMEOUT_S = 0.02, 10.0, 10.0
FINISHED = "request finished"


@dataclass(frozen=True, slots=True)
class Turn:
    """One way's go with so many clients; medians over its requests and messages.

    gateway_cpu_s: CPU time that the gateway took meanwhile.
    """

    way: str
    num_clients: int
    repeat: int
    ttft_ms: float
    delay_ms: float
    num_chunks: int
    gateway_cpu_s: float
    elapsed_s: float


@dataclass(slots=True)
class SessionIds:
    """The sessions that the gateway's requests became, as its log tells; observes a stack."""

    by_request: dict[str, str] = field(default_factory=dict)

    def observe(self, name: str, event: dict[str, Any]) -> None:
        """Take a line of a log."""
        if name == "gateway" and event.get("event") == FINISHED:
            self.by_request[str(event["request_id"])] = str(event["session_id"])


@dataclass(slots=True)
class TurnTaker:
    """Lets the ways take turns at one stack."""

    stack: Stack
    callers: Mapping[str, Caller]
    ids: SessionIds

    async def take_all(
        self, prompts: Sequence[tuple[int, ...]], num_clients: int, num: int, max_new_tokens: int
    ) -> list[Turn]:
        """Let every way run `num` turns; the order of ways changes with each round of turns."""
        turns = []
        for repeat in range(-1, num):
            first = (repeat * num_clients) % len(prompts)
            chosen = [prompts[(first + slot) % len(prompts)] for slot in range(num_clients)]
            orders = [Order(slot, ids, max_new_tokens) for slot, ids in enumerate(chosen)]
            ways = WAYS[repeat % len(WAYS) :] + WAYS[: repeat % len(WAYS)]
            for way in ways if repeat % 2 else ways[::-1]:
                turn = await self._take(way, orders, repeat)
                # The first round of turns only warms everything up.
                turns += [turn] if repeat >= 0 else []
        return turns

    async def _take(self, way: str, orders: Sequence[Order], repeat: int) -> Turn:
        caller, gateway = self.callers[way], self.stack.children["gateway"].pid
        before_s = cpu_s(gateway)
        started_s = asyncio.get_running_loop().time()
        streams = await asyncio.gather(*(caller.call(order) for order in orders))
        elapsed_s = asyncio.get_running_loop().time() - started_s
        after_s = cpu_s(gateway)
        delays_ns = [delay for each in await self._delays_ns(way, streams) for delay in each]
        return Turn(
            way,
            len(orders),
            repeat,
            ttft_ms=median(each.arrivals_ns[0] - each.sent_ns for each in streams) / 1e6,
            delay_ms=median(delays_ns) / 1e6,
            num_chunks=len(delays_ns) + len(streams),
            gateway_cpu_s=after_s - before_s,
            elapsed_s=elapsed_s,
        )

    async def _delays_ns(self, way: str, streams: Sequence[Stream]) -> list[list[int]]:
        """Return how long each message of each stream, behind the first, was under way."""
        async with open_channel(self.stack.cells[0].verify_target) as channel:
            stub, delays_ns = VerifyServiceStub(channel), []
            for stream in streams:
                session_id = stream.call_id if way == DIRECT else await self._session_of(stream)
                request = pb.VerifyServiceGetSessionTimelineRequest(session_id=session_id)
                with translated_errors():
                    told = await stub.GetSessionTimeline(request, timeout=UNARY_TIMEOUT_S)
                delays_ns.append(delays_of(stream, told))
            return delays_ns

    async def _session_of(self, stream: Stream) -> str:
        for _ in range(int(LOG_TIMEOUT_S / POLL_S)):
            self.stack.poll()
            if session_id := self.ids.by_request.pop(stream.call_id, ""):
                return session_id
            await asyncio.sleep(POLL_S)
        raise CommandError(f"the gateway's log does not tell of request {stream.call_id}")


def delays_of(stream: Stream, told: pb.VerifyServiceGetSessionTimelineResponse) -> list[int]:
    """Return the time from each round's commit to the arrival of its message, ns.

    The first message holds the prompt's token, which belongs to no round.

    Raises:
        CommandError: there are fewer messages than rounds: they would be compared with others.
    """
    commits_ns = [told.session.arrived_unix_ns + at_ns for at_ns in told.rounds.at_ns]
    arrivals_ns = stream.arrivals_ns[1:]
    if len(arrivals_ns) < len(commits_ns):
        raise CommandError(f"{len(commits_ns)} rounds came in {len(arrivals_ns)} messages")
    # HTTP has one message more, for the end.
    return [at - commit for at, commit in zip(arrivals_ns, commits_ns, strict=False)]
