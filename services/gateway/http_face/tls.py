"""TLS of the HTTP face: the certificate of the gateway's port, read again when its files change."""

import logging
import ssl

from shared.access.tls_files import TlsFaults
from shared.control.periodic import PeriodicTask
from shared.errors import Internal
from shared.rpc.credentials import PortSecurity

log = logging.getLogger(__name__)

WATCH_MS = 1000


class HttpTls:
    """The context of a port; handshakes take the certificate that was loaded last."""

    def __init__(self, security: PortSecurity) -> None:
        """Load the files.

        Raises:
            Internal: they are not sound.
        """
        self._files = security.files
        self._signature = self._files.signature()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        if security.requires_client_cert:
            self.context.verify_mode = ssl.CERT_REQUIRED
        try:
            self._load()
        except TlsFaults as error:
            raise Internal(f"no TLS for HTTP: {error}") from None
        self._task = PeriodicTask(WATCH_MS, self.refresh)

    def start(self) -> None:
        """Watch the files from now on."""
        self._task.start()

    async def stop(self) -> None:
        """Watch no more."""
        await self._task.stop()

    async def refresh(self) -> None:
        """Take what is new."""
        signature = self._files.signature()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._load()
        except (TlsFaults, OSError) as error:
            log.error("certificate stays as it was", extra={"faults": str(error).splitlines()})
            return
        log.info("certificate read again", extra={"path": str(self._files.cert_path)})

    def _load(self) -> None:
        self._files.load()  # Checks all there is to check.
        assert self._files.cert_path is not None, "a port has a certificate"
        self.context.load_cert_chain(self._files.cert_path, self._files.key_path)
        if self._files.ca_path is not None:
            self.context.load_verify_locations(self._files.ca_path)
