"""Where `shortstack up` serves HTTP is checked before anything is started."""

import socket

import pytest

from shortstack.errors import UsageError
from shortstack.http_address import http_listen_of


def test_a_free_port_a_path_and_nowhere_are_taken() -> None:
    assert http_listen_of("127.0.0.1:0") == "127.0.0.1:0"
    assert http_listen_of("unix:/run/http.sock") == "unix:/run/http.sock"
    assert http_listen_of("none") == ""


def test_a_taken_port_is_told_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match=r"in use.*--http HOST:PORT, or --http none"):
            http_listen_of(f"127.0.0.1:{taken.getsockname()[1]}")


@pytest.mark.parametrize("wish", ["8000", "localhost", "127.0.0.1:x", "127.0.0.1:99999", ""])
def test_what_is_no_address_is_told(wish: str) -> None:
    with pytest.raises(UsageError, match="--http"):
        http_listen_of(wish)
