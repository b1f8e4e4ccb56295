"""Where HTTP can be listened for, and what is told where it cannot."""

import socket
from pathlib import Path

import pytest

from services.gateway.http_face.listener import listen, remove, url_of
from shared.errors import Internal


@pytest.mark.parametrize("address", ["127.0.0.1:0", "localhost:0"])
def test_a_port_is_filled_in(address: str) -> None:
    with listen(address) as bound:
        assert url_of(bound) == f"http://127.0.0.1:{bound.getsockname()[1]}"


def test_a_taken_port_is_refused() -> None:
    with listen("127.0.0.1:0") as bound:
        bound.listen()
        with pytest.raises(Internal, match="in use"):
            listen(f"127.0.0.1:{bound.getsockname()[1]}")


@pytest.mark.parametrize("address", ["8000", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(Internal, match="cannot listen for HTTP on"):
        listen(address)


def test_a_path_is_taken_over_from_the_dead_and_not_from_the_living(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/http.sock"
    listen(address).close()
    with listen(address) as bound:
        bound.listen()
        assert url_of(bound) == address
        with pytest.raises(Internal, match="in use"):
            listen(address)
    remove(address)
    remove(address)
    assert not (tmp_path / "http.sock").exists()


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Internal):
        listen(f"unix:{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "mine"


def test_ipv6_is_written_in_brackets() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    try:
        bound = listen("[::1]:0")
    except Internal as error:
        pytest.skip(f"no IPv6 here: {error.message}")
    with bound:
        assert url_of(bound).startswith("http://[::1]:")
