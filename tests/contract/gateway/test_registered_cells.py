"""The gateway with a registry: cells come and go by lease, and Redis is not needed to serve."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from services.gateway.cells import lease_of
from services.gateway.main import Gateway
from services.gateway.settings import GatewayServiceSettings, GatewaySettings
from shared.control.registry import LeasePublisher
from shared.errors import NoCell
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel
from shared.rpc.shortstack_pb2_grpc import GatewayServiceStub
from shared.settings import ModelSettings, RedisSettings
from tests.contract.gateway.conftest import Client
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker
from tests.polling import poll_until
from tests.redis_server import RedisServer


async def lease_publisher(worker: FakeVerifyWorker, settings: RedisSettings) -> LeasePublisher:
    """Return what keeps the lease of a fake cell."""
    info = await worker.GetVerifyInfo(pb.GetVerifyInfoRequest(), None)
    return LeasePublisher(settings, lambda: lease_of(worker.address, info))


async def test_cells_come_and_go_by_lease_and_redis_is_not_needed_to_serve(
    tmp_path: Path, tokenizer: Tokenizer, completion_ids: list[int]
) -> None:
    server = RedisServer(tmp_path)
    redis = RedisSettings(url=server.url, lease_ttl_ms=500, renew_ms=100)
    async with AsyncExitStack() as stack:
        stack.callback(server.kill)
        gateway = Gateway(
            GatewayServiceSettings(
                model=ModelSettings(path=tmp_path, name="small"),
                redis=redis,
                gateway=GatewaySettings(listen="127.0.0.1:0", poll_cells_ms=50),
            )
        )
        await gateway.start()
        stack.push_async_callback(gateway.stop)
        channel = await stack.enter_async_context(open_channel(gateway.address))
        client = Client(gateway, GatewayServiceStub(channel))
        with pytest.raises(NoCell):
            await client.ask()

        workers = [FakeVerifyWorker(completion_ids, cell_id=name) for name in ("a", "b")]
        publishers = []
        for worker in workers:
            await worker.start()
            stack.push_async_callback(worker.kill)
            publishers.append(await lease_publisher(worker, redis))
            publishers[-1].start()
            stack.push_async_callback(publishers[-1].withdraw)

        async def num_cells() -> int:
            return len((await client.stub.ListModels(pb.ListModelsRequest())).cells)

        async def has_two() -> bool:
            return await num_cells() == 2

        async def has_one() -> bool:
            return await num_cells() == 1

        await poll_until(has_two)
        await publishers[0].withdraw()
        await poll_until(has_one)
        assert (await client.ask()).started.cell_id == "b"
        publishers[0].start()
        await poll_until(has_two)

        server.kill()
        await workers[0].kill()
        # The lease of the dead cell is still known; its requests go to the other one.
        for _ in range(4):
            answer = await client.ask()
            assert answer.started.cell_id == "b"
            assert answer.ids == completion_ids
