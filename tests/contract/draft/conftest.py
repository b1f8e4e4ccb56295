"""A draft worker on a unix socket, and a segment to attach to."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.model.kv_pool import KVPool
from shared.model.layer_stack import LayerStack, load_stack
from shared.model.segment import ShmSegment
from shared.rpc import shortstack_pb2 as pb
from tests.contract.hosts import DraftHost, free_tcp_address
from tests.engine_harness import BOOT_ID, HarnessOptions, attach_request, make_layout
from tests.model_builder import write_model


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> LayerStack:
    """A tiny model with one layer loaded."""
    return load_stack(write_model(tmp_path_factory.mktemp("models") / "tiny"), num_layers=1)


@dataclass
class Pair:
    """A draft worker, and the verify worker's side of memory."""

    host: DraftHost
    pool: KVPool
    attach_request: pb.AttachRequest


@pytest.fixture(params=["unix", "tcp"])
async def pair(
    request: pytest.FixtureRequest, stack: LayerStack, tmp_path: Path
) -> AsyncIterator[Pair]:
    """A draft worker on both kinds of ports."""
    address = f"unix:{tmp_path}/draft.sock" if request.param == "unix" else free_tcp_address()
    layout = make_layout(stack, HarnessOptions())
    pool = KVPool(ShmSegment(layout.size_bytes), layout)
    pool.check_word.fill_(BOOT_ID)
    host = await DraftHost(stack, tmp_path, address).start()
    yield Pair(host, pool, attach_request(pool, stack))
    await host.stop()
    pool.close()
