"""Certificates and keys: what is wrong with them is found when they are read."""

from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.draft.settings import DraftSettings
from services.gateway.settings import GatewaySettings
from services.verify.settings import VerifySettings
from shared.access.certificate_authority import CertificateAuthority
from shared.access.tls_files import TlsFaults, TlsFiles


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """A CA."""
    return CertificateAuthority(tmp_path_factory.mktemp("ca") / "ca")


def test_sound_files_are_read_and_the_keys_are_private(authority: CertificateAuthority) -> None:
    files = authority.issue("good", ["localhost"], role="verify")
    material = files.load()
    assert material.cert_pem and material.key_pem and material.ca_pem
    assert files.key_path is not None and files.key_path.stat().st_mode & 0o777 == 0o600
    assert CertificateAuthority(authority.ca_path.parent).ca_path == authority.ca_path


def test_every_fault_is_told(authority: CertificateAuthority, tmp_path: Path) -> None:
    good = authority.issue("one", [])
    other = authority.issue("two", [])
    old = authority.issue("old", [], valid=timedelta(days=-1))
    with pytest.raises(TlsFaults, match="is not the key of the certificate"):
        TlsFiles(good.cert_path, other.key_path).load()
    with pytest.raises(TlsFaults, match="CN=old expired at"):
        old.load()
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    with pytest.raises(TlsFaults) as caught:
        TlsFiles(empty, empty, tmp_path / "missing.pem").load()
    faults = str(caught.value)
    assert "holds no certificate" in faults and "missing.pem: No such file" in faults
    with pytest.raises(TlsFaults, match="holds no private key"):
        TlsFiles(good.cert_path, empty).load()


LISTEN = {"listen": "127.0.0.1:1"}
VERIFY = {"runtime_dir": Path("x"), "cell_kind": "fused"}


@pytest.mark.parametrize(
    ("leave_out", "more", "fault"),
    [
        ("tls_key_path", {}, "VERIFY__TLS_CERT_PATH and SHORTSTACK_VERIFY__TLS_KEY_PATH need each"),
        ("tls_cert_path", {}, "TLS_CA_PATH needs SHORTSTACK_VERIFY__TLS_CERT_PATH"),
        ("tls_ca_path", {}, "TLS_REQUIRES_CLIENT_CERT needs SHORTSTACK_VERIFY__TLS_CA_PATH"),
        ("", {"listen": "unix:/x"}, "a socket file has no TLS"),
        ("", {"tls_requires_client_cert": False, "tls_callers": "a"}, "TLS_CALLERS needs"),
        ("", {"tls_ca_path": Path("/nothing")}, "VERIFY__TLS: /nothing: No such file"),
    ],
)
def test_contradictions_are_refused_by_name(
    authority: CertificateAuthority, leave_out: str, more: dict[str, object], fault: str
) -> None:
    files = authority.issue("port", [])
    options = {
        "tls_cert_path": files.cert_path,
        "tls_key_path": files.key_path,
        "tls_ca_path": files.ca_path,
    }
    options.pop(leave_out, None)
    with pytest.raises(ValidationError, match=fault):
        VerifySettings(**{**LISTEN, **VERIFY, **options, **more})


def test_each_service_asks_for_the_role_of_its_callers(authority: CertificateAuthority) -> None:
    files = authority.issue("port", [])
    options = {
        "tls_cert_path": files.cert_path,
        "tls_key_path": files.key_path,
        "tls_ca_path": files.ca_path,
    }
    verify = VerifySettings(**{**LISTEN, **VERIFY, **options})
    draft = DraftSettings(**{**LISTEN, "runtime_dir": Path("x"), **options})
    assert verify.tls_caller_names == {"urn:shortstack:role:gateway"}
    assert draft.tls_caller_names == {"urn:shortstack:role:verify"}
    gateway = GatewaySettings(**{**LISTEN, **options})
    assert not gateway.tls_requires_client_cert and gateway.cells_tls_files is None
    with pytest.raises(ValidationError, match="CELLS_TLS_CERT_PATH needs"):
        GatewaySettings(cells_tls_cert_path=files.cert_path, cells_tls_key_path=files.key_path)
