"""What a client shows and trusts: an API key, and TLS. Read from options and the environment.

SHORTSTACK_API_KEY        the key itself
SHORTSTACK_API_KEY_FILE   a file that holds it
SHORTSTACK_CA             the gateway has TLS: PEM of who signed its certificate, or `system`
SHORTSTACK_CERT, SHORTSTACK_CERT_KEY   PEM of a certificate to show, where the gateway asks for one
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.access.tls_files import TlsFaults, TlsFiles
from shortstack.errors import UsageError

KEY, KEY_FILE = "SHORTSTACK_API_KEY", "SHORTSTACK_API_KEY_FILE"
CA, CERT, CERT_KEY = "SHORTSTACK_CA", "SHORTSTACK_CERT", "SHORTSTACK_CERT_KEY"
VARIABLES = frozenset({KEY, KEY_FILE, CA, CERT, CERT_KEY})
SYSTEM_CA = "system"


@dataclass(frozen=True, slots=True)
class Access:
    """How to call a gateway; nothing of it: neither key nor TLS."""

    api_key: str = ""
    tls: TlsFiles | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with every call."""
        return (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()


def read_access(
    environ: Mapping[str, str], *, api_key: str | None = None, ca: str | None = None
) -> Access:
    """Return what the options say, and where they say nothing the environment.

    Raises:
        UsageError: a file cannot be read, variables exclude or need each other.
    """
    return Access(_key_from(environ, api_key), _tls_from(environ, ca or environ.get(CA, "")))


def _key_from(environ: Mapping[str, str], api_key: str | None) -> str:
    if api_key:
        return api_key
    key, path = environ.get(KEY, ""), environ.get(KEY_FILE, "")
    if key and path:
        raise UsageError(f"set one of {KEY} and {KEY_FILE}")
    if not path:
        return key
    try:
        text = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{KEY_FILE}: {path}: {error}") from None
    if not text or not text.isascii() or not text.isprintable():
        raise UsageError(f"{KEY_FILE}: {path} holds no key")
    return text


def _tls_from(environ: Mapping[str, str], ca: str) -> TlsFiles | None:
    cert, key = environ.get(CERT, ""), environ.get(CERT_KEY, "")
    if bool(cert) != bool(key):
        raise UsageError(f"{CERT} and {CERT_KEY} need each other")
    if not ca:
        if cert:
            raise UsageError(f"{CERT} needs {CA}: a PEM file, or `{SYSTEM_CA}`")
        return None
    files = TlsFiles(
        Path(cert) if cert else None,
        Path(key) if key else None,
        None if ca == SYSTEM_CA else Path(ca),
    )
    try:
        files.load()
    except TlsFaults as error:
        raise UsageError(f"TLS: {error}") from None
    return files
