"""TLS on our ports: who gets in, as what, and that certificates change under way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from shared.access.certificate_authority import ROLE_URI, CertificateAuthority
from shared.access.tls_files import TlsFiles
from shared.errors import NotAllowed, WorkerLost
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, responses, translated_errors
from shared.rpc.credentials import PortSecurity
from shared.rpc.probe import probe
from shared.rpc.server import ServiceServer
from shared.rpc.shortstack_pb2_grpc import (
    VerifyServiceServicer,
    VerifyServiceStub,
    add_VerifyServiceServicer_to_server,
)
from tests.contract.hosts import health_of
from tests.contract.tls import HOST

NAME = "shortstack.v1.VerifyService"
GATEWAYS = frozenset({ROLE_URI + "gateway"})


class Willing(VerifyServiceServicer):
    """Serves whoever gets in."""

    async def Generate(
        self, request: pb.GenerateRequest, context: object
    ) -> AsyncIterator[pb.GenerateResponse]:
        """Start."""
        yield pb.GenerateResponse(started=pb.GenerateStarted(cell_id="a"))

    async def Drain(self, request: pb.DrainRequest, context: object) -> pb.DrainResponse:
        """Drain."""
        return pb.DrainResponse(num_sessions=1)


@asynccontextmanager
async def serving(security: PortSecurity, address: str = f"{HOST}:0") -> AsyncIterator[str]:
    """A server with TLS; yields its address."""
    server = ServiceServer([NAME], security=security)
    add_VerifyServiceServicer_to_server(Willing(), server.grpc_server)
    bound = server.bind(address)
    await server.start()
    yield bound
    await server.stop(0)


async def drain(address: str, tls: TlsFiles | None) -> int:
    """Make one call over a new connection."""
    async with open_channel(address, tls) as channel:
        with translated_errors():
            answer = await VerifyServiceStub(channel).Drain(pb.DrainRequest(), timeout=5.0)
    return int(answer.num_sessions)


async def test_only_certificates_of_the_right_role_get_in(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    port = authority.issue("port", [HOST], role="verify")
    gateway = authority.issue("gateway", [], role="gateway")
    other = authority.issue("draft", [], role="draft")
    stranger = CertificateAuthority(tmp_path / "other").issue("gateway", [], role="gateway")
    async with serving(PortSecurity(port, callers=GATEWAYS)) as address:
        assert await drain(address, gateway) == 1
        async with open_channel(address, gateway) as channel:
            call = VerifyServiceStub(channel).Generate(pb.GenerateRequest())
            assert [each.started.cell_id async for each in responses(call)] == ["a"]
        with pytest.raises(NotAllowed, match="urn:shortstack:role:gateway"):
            await drain(address, other)
        async with open_channel(address, other) as channel:
            with pytest.raises(NotAllowed):
                call = VerifyServiceStub(channel).Generate(pb.GenerateRequest())
                assert not [each async for each in responses(call)]
            # Health is for every holder of a certificate.
            assert await health_of(channel, NAME) == "SERVING"
        assert await asyncio.to_thread(probe, address, NAME, 5.0, gateway)
        assert not await asyncio.to_thread(probe, address, NAME, 1.0)
        without = TlsFiles(ca_path=authority.ca_path)
        unknown = TlsFiles(stranger.cert_path, stranger.key_path, authority.ca_path)
        for nobody in (None, without, unknown):
            with pytest.raises(WorkerLost):
                await drain(address, nobody)


async def test_a_client_talks_to_nobody_else_than_it_meant_to(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    elsewhere = authority.issue("port", ["verify.example"])
    async with serving(PortSecurity(elsewhere, requires_client_cert=False)) as address:
        with pytest.raises(WorkerLost):
            await drain(address, TlsFiles(ca_path=authority.ca_path))
    foreign = CertificateAuthority(tmp_path / "other").issue("port", [HOST])
    async with serving(PortSecurity(foreign, requires_client_cert=False)) as address:
        assert await drain(address, TlsFiles(ca_path=foreign.ca_path)) == 1
        with pytest.raises(WorkerLost):
            await drain(address, TlsFiles(ca_path=authority.ca_path))


async def test_a_renewed_certificate_is_shown_and_a_broken_one_is_not(
    authority: CertificateAuthority,
) -> None:
    port = authority.issue("port", ["old.example"])
    assert port.cert_path is not None
    trusted = TlsFiles(ca_path=authority.ca_path)
    async with serving(PortSecurity(port, requires_client_cert=False)) as address:
        with pytest.raises(WorkerLost):
            await drain(address, trusted)
        authority.issue("port", [HOST])
        assert await drain(address, trusted) == 1
        port.cert_path.write_text("half a certif")
        assert await drain(address, trusted) == 1
        authority.issue("port", [HOST], valid=timedelta(days=-1))
        assert await drain(address, trusted) == 1


async def test_a_socket_file_needs_no_certificate(
    authority: CertificateAuthority, tmp_path: Path
) -> None:
    security = PortSecurity(authority.issue("port", []), callers=GATEWAYS)
    async with serving(security, f"unix:{tmp_path}/port.sock") as address:
        assert await drain(address, None) == 1
        assert await drain(address, security.files) == 1


async def test_files_that_are_not_sound_are_said_to_be(authority: CertificateAuthority) -> None:
    old = authority.issue("old", [], valid=timedelta(days=-1))
    with pytest.raises(WorkerLost, match="expired at"):
        open_channel(f"{HOST}:1", old)
