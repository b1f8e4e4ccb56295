"""A Redis behind TLS, as hosted ones are: the registry works over `rediss://`, by the URL alone."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from shared.access.certificate_authority import CertificateAuthority
from shared.control.registry import CellDirectory, LeasePublisher
from shared.settings import RedisSettings
from tests.contract.test_registry import LEASE
from tests.contract.tls import HOST
from tests.polling import poll_until
from tests.redis_server import RedisServer


@asynccontextmanager
async def tls_before(socket: str, authority: CertificateAuthority) -> AsyncIterator[int]:
    """Put TLS before a Redis on a unix socket, which has none; yields the port."""
    files = authority.issue("redis", [HOST])
    assert files.cert_path and files.key_path
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert_path, files.key_path)

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(socket)
        await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))

    server = await asyncio.start_server(carry, HOST, 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    # A client that goes away is no fault here.
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    writer.close()


async def test_leases_travel_over_tls_and_to_nobody_else(
    tmp_path: Path, authority: CertificateAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    redis = RedisServer(tmp_path)
    stranger = CertificateAuthority(tmp_path / "other")
    async with tls_before(redis.url.removeprefix("unix://"), authority) as port:
        url = f"rediss://{HOST}:{port}/0?ssl_ca_certs="
        good = RedisSettings(url=f"{url}{authority.ca_path}", socket_timeout_ms=2000)
        publisher = LeasePublisher(good, lambda: LEASE)
        directory = CellDirectory(good, refresh_ms=50)
        publisher.start()
        await directory.start()
        await poll_until(lambda: len(directory.cells) == 1)
        await directory.stop()

        wrong = RedisSettings(url=f"{url}{stranger.ca_path}", socket_timeout_ms=2000)
        lost = CellDirectory(wrong, refresh_ms=50)
        await lost.start()
        await poll_until(lambda: "redis lost" in caplog.text)
        assert not lost.cells
        await lost.stop()
        await publisher.withdraw()
    redis.kill()
