"""Three ways to one cell: straight to its verify worker, and through the gateway by gRPC and HTTP.

All send the same ids, decode greedily, and note when each message with tokens came.
"""

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc

from shared.ids import new_request_id, new_session_id
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, responses
from shared.rpc.shortstack_pb2_grpc import GatewayServiceStub, VerifyServiceStub
from shortstack.bench.http_connection import HttpConnection, json_request
from shortstack.errors import CommandError
from shortstack.request import PLAIN, Limits, Request
from shortstack.stack import Stack

DIRECT, GRPC, HTTP = WAYS = ("direct", "grpc", "http")
TIMEOUT_S = 120.0
EVENT = b"data: {"


@dataclass(frozen=True, slots=True)
class Order:
    """One request of a turn; slot is its place among those that run at once."""

    slot: int
    token_ids: tuple[int, ...]
    max_new_tokens: int


@dataclass(frozen=True, slots=True)
class Stream:
    """When a request was sent and its messages came, ns since 1970.

    call_id: the session's id of a direct call, else the request's.
    """

    call_id: str
    sent_ns: int
    arrivals_ns: list[int] = field(default_factory=list)


class Caller(Protocol):
    """One way to the cell."""

    async def call(self, order: Order) -> Stream:
        """Run a request to its end."""
        ...


@dataclass(frozen=True, slots=True)
class DirectCaller:
    """Speaks to the verify worker as its gateway does."""

    channel: grpc.aio.Channel

    async def call(self, order: Order) -> Stream:
        """Run a request to its end."""
        request = pb.GenerateRequest(
            session_id=new_session_id(),
            token_ids=order.token_ids,
            sampling=pb.SamplingParams(),
            stop=pb.StopParams(max_new_tokens=order.max_new_tokens, ignore_eos=True),
            speculation=pb.SpeculationParams(method=PLAIN.method),
        )
        stream = Stream(request.session_id, time.time_ns())
        await _read(VerifyServiceStub(self.channel).Generate(request, timeout=TIMEOUT_S), stream)
        return stream


@dataclass(frozen=True, slots=True)
class GrpcCaller:
    """Speaks to the gateway by gRPC, with a message made before: the client's work is not timed."""

    channel: grpc.aio.Channel

    async def call(self, order: Order) -> Stream:
        """Run a request to its end."""
        limits = Limits(order.max_new_tokens, ignore_eos=True)
        request = Request(order.token_ids, limits=limits, speculation=PLAIN).to_proto()
        stream = Stream(request.request_id, time.time_ns())
        stub = GatewayServiceStub(self.channel)
        await _read(stub.GenerateText(request, timeout=TIMEOUT_S), stream)
        return stream


async def _read(call: Any, stream: Stream) -> None:
    """Read a call to its end, and note when each message with tokens came."""
    message: pb.GenerateResponse | pb.GenerateTextResponse
    async for message in responses(call):
        if message.WhichOneof("event") == "tokens":
            stream.arrivals_ns.append(time.time_ns())


@dataclass(frozen=True, slots=True)
class HttpCaller:
    """Speaks to the gateway by HTTP; each slot has a connection that it keeps, as clients do."""

    connections: list[HttpConnection]

    async def call(self, order: Order) -> Stream:
        """Run a request to its end.

        Raises:
            CommandError: it was refused.
        """
        body = {
            "prompt": list(order.token_ids),
            "max_tokens": order.max_new_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "speculation": {"mode": "off"},
        }
        request_id = new_request_id()
        sent = json_request("POST", "/v1/completions", body, {"x-request-id": request_id})
        stream = Stream(request_id, time.time_ns())
        connection = self.connections[order.slot]
        async with aclosing(connection.stream(sent)) as pieces:
            async for at_ns, piece in pieces:
                stream.arrivals_ns.extend([at_ns] * piece.count(EVENT))
        if connection.status != 200:
            raise CommandError(f"the gateway answered with status {connection.status}")
        return stream


@asynccontextmanager
async def open_callers(stack: Stack, max_clients: int) -> AsyncIterator[dict[str, Caller]]:
    """Open what all ways need, for so many requests at once."""
    async with AsyncExitStack() as exits:
        channel = await exits.enter_async_context(open_channel(stack.cells[0].verify_target))
        gateway = await exits.enter_async_context(open_channel(stack.target))
        connections = [
            await exits.enter_async_context(HttpConnection(stack.http_url))
            for _ in range(max_clients)
        ]
        yield {
            DIRECT: DirectCaller(channel),
            GRPC: GrpcCaller(gateway),
            HTTP: HttpCaller(connections),
        }
