"""Builds channels to peers; failures of their calls come back as errors of `shared.errors`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import grpc

from shared.access.tls_files import TlsFaults, TlsFiles
from shared.errors import WorkerLost
from shared.rpc.credentials import UNIX, channel_credentials
from shared.rpc.server import KEEPALIVE_OPTIONS
from shared.rpc.status import from_rpc_error

ResponseT = TypeVar("ResponseT")


def open_channel(target: str, tls: TlsFiles | None = None) -> grpc.aio.Channel:
    """Open a channel to `host:port` or `unix:/path`; connects lazily, reconnects by itself.

    Args:
        target: where to; its host must stand in the peer's certificate.
        tls: what to trust and to show. None: no TLS; a socket file never has it.

    Raises:
        WorkerLost: the files are not sound now; another try may find them mended.
    """
    options: list[tuple[str, Any]] = [
        *KEEPALIVE_OPTIONS,
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1_000),
        ("grpc.enable_retries", 0),
        # One connection per channel, even for equal targets in one process.
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if tls is None or target.startswith(UNIX):
        return grpc.aio.insecure_channel(target, options=options)
    try:
        credentials = channel_credentials(tls)
    except TlsFaults as error:
        raise WorkerLost(f"no TLS to {target}: {error}") from None
    return grpc.aio.secure_channel(target, credentials, options=options)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise our error in place of grpc's; the only place on the client side."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from None


async def responses(call: "grpc.aio.UnaryStreamCall[Any, ResponseT]") -> AsyncIterator[ResponseT]:
    """Iterate over the answers of a stream, with our errors."""
    with translated_errors():
        async for response in call:
            yield response
