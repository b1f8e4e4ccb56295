"""The TLS options of a port, alike in all services; and how paths make `TlsFiles`."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field, model_validator

from shared.access.tls_files import TlsFaults, TlsFiles
from shared.settings import PREFIX, Group


class TlsGroup(Group):
    """What a service's group has for its port. A socket file is guarded by its folder instead."""

    # Name of the group in variables; set by each service.
    group: ClassVar[str]

    listen: str
    tls_cert_path: Path | None = Field(
        None, description="PEM certificate chain of the port; empty: no TLS"
    )
    tls_key_path: Path | None = Field(None, description="PEM key of the certificate")
    tls_ca_path: Path | None = Field(
        None, description="PEM certificates of those who sign the callers' certificates"
    )
    tls_requires_client_cert: bool = Field(
        True, description="turn callers without a certificate away (mTLS)"
    )
    tls_callers: str = Field(
        "",
        description="names (SAN) of which a caller's certificate must hold one, by comma; empty: "
        "any that the CA signed",
    )

    @property
    def tls_files(self) -> TlsFiles | None:
        """What the port shows and trusts; None: no TLS."""
        if self.tls_cert_path is None:
            return None
        return TlsFiles(self.tls_cert_path, self.tls_key_path, self.tls_ca_path)

    @property
    def has_other_tls(self) -> bool:
        """Whether the service shows its certificate elsewhere than at `listen`, too."""
        return False

    @property
    def tls_caller_names(self) -> frozenset[str]:
        """The names in `tls_callers`."""
        return frozenset(name.strip() for name in self.tls_callers.split(",") if name.strip())

    @model_validator(mode="after")
    def _tls_holds(self) -> "TlsGroup":
        faults = self._contradictions()
        if not faults:
            faults = faults_of(self.tls_files, f"{PREFIX}{self.group}__TLS")
        if faults:
            raise ValueError("\n".join(faults))
        return self

    def _contradictions(self) -> list[str]:
        name = f"{PREFIX}{self.group}__TLS"
        faults = []
        if (self.tls_cert_path is None) != (self.tls_key_path is None):
            faults.append(f"{name}_CERT_PATH and {name}_KEY_PATH need each other")
        if self.tls_ca_path is not None and self.tls_cert_path is None:
            faults.append(f"{name}_CA_PATH needs {name}_CERT_PATH")
        if (
            self.tls_cert_path is not None
            and self.tls_requires_client_cert
            and not self.tls_ca_path
        ):
            faults.append(
                f"{name}_REQUIRES_CLIENT_CERT needs {name}_CA_PATH, who signs those certificates"
            )
        if "tls_callers" in self.model_fields_set and not self.tls_requires_client_cert:
            faults.append(f"{name}_CALLERS needs {name}_REQUIRES_CLIENT_CERT")
        if self.tls_cert_path and self.listen.startswith("unix:") and not self.has_other_tls:
            faults.append(f"{name}_CERT_PATH: a socket file has no TLS; listen on host:port")
        return faults


def faults_of(files: TlsFiles | None, name: str) -> list[str]:
    """Return what is wrong with files, under the name of their options."""
    if files is None:
        return []
    try:
        files.load()
    except TlsFaults as error:
        return [f"{name}: {fault}" for fault in str(error).splitlines()]
    return []
