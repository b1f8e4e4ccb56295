"""Where HTTP is listened for: `host:port`, or `unix:/path`. Knows nothing of HTTP."""

import os
import socket
from contextlib import suppress
from pathlib import Path

from shared.errors import Internal

UNIX = "unix:"
MAX_PORT = 65_535


def listen(address: str) -> socket.socket:
    """Return a bound socket; a file that a dead process left at a path is replaced.

    Raises:
        Internal: the address is malformed or taken.
    """
    try:
        if address.startswith(UNIX):
            return _listen_at_path(Path(address.removeprefix(UNIX)))
        return _listen_at_port(address)
    except (OSError, ValueError) as error:
        raise Internal(f"cannot listen for HTTP on {address}: {error}") from None


def url_of(bound: socket.socket, scheme: str = "http") -> str:
    """Return where a client finds a bound socket, with the port filled in."""
    name = bound.getsockname()
    if bound.family == socket.AF_UNIX:
        return f"{UNIX}{name}"
    host = f"[{name[0]}]" if bound.family == socket.AF_INET6 else name[0]
    return f"{scheme}://{host}:{name[1]}"


def remove(url: str) -> None:
    """Remove the file of a socket that is listened on no more."""
    if url.startswith(UNIX):
        with suppress(FileNotFoundError):
            os.unlink(url.removeprefix(UNIX))


def _listen_at_port(address: str) -> socket.socket:
    host, separator, port = address.rpartition(":")
    # Libraries take a number that is too large for its last 16 bits.
    if not separator or not port.isdecimal() or int(port) > MAX_PORT:
        raise ValueError("write host:port or unix:/path")
    found = socket.getaddrinfo(
        host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    family, kind, protocol, _, place = found[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
    except BaseException:
        bound.close()
        raise
    return bound


def _listen_at_path(path: Path) -> socket.socket:
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.is_socket() and not _is_answered(path):
            path.unlink()
        bound.bind(str(path))
    except BaseException:
        bound.close()
        raise
    return bound


def _is_answered(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        return caller.connect_ex(str(path)) == 0
