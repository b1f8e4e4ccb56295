"""A gateway that serves HTTP before a fake cell, for all tests of a module that do it no harm."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx2
import openai
import pytest
import pytest_asyncio
from tokenizers import Tokenizer

from services.gateway.main import Gateway
from services.gateway.settings import GatewayServiceSettings, GatewaySettings
from shared.settings import ModelSettings
from tests.contract.gateway.conftest import TEXT
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, MemoryReport
from tests.tokenizer_builder import write_model_directory

NUM_CACHED = 2


@dataclass
class Served:
    """A gateway, its cell, and clients of its HTTP face."""

    gateway: Gateway
    worker: FakeVerifyWorker
    tokenizer: Tokenizer
    http: httpx2.AsyncClient
    openai: openai.AsyncOpenAI

    @property
    def ids(self) -> list[int]:
        """What the cell says."""
        return self.worker.ids


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def served(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    """Serve the text that fake cells say."""
    directory = tmp_path_factory.mktemp("small")
    tokenizer = write_model_directory(directory, max_context_len=10**6)
    worker = FakeVerifyWorker(
        tokenizer.encode(TEXT).ids, memory=MemoryReport(NUM_CACHED), max_context_len=256
    )
    await worker.start()
    gateway = Gateway(
        GatewayServiceSettings(
            model=ModelSettings(path=directory, name="small"),
            gateway=GatewaySettings(
                listen="127.0.0.1:0",
                http_listen="127.0.0.1:0",
                cells=worker.address,
                default_max_new_tokens=40,
            ),
        )
    )
    await gateway.start()
    async with (
        httpx2.AsyncClient(base_url=gateway.http_url) as http,
        openai_client(gateway.http_url) as client,
    ):
        yield Served(gateway, worker, tokenizer, http, client)
    await gateway.stop()
    await worker.kill()


def openai_client(url: str) -> openai.AsyncOpenAI:
    """Return the official client; it tries nothing twice."""
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0)
