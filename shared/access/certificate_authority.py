"""A certificate authority for tests and for trying mTLS out: one CA, one certificate per role.

Not for production: the CA's key lies beside what it signed. Real ones come from your own CA, with
the role as a URI among the names (SAN) of the certificate.
"""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from shared.access.tls_files import TlsFiles

ROLE_URI = "urn:shortstack:role:"
CA_NAME = "ca"
CLOCK_SKEW = timedelta(minutes=5)


class CertificateAuthority:
    """A CA whose files lie in one folder; made when they are missing."""

    def __init__(self, folder: Path, valid: timedelta = timedelta(days=30)) -> None:
        """Read the CA, or make it, good for `valid`."""
        self._folder, self._valid = folder, valid
        self.ca_path = folder / f"{CA_NAME}.pem"
        key_path = folder / f"{CA_NAME}-key.pem"
        if self.ca_path.exists():
            self._certificate = x509.load_pem_x509_certificate(self.ca_path.read_bytes())
            key = load_pem_private_key(key_path.read_bytes(), password=None)
            assert isinstance(key, ec.EllipticCurvePrivateKey), "made below"
            self._key = key
            return
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._key = ec.generate_private_key(ec.SECP256R1())
        name = _name("shortstack test CA")
        self._certificate = self._builder(name, name, self._key, valid, is_ca=True).sign(
            self._key, SHA256()
        )
        _write(self.ca_path, self._certificate.public_bytes(Encoding.PEM), 0o644)
        _write(key_path, _key_pem(self._key), 0o600)

    def issue(
        self,
        name: str,
        hosts: Sequence[str],
        *,
        role: str = "",
        valid: timedelta | None = None,
    ) -> TlsFiles:
        """Write `NAME.pem` and `NAME-key.pem`, in the place of earlier ones.

        Args:
            name: of the files, and the certificate's common name.
            hosts: names and addresses under which it is called.
            role: `gateway`, `verify` or `draft`: what its holder may call.
            valid: how long; as the CA, if left out. Negative is expired.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [_host(host) for host in hosts]
        if role:
            names.append(x509.UniformResourceIdentifier(ROLE_URI + role))
        span = self._valid if valid is None else valid
        builder = self._builder(_name(name), self._certificate.subject, key, span, is_ca=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, SHA256())
        cert_path, key_path = self._folder / f"{name}.pem", self._folder / f"{name}-key.pem"
        _write(key_path, _key_pem(key), 0o600)
        _write(cert_path, certificate.public_bytes(Encoding.PEM), 0o644)
        return TlsFiles(cert_path, key_path, self.ca_path)

    def _builder(
        self,
        subject: x509.Name,
        issuer: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        valid: timedelta,
        *,
        is_ca: bool,
    ) -> x509.CertificateBuilder:
        end = datetime.now(UTC) + valid
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(datetime.now(UTC), end) - CLOCK_SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file as a whole; it never exists with a wider mode than it is to have."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
    fresh.replace(path)
