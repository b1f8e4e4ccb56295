"""Certificate, key and CA of one end of a connection, as files.

All that can be wrong with them is found when a service starts, and told with what to mend; later a
renewed certificate is read when its files change. Knows nothing of gRPC.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
)

from shared.access.key_file import Signature, signature_of


class TlsFaults(Exception):
    """What is wrong with the files, one fault per line."""


@dataclass(frozen=True, slots=True)
class TlsMaterial:
    """The bytes of the files, as they were at one time."""

    cert_pem: bytes | None
    key_pem: bytes | None
    ca_pem: bytes | None


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where they lie. Without a CA those of the system are trusted; a key comes with its cert."""

    cert_path: Path | None = None
    key_path: Path | None = None
    ca_path: Path | None = None

    def signature(self) -> Signature:
        """Return what changes when a file does."""
        return signature_of(self.cert_path, self.key_path, self.ca_path)

    def load(self) -> TlsMaterial:
        """Read and check all files.

        Raises:
            TlsFaults: a file cannot be read or holds something else, a certificate is not valid
                now, the key is another certificate's.
        """
        faults: list[str] = []
        pems = [_read(path, faults) for path in (self.cert_path, self.key_path, self.ca_path)]
        cert_pem, key_pem, ca_pem = pems
        chain = _certificates(self.cert_path, cert_pem, faults)
        _certificates(self.ca_path, ca_pem, faults)
        if chain and key_pem is not None:
            _check_key(self, chain[0], key_pem, faults)
        if faults:
            raise TlsFaults("\n".join(faults))
        return TlsMaterial(cert_pem, key_pem, ca_pem)


def _read(path: Path | None, faults: list[str]) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        faults.append(f"{path}: {error.strerror}")
        return None


def _certificates(
    path: Path | None, pem: bytes | None, faults: list[str]
) -> list[x509.Certificate]:
    if pem is None:
        return []
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        faults.append(f"{path}: holds no certificate in PEM form")
        return []
    now = datetime.now(UTC)
    for certificate in certificates:
        name = certificate.subject.rfc4514_string()
        if certificate.not_valid_after_utc <= now:
            faults.append(f"{path}: {name} expired at {certificate.not_valid_after_utc}")
        if certificate.not_valid_before_utc > now:
            faults.append(f"{path}: {name} is not valid before {certificate.not_valid_before_utc}")
    return certificates


def _check_key(
    files: TlsFiles, certificate: x509.Certificate, key_pem: bytes, faults: list[str]
) -> None:
    try:
        key = load_pem_private_key(key_pem, password=None)
    except TypeError:
        faults.append(f"{files.key_path}: is encrypted; a service needs a key without a password")
        return
    except ValueError:
        faults.append(f"{files.key_path}: holds no private key in PEM form")
        return
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if key.public_key().public_bytes(*form) != certificate.public_key().public_bytes(*form):
        faults.append(f"{files.key_path}: is not the key of the certificate in {files.cert_path}")
