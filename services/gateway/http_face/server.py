"""uvicorn within the gateway's event loop: it serves, and leaves signals to the gateway."""

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from socket import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from services.gateway.http_face.listener import UNIX, listen, remove, url_of
from services.gateway.http_face.tls import HttpTls
from shared.rpc.credentials import PortSecurity

# Longer than the idle time of common proxies, so that it is they who close idle connections.
KEEP_ALIVE_S = 75
# Connections that are still writing when the server stops get so long.
STOP_GRACE_S = 1
# The scope's entry with what drops its connection at once, unsent bytes included.
ABORT = "shortstack.abort"


class HttpServer:
    """One HTTP port."""

    def __init__(self, app: ASGIApp, address: str, security: PortSecurity | None = None) -> None:
        """Bind the address; nothing is served yet.

        security: TLS of a `host:port`; a socket file has none.

        Raises:
            Internal: the address is malformed or taken, or its certificate cannot be shown.
        """
        self._tls = HttpTls(security) if security and not address.startswith(UNIX) else None
        self._socket = listen(address)
        self.url = url_of(self._socket, "https" if self._tls else "http")
        self._server = _Server(
            uvicorn.Config(
                app,
                http=_AbortableProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=STOP_GRACE_S,
                ssl_context_factory=_factory_of(self._tls),
            )
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Accept requests."""
        if self._tls:
            self._tls.start()
        self._task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        started = asyncio.create_task(self._server.has_started.wait())
        await asyncio.wait((self._task, started), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Accept no more; answers that are not written within the grace are cut off."""
        if self._task is None:
            self._socket.close()
        else:
            self._server.should_exit = True
            await self._task
            await asyncio.gather(*self._server.server_state.tasks, return_exceptions=True)
        remove(self.url)
        if self._tls:
            await self._tls.stop()


def _factory_of(tls: HttpTls | None) -> Callable[..., ssl.SSLContext] | None:
    """Return what makes uvicorn's context; None: no TLS."""
    return (lambda config, default: tls.context) if tls else None


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = asyncio.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.has_started.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # The gateway drains both of its faces on a signal.
        yield


class _AbortableProtocol(HttpToolsProtocol):
    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope: Any = self.scope
        scope[ABORT] = self.transport.abort
