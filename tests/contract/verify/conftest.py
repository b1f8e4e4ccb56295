"""Verify workers on real ports, started with what a test asks for."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from shared.model.layer_stack import LayerStack, load_stack
from shared.model.plain import PlainDecoder
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import responses
from tests.contract.hosts import VerifyHost
from tests.model_builder import write_model

# Long enough that a session can be met while it runs.
CONTEXT_LEN = 4096

StartWorker = Callable[..., Awaitable[VerifyHost]]


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> LayerStack:
    """A tiny model with a long context."""
    path = write_model(
        tmp_path_factory.mktemp("models") / "tiny", max_position_embeddings=CONTEXT_LEN
    )
    return load_stack(path)


@pytest.fixture(scope="package")
def plain(stack: LayerStack) -> PlainDecoder:
    """The reference."""
    return PlainDecoder(stack.config.path, stack=stack)


@pytest.fixture
async def start_worker(stack: LayerStack, tmp_path: Path) -> AsyncIterator[StartWorker]:
    """Starts a verify worker; it is ended, and its memory checked, behind the test."""
    hosts: list[VerifyHost] = []

    async def start(address: str = f"unix:{tmp_path}/verify.sock", **options: Any) -> VerifyHost:
        hosts.append(await VerifyHost(stack, tmp_path, address, **options).start())
        return hosts[-1]

    yield start
    for host in hosts:
        await host.stop()


def make_request(
    prompt: list[int], max_new_tokens: int, session_id: str = "s", **fields: Any
) -> pb.GenerateRequest:
    """Return a session's request, greedy and without end ids unless said otherwise."""
    stop = pb.StopParams(max_new_tokens=max_new_tokens, ignore_eos=True)
    values = {"session_id": session_id, "token_ids": prompt, "stop": stop} | fields
    return pb.GenerateRequest(**values)


async def generate(host: VerifyHost, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    """Return all messages of a session."""
    return [message async for message in responses(host.stub.Generate(request, timeout=30))]


def ids_of(messages: list[pb.GenerateResponse]) -> list[int]:
    """Return the emitted ids of a session's messages."""
    return [token for message in messages for token in message.tokens.token_ids]
