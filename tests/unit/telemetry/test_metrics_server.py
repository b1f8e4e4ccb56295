"""Metrics over HTTP: formats, an address that is taken, settings that are none."""

import socket
import urllib.request
from collections.abc import Iterator

import pytest

from services.draft.settings import DraftServiceSettings
from shared.errors import Internal
from shared.settings import SettingsError, load_settings
from shared.telemetry.metrics_server import MetricsServer
from shared.telemetry.signal_board import SignalBoard
from shared.telemetry.signals.row import Service
from tests.unit.telemetry.test_signal_board import TRACE_ID, filled_board

OPTION = "SHORTSTACK_DRAFT__METRICS_LISTEN"


def scrape(url: str, accept: str = "") -> tuple[str, str]:
    """Return the type and the text of an answer."""
    request = urllib.request.Request(url, headers={"Accept": accept} if accept else {})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.headers["Content-Type"], response.read().decode()


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    server = MetricsServer("127.0.0.1:0", OPTION)
    yield server
    server.close()


def test_the_process_is_told_from_the_start_and_the_service_once_it_has_a_board(
    server: MetricsServer,
) -> None:
    _, before = scrape(server.url)
    assert "process_resident_memory_bytes" in before
    assert "shortstack_" not in before
    server.show(filled_board(Service.DRAFT))
    kind, text = scrape(server.url)
    assert kind.startswith("text/plain")
    assert "shortstack_draft_rounds_total 2.0" in text


def test_openmetrics_is_served_to_who_asks(server: MetricsServer) -> None:
    server.show(filled_board(Service.GATEWAY))
    kind, text = scrape(server.url, "application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")
    assert f'# {{trace_id="{TRACE_ID}"}} 2.0' in text


def test_names_keep_their_colons_in_either_format(server: MetricsServer) -> None:
    server.show(filled_board(Service.VERIFY))
    for kind in ("application/openmetrics-text; version=1.0.0", "text/plain; version=0.0.4"):
        for escaping in ("", "; escaping=underscores", "; escaping=allow-utf-8"):
            _, text = scrape(server.url, kind + escaping)
            assert "\nvllm:generation_tokens_total{" in text
            assert "vllm_" not in text


def test_another_server_can_have_the_same(server: MetricsServer) -> None:
    server.show(filled_board(Service.GATEWAY))
    body, media_type = server.text("")
    assert b"shortstack_gateway_requests_running 2.0" in body
    assert media_type.startswith("text/plain")
    assert server.text("application/openmetrics-text; version=1.0.0")[0].endswith(b"# EOF\n")


def test_an_incomplete_board_is_not_shown(server: MetricsServer) -> None:
    with pytest.raises(ValueError, match="without a source"):
        server.show(SignalBoard(Service.DRAFT, {}))


def test_an_address_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Internal, match=f"cannot serve metrics on {address}: .*{OPTION}"):
            MetricsServer(address, OPTION)


def test_without_an_address_nothing_is_served() -> None:
    server = MetricsServer()
    assert server.url == ""
    server.close()


@pytest.mark.parametrize("address", ["9400", ":9400", "localhost:", "localhost:http", "::1:99999"])
def test_an_address_must_be_a_host_and_a_port(address: str) -> None:
    environ = {
        "SHORTSTACK_MODEL__PATH": "/m",
        "SHORTSTACK_DRAFT__LISTEN": "unix:/x",
        "SHORTSTACK_DRAFT__RUNTIME_DIR": "/r",
    }
    with pytest.raises(SettingsError, match=r"METRICS_LISTEN .*use host:port"):
        load_settings(DraftServiceSettings, environ | {OPTION: address})
    settings = load_settings(DraftServiceSettings, environ | {OPTION: "[::1]:9400"})
    assert settings.draft.metrics_listen == "[::1]:9400"
