"""TLS files as options of a service."""

from typing import Any

from shared.access.tls_files import TlsFiles

HOST = "127.0.0.1"


def options_of(files: TlsFiles, prefix: str = "tls") -> dict[str, Any]:
    """Return files as a service's options."""
    return {
        f"{prefix}_cert_path": files.cert_path,
        f"{prefix}_key_path": files.key_path,
        f"{prefix}_ca_path": files.ca_path,
    }
