"""A gateway on a real port before fake cells."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from services.gateway.main import Gateway
from services.gateway.settings import GatewayServiceSettings, GatewaySettings
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, responses
from shared.rpc.shortstack_pb2_grpc import GatewayServiceStub
from shared.settings import ModelSettings, TelemetrySettings
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker
from tests.tokenizer_builder import write_model_directory

TEXT = "Once upon a time there was a little girl. She liked to play in the sun."


@dataclass
class Answer:
    """All messages of one completion, joined."""

    started: pb.GenerateTextStarted
    tokens: list[pb.GenerateTextTokens]
    finished: pb.GenerateTextFinished
    trailers: dict[str, str]

    @property
    def text(self) -> str:
        """The completion."""
        return "".join(part.text for part in self.tokens) + self.finished.text

    @property
    def ids(self) -> list[int]:
        """Its ids."""
        return [id_ for part in self.tokens for id_ in part.token_ids]


class Client:
    """Calls one gateway."""

    def __init__(self, gateway: Gateway, stub: GatewayServiceStub) -> None:
        self.gateway = gateway
        self.stub = stub

    async def ask(self, timeout_s: float = 10.0, **fields: Any) -> Answer:
        """Run one request to its end."""
        if not {"prompt", "token_ids", "chat"} & fields.keys():
            fields["prompt"] = "So:"
        call = self.stub.GenerateText(pb.GenerateTextRequest(**fields), timeout=timeout_s)
        started, tokens, finished = pb.GenerateTextStarted(), [], pb.GenerateTextFinished()
        async for response in responses(call):
            kind = response.WhichOneof("event")
            if kind == "started":
                started = response.started
            elif kind == "tokens":
                tokens.append(response.tokens)
            else:
                finished = response.finished
        trailers = {key: str(value) for key, value in await call.trailing_metadata()}
        return Answer(started, tokens, finished, trailers)


StartCells = Callable[..., Awaitable[Client]]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    """The tokenizer of the model directory, which this writes."""
    return write_model_directory(tmp_path, max_context_len=10**6)


@pytest.fixture
def completion_ids(tokenizer: Tokenizer) -> list[int]:
    """What the fake cells say."""
    return list(tokenizer.encode(TEXT).ids)


@pytest.fixture
async def start(tmp_path: Path, tokenizer: Tokenizer) -> AsyncIterator[StartCells]:
    """Start fake cells and a gateway that knows them; return a client."""
    async with AsyncExitStack() as stack:

        async def start_cells(*workers: FakeVerifyWorker, **options: Any) -> Client:
            for worker in workers:
                await worker.start()
                stack.push_async_callback(worker.kill)
            # A target nobody listens on: there are no cells then.
            cells = ",".join(worker.address for worker in workers) or f"unix:{tmp_path}/nobody"
            telemetry = TelemetrySettings(**options.pop("telemetry", {}))
            options = {"default_max_new_tokens": 40, "poll_cells_ms": 50, **options}
            settings = GatewayServiceSettings(
                model=ModelSettings(path=tmp_path, name="small"),
                telemetry=telemetry,
                gateway=GatewaySettings(listen="127.0.0.1:0", cells=cells, **options),
            )
            gateway = Gateway(settings)
            await gateway.start()
            stack.push_async_callback(gateway.stop)
            channel = open_channel(gateway.address)
            stack.push_async_callback(channel.close)
            return Client(gateway, GatewayServiceStub(channel))

        yield start_cells
