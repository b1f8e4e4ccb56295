"""Serving metrics over HTTP: a registry of the service's own, in threads of its own.

    GET /metrics      the text format, or OpenMetrics (with exemplars) where the scraper asks for it

Opened before the model is loaded, so that an address that is taken ends the process at once; what
the service itself tells is added with its board, once there is one.
"""

import threading
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.exposition import choose_encoder

from shared.errors import Internal
from shared.telemetry.signal_board import SignalBoard


class MetricsServer:
    """The metrics of one process. Without an address they are not served, but can be asked for."""

    def __init__(self, listen: str = "", option: str = "") -> None:
        """Begin to serve what is known of the process.

        Args:
            listen: `host:port`; empty: nothing is served.
            option: the variable that names it, for the error.

        Raises:
            Internal: the address is taken, or is none of this machine's.
        """
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None
        if listen:
            self._open(listen, option)

    def _open(self, listen: str, option: str) -> None:
        host, _, port = listen.rpartition(":")
        try:
            self._server, self._thread = start_http_server(
                int(port), host.strip("[]"), self._registry
            )
        except OSError as error:
            raise Internal(
                f"cannot serve metrics on {listen}: {error.strerror or error}; set {option} to a "
                "free host:port, or leave it empty to serve none"
            ) from None

    @property
    def url(self) -> str:
        """Where metrics are found, with the port filled in; empty: nowhere."""
        if self._server is None:
            return ""
        host, port = self._server.server_address[:2]
        name = host.decode() if isinstance(host, bytes) else host
        return f"http://{f'[{name}]' if ':' in name else name}:{port}/metrics"

    def show(self, board: SignalBoard) -> None:
        """Add what the service tells, whose rows must all have a source.

        Raises:
            ValueError: names rows without.
        """
        self._registry.register(board.checked())

    def text(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, for a server that has them beside other things.

        accept: the scraper's header, which chooses the format.
        """
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    def close(self) -> None:
        """Serve no more."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()
            self._server = None
