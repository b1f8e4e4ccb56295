"""A gateway with TLS to its clients and mTLS to its cells."""

import asyncio

import pytest

from shared.access.certificate_authority import ROLE_URI, CertificateAuthority
from shared.access.tls_files import TlsFiles
from shared.errors import WorkerLost
from shared.rpc.credentials import PortSecurity
from shortstack.access import Access
from shortstack.client import Client
from shortstack.request import Limits, Request
from tests.contract.gateway.conftest import StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble
from tests.contract.tls import HOST, options_of
from tests.polling import poll_until

REQUEST = Request("So:", limits=Limits(max_new_tokens=10))


@pytest.mark.parametrize("role", ["gateway", "client"])
async def test_a_gateway_reaches_cells_by_its_role(
    start: StartCells, completion_ids: list[int], authority: CertificateAuthority, role: str
) -> None:
    cell = PortSecurity(
        authority.issue("verify", [HOST], role="verify"),
        callers=frozenset({ROLE_URI + "gateway"}),
    )
    options = {
        **options_of(authority.issue("public", [HOST])),
        **options_of(authority.issue("own", [], role=role), "cells_tls"),
    }
    worker = FakeVerifyWorker(completion_ids, security=cell)
    address = (await start(worker, **options)).gateway.address
    trusted = TlsFiles(ca_path=authority.ca_path)
    async with Client(address, Access(tls=trusted)) as client, Client(address) as plain:
        assert len((await client.models()).cells) == (role == "gateway")
        if role == "gateway":
            assert (await client.complete(REQUEST)).finished.num_emitted == 10
        with pytest.raises(WorkerLost):
            await plain.models(timeout_s=2.0)


async def test_renewed_certificates_reach_the_cells_and_running_requests_go_on(
    start: StartCells, completion_ids: list[int], authority: CertificateAuthority
) -> None:
    cell = PortSecurity(
        authority.issue("verify", [HOST]), callers=frozenset({ROLE_URI + "gateway"})
    )
    worker = FakeVerifyWorker(completion_ids, security=cell, trouble=Trouble(hangs_at=4))
    own = authority.issue("own", [], role="gateway")
    gateway = (await start(worker, **options_of(own, "cells_tls"))).gateway
    async with Client(gateway.address) as client:
        running = asyncio.create_task(client.complete(REQUEST))
        await poll_until(lambda: worker.num_running == 1)
        stub = gateway._channels.stub(worker.address)
        authority.issue("own", [], role="gateway")
        assert gateway._channels.stub(worker.address) is not stub
        await gateway._cells.refresh()  # type: ignore[attr-defined]
        assert (await client.models()).cells and not running.done()
        assert await client.cancel(REQUEST.to_proto().request_id)  # type: ignore[arg-type]
        assert (await running).finished.num_replays == 0
