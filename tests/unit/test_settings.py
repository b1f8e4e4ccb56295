"""Settings: all faults are found at start, together; nothing misspelt is ignored."""

import json
from pathlib import Path

import pytest

from services.draft.main import check_privacy
from services.draft.settings import DraftServiceSettings
from services.gateway.settings import GatewayServiceSettings
from shared.access.certificate_authority import CertificateAuthority
from shared.settings import (
    GROUPS,
    RedisSettings,
    SettingsError,
    load_settings,
    make_private_dir,
)

GOOD = {
    "SHORTSTACK_MODEL__PATH": "/models/small",
    "SHORTSTACK_GATEWAY__CELLS": "127.0.0.1:1, unix:/run/b ,",
}


def faults_of(environ: dict[str, str]) -> list[str]:
    """Return the faults of an environment, one per line."""
    with pytest.raises(SettingsError) as caught:
        load_settings(GatewayServiceSettings, environ)
    return str(caught.value).splitlines()


def test_values_come_from_the_environment_that_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHORTSTACK_GATEWAY__MAX_REPLAYS", "7")
    settings = load_settings(
        GatewayServiceSettings, {**GOOD, "SHORTSTACK_GATEWAY__QUEUE_TIMEOUT_MS": "12"}
    )
    assert settings.gateway.queue_timeout_ms == 12
    assert settings.gateway.max_replays == 2
    assert settings.gateway.cell_targets == ("127.0.0.1:1", "unix:/run/b")
    assert settings.model.path == Path("/models/small")
    assert settings.model.served_name == "small"


def test_settings_never_change_and_are_one_line_of_json() -> None:
    settings = load_settings(GatewayServiceSettings, GOOD)
    with pytest.raises(ValueError, match="frozen"):
        settings.gateway.max_replays = 3  # type: ignore[misc]
    assert "\n" not in settings.to_json()
    assert json.loads(settings.to_json())["gateway"]["max_replays"] == 2


def test_settings_of_other_services_are_theirs() -> None:
    others = {
        f"SHORTSTACK_{group}__ANYTHING": "1"
        for group in GROUPS - {"MODEL", "REDIS", "LOG", "TELEMETRY", "GATEWAY"}
    }
    load_settings(GatewayServiceSettings, {**GOOD, **others, "PATH": "/bin"})


@pytest.mark.parametrize(
    ("name", "value", "fault"),
    [
        ("SHORTSTACK_GATEWAY__MAX_REPLAY", "1", "SHORTSTACK_GATEWAY__MAX_REPLAY: unknown option"),
        ("SHORTSTACK_REDIS__URI", "redis://x", "SHORTSTACK_REDIS__URI: unknown option"),
        ("SHORTSTACK_GATWAY__LISTEN", "x", "SHORTSTACK_GATWAY__LISTEN: unknown group"),
        ("SHORTSTACK_GATEWAY__MAX_REPLAYS", "many", "SHORTSTACK_GATEWAY__MAX_REPLAYS: Input"),
        ("SHORTSTACK_GATEWAY__MAX_REPLAYS", "-1", "SHORTSTACK_GATEWAY__MAX_REPLAYS: Input"),
        ("SHORTSTACK_LOG__LEVEL", "LOUD", "SHORTSTACK_LOG__LEVEL: Input"),
        ("SHORTSTACK_TELEMETRY__ENDPOINT", "localhost", "SHORTSTACK_TELEMETRY__ENDPOINT: 'local"),
        ("SHORTSTACK_TELEMETRY__ENDPOINT", "ftp://x:1", "SHORTSTACK_TELEMETRY__ENDPOINT: 'ftp"),
        ("SHORTSTACK_TELEMETRY__ENDPOINT", "http://x:1/v1", "SHORTSTACK_TELEMETRY__ENDPOINT: 'ht"),
        ("SHORTSTACK_TELEMETRY__ENDPOINT", "x:99999", "SHORTSTACK_TELEMETRY__ENDPOINT: 'x:"),
        ("SHORTSTACK_TELEMETRY__SAMPLING_RATIO", "2", "SHORTSTACK_TELEMETRY__SAMPLING_RATIO: I"),
        ("SHORTSTACK_TELEMETRY__CA_PATH", "/ca.pem", "SHORTSTACK_TELEMETRY__CA_PATH needs"),
        ("SHORTSTACK_REDIS__URL", "redis://x", "set one of SHORTSTACK_REDIS__URL"),
        (
            "SHORTSTACK_GATEWAY__DEFAULT_MAX_NEW_TOKENS",
            "5000",
            "SHORTSTACK_GATEWAY__DEFAULT_MAX_NEW_TOKENS exceeds",
        ),
    ],
)
def test_a_fault_is_named(name: str, value: str, fault: str) -> None:
    found = faults_of({**GOOD, name: value})
    assert len(found) == 1
    assert found[0].startswith(fault)


@pytest.mark.parametrize(
    ("endpoint", "is_secure"),
    [
        ("", False),
        ("collector:4317", False),
        ("http://collector:4317/", False),
        ("https://collector:4317", True),
        ("[::1]:4317", False),
    ],
)
def test_an_endpoint_of_traces_is_an_address_with_or_without_a_scheme(
    endpoint: str, is_secure: bool
) -> None:
    environ = {**GOOD, "SHORTSTACK_TELEMETRY__ENDPOINT": endpoint}
    assert load_settings(GatewayServiceSettings, environ).telemetry.is_secure is is_secure


def test_all_faults_are_listed_together() -> None:
    found = faults_of(
        {
            "SHORTSTACK_GATEWAY__MAX_REPLAYS": "many",
            "SHORTSTACK_GATEWAY__CELS": "x",
            "SHORTSTACK_OTHER__X": "1",
        }
    )
    assert [fault.split(":")[0] for fault in found] == [
        "SHORTSTACK_GATEWAY__CELS",
        "SHORTSTACK_GATEWAY__MAX_REPLAYS",
        "SHORTSTACK_MODEL__PATH",
        "SHORTSTACK_OTHER__X",
    ]


def test_without_cells_nor_registry_the_gateway_does_not_start() -> None:
    found = faults_of({"SHORTSTACK_MODEL__PATH": "/models/small"})
    assert len(found) == 1
    assert "SHORTSTACK_GATEWAY__CELLS" in found[0]


def test_a_runtime_directory_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    make_private_dir(tmp_path / "fresh", "X")
    assert (tmp_path / "fresh").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(SettingsError, match=r"X: .*chmod 700"):
        make_private_dir(tmp_path / "open", "X")


def test_a_draft_worker_refuses_to_listen_where_strangers_can_call(tmp_path: Path) -> None:
    environ = {
        "SHORTSTACK_MODEL__PATH": str(tmp_path),
        "SHORTSTACK_DRAFT__RUNTIME_DIR": str(tmp_path / "cell"),
        "SHORTSTACK_DRAFT__LISTEN": "127.0.0.1:0",
    }
    with pytest.raises(SettingsError, match="SHORTSTACK_DRAFT__LISTEN"):
        check_privacy(load_settings(DraftServiceSettings, environ))
    check_privacy(
        load_settings(DraftServiceSettings, environ | {"SHORTSTACK_DRAFT__TRUSTS_NETWORK": "true"})
    )
    (tmp_path / "open").mkdir(mode=0o755)
    environ["SHORTSTACK_DRAFT__LISTEN"] = f"unix:{tmp_path}/open/draft.sock"
    with pytest.raises(SettingsError, match=r"SHORTSTACK_DRAFT__LISTEN: .*/open must be"):
        check_privacy(load_settings(DraftServiceSettings, environ))


@pytest.mark.parametrize("needs_client_cert", [True, False])
def test_a_draft_worker_listens_to_the_network_only_with_mtls(
    tmp_path: Path, needs_client_cert: bool
) -> None:
    files = CertificateAuthority(tmp_path / "ca").issue("draft", [], role="draft")
    settings = load_settings(
        DraftServiceSettings,
        {
            "SHORTSTACK_MODEL__PATH": str(tmp_path),
            "SHORTSTACK_DRAFT__RUNTIME_DIR": str(tmp_path / "cell"),
            "SHORTSTACK_DRAFT__LISTEN": "127.0.0.1:0",
            "SHORTSTACK_DRAFT__TLS_CERT_PATH": str(files.cert_path),
            "SHORTSTACK_DRAFT__TLS_KEY_PATH": str(files.key_path),
            "SHORTSTACK_DRAFT__TLS_CA_PATH": str(files.ca_path),
            "SHORTSTACK_DRAFT__TLS_REQUIRES_CLIENT_CERT": str(needs_client_cert),
        },
    )
    if needs_client_cert:
        check_privacy(settings)
    else:
        with pytest.raises(SettingsError, match="SHORTSTACK_DRAFT__LISTEN"):
            check_privacy(settings)


def test_a_password_in_a_url_is_not_told() -> None:
    settings = RedisSettings(url="rediss://user:geheim@redis.example:6380/0?ssl_ca_certs=/ca.pem")
    told = settings.model_dump_json()
    assert "geheim" not in told and "user:***@redis.example:6380/0?ssl_ca_certs" in told
    assert "geheim" in settings.url
    assert RedisSettings(url="unix:///tmp/a.sock").model_dump()["url"] == "unix:///tmp/a.sock"
