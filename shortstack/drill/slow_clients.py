"""Clients that ask for long answers, read the first message, and then read no more.

Every token comes with its log probability and those of 20 others, and a client takes little more
than it reads, so that the buffers on the way are full before the answer ends.
"""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc

from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as stubs
from shortstack.bench.serve.made_prompts import random_ids
from shortstack.request import Limits, Request, pinned

NUM_CLIENTS = 2
PROMPT_LEN = 8
NUM_LOGPROBS = 20
TIMEOUT_S = 120.0
SMALL_WINDOW = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0))
INFO_TIMEOUT_S = 10.0


class SlowClients:
    """A few of them, each with a connection of its own; a context."""

    def __init__(self, target: str, seed: int) -> None:
        self._target = target
        self._seed = seed
        self._contexts = AsyncExitStack()
        self._calls: list[Any] = []

    async def __aenter__(self) -> "SlowClients":
        return self

    async def __aexit__(self, *exception: object) -> None:
        for call in self._calls:
            call.cancel()
        await self._contexts.aclose()

    async def start(self) -> None:
        """Ask, and read one message each."""
        for index in range(NUM_CLIENTS):
            channel = await self._contexts.enter_async_context(
                grpc.aio.insecure_channel(self._target, options=SMALL_WINDOW)
            )
            stub = stubs.GatewayServiceStub(channel)
            request = await self._request(stub, index)
            call = stub.GenerateText(request.to_proto(), timeout=TIMEOUT_S)
            self._calls.append(call)
            await call.read()

    async def read_to_the_end(self) -> list[str]:
        """Read on; return the statuses that the calls ended with."""
        return list(await asyncio.gather(*map(self._status_of, self._calls)))

    async def _status_of(self, call: Any) -> str:
        try:
            while await call.read() is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
        return str((await call.code()).name)

    async def _request(self, stub: Any, index: int) -> Request:
        served: pb.ListModelsResponse = await stub.ListModels(
            pb.ListModelsRequest(), timeout=INFO_TIMEOUT_S
        )
        model = served.models[0]
        limits = Limits(max_new_tokens=model.max_context_len - PROMPT_LEN, ignore_eos=True)
        return Request(
            random_ids(PROMPT_LEN, model.vocab_size, f"{self._seed} slow {index}"),
            limits=limits,
            speculation=pinned(max(1, model.num_layers // 4), 4),
            num_logprobs=NUM_LOGPROBS,
        )
