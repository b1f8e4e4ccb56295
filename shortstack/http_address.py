"""Where a stack serves HTTP: told early if it cannot."""

import socket

from shortstack.errors import UsageError

NO_HTTP = "none"
MAX_PORT = 65_535
LOCAL_HTTP = "127.0.0.1:8000"
HTTP_VARIABLE = "SHORTSTACK_GATEWAY__HTTP_LISTEN"


def http_listen_of(wish: str) -> str:
    """Return where to listen; empty: nowhere.

    The gateway would find a taken port too, but only once the workers have loaded the model.

    Raises:
        UsageError: the address is malformed, or taken by another program.
    """
    if wish == NO_HTTP:
        return ""
    if not wish.startswith("unix:"):
        _require_free(wish)
    return wish


def _require_free(address: str) -> None:
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > MAX_PORT:
        raise UsageError(f"--http {address}: write HOST:PORT, unix:/path, or {NO_HTTP}")
    try:
        found = socket.getaddrinfo(host.strip("[]") or None, int(port), type=socket.SOCK_STREAM)
        family, kind, protocol, _, place = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(place)
    except OSError as error:
        raise UsageError(
            f"cannot serve HTTP on {address}: {error}; "
            f"name another place with --http HOST:PORT, or --http {NO_HTTP} to go without"
        ) from None
