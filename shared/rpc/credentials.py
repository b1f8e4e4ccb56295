"""TLS on gRPC ports and channels, with files that may change while they are in use.

A server asks for its certificate at each handshake, so a renewed one is shown without a restart; so
does a channel of ours when it is opened. A socket file (`unix:`) has no TLS: whoever may enter its
folder is this user.
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc

from shared.access.tls_files import TlsFaults, TlsFiles, TlsMaterial
from shared.access.tls_options import TlsGroup
from shared.errors import NotAllowed
from shared.rpc.handlers import check_first

log = logging.getLogger(__name__)

UNIX = "unix:"
# Callers' names in a certificate, whatever kind of SAN they are.
SAN_KEY = "x509_subject_alternative_name"


@dataclass(frozen=True, slots=True)
class PortSecurity:
    """What a port asks of its callers. callers: names (SAN) of which each must hold one."""

    files: TlsFiles
    requires_client_cert: bool = True
    callers: frozenset[str] = frozenset()


def security_of(options: TlsGroup) -> PortSecurity | None:
    """Return what a service's options say of its port; None: no TLS."""
    if options.tls_files is None:
        return None
    if not options.tls_requires_client_cert:
        return PortSecurity(options.tls_files, requires_client_cert=False)
    return PortSecurity(options.tls_files, callers=options.tls_caller_names)


def server_credentials(security: PortSecurity) -> grpc.ServerCredentials:
    """Return the credentials of a port.

    Raises:
        TlsFaults: the files are not sound. Later on, unsound ones leave the old ones in force.
    """
    certificates = _Certificates(security.files)
    return grpc.dynamic_ssl_server_credentials(
        _configuration(certificates.material),
        certificates.fetch,
        require_client_authentication=security.requires_client_cert,
    )


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Return the credentials of a channel, from the files as they are now.

    Raises:
        TlsFaults: they are not sound.
    """
    material = files.load()
    return grpc.ssl_channel_credentials(material.ca_pem, material.key_pem, material.cert_pem)


class _Certificates:
    """A port's files; `fetch` is called by gRPC at each handshake, so it does little."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._signature = files.signature()
        self.material = files.load()

    def fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Return what is new; None: nothing."""
        signature = self._files.signature()
        if signature == self._signature:
            return None
        self._signature = signature
        try:
            self.material = self._files.load()
        except TlsFaults as error:
            log.error("certificate stays as it was", extra={"faults": str(error).splitlines()})
            return None
        log.info("certificate read again", extra={"path": str(self._files.cert_path)})
        return _configuration(self.material)


def _configuration(material: TlsMaterial) -> grpc.ServerCertificateConfiguration:
    pair = (material.key_pem, material.cert_pem)
    return grpc.ssl_server_certificate_configuration([pair], material.ca_pem)


class CallerInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Serves only callers whose certificate holds one of the names; health is for all."""

    def __init__(self, callers: frozenset[str], open_methods: tuple[str, ...]) -> None:
        self._callers = callers
        self._open_methods = open_methods

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Put the check before the handler; only the handler is shown the certificate."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(self._open_methods):
            return handler
        return check_first(handler, self._check)

    def _check(self, context: Any) -> None:
        if context.peer().startswith(UNIX):
            return
        names = {name.decode(errors="replace") for name in context.auth_context().get(SAN_KEY, ())}
        if not names & self._callers:
            wanted = " or ".join(sorted(self._callers))
            raise NotAllowed(f"only holders of a certificate for {wanted} may call this")
