"""The keys in force: from the file and the environment, read again when the file changes.

A file that is malformed when it changes leaves the keys as they were; that is logged once a change.
Running requests are not touched by any change: they were let in.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from services.gateway.api_keys import Caller, KeyRing
from services.gateway.tenant_limits import TenantLimits
from shared.access.key_file import read_key_file, signature_of
from shared.access.key_records import KeyFaults, KeyRecord, check_records, parse_records
from shared.control.periodic import PeriodicTask
from shared.settings import SettingsError

log = logging.getLogger(__name__)

WATCH_MS = 1000
PATH_OPTION, LINES_OPTION = "SHORTSTACK_GATEWAY__API_KEYS_PATH", "SHORTSTACK_GATEWAY__API_KEYS"


class KeyWatch:
    """Holds the key ring in force; `authenticate` and `limits_of` ask it."""

    def __init__(self, path: Path | None, lines: str, others: TenantLimits) -> None:
        """Read all keys; with neither path nor lines everybody may call.

        Raises:
            SettingsError: with every fault of them, or where they hold no key at all.
        """
        self._path, self._lines, self._others = path, lines, others
        self._signature = signature_of(path)
        self._ring = KeyRing(self._read_at_start(), others)
        self._task = PeriodicTask(WATCH_MS, self.refresh)
        self._on_change: Callable[[], None] = lambda: None

    @property
    def are_needed(self) -> bool:
        """Whether callers must show a key."""
        return len(self._ring) > 0

    def authenticate(self, header: str | None) -> Caller:
        """Return who shows an authorization header, as `KeyRing.authenticate`."""
        return self._ring.authenticate(header)

    def limits_of(self, tenant: str) -> TenantLimits:
        """Return a tenant's bounds."""
        return self._ring.limits_of(tenant)

    def start(self, on_change: Callable[[], None]) -> None:
        """Watch the file from now on; on_change is called when other keys are in force."""
        self._on_change = on_change
        if self._path is not None:
            self._task.start()

    async def stop(self) -> None:
        """Watch no more."""
        await self._task.stop()

    async def refresh(self) -> None:
        """Read the file again if it has changed."""
        signature = signature_of(self._path)
        if signature == self._signature:
            return
        self._signature = signature
        try:
            ring = KeyRing(self._read(), self._others)
        except KeyFaults as error:
            log.error("API keys stay as they were", extra={"faults": str(error).splitlines()})
            return
        self._ring = ring
        log.info("API keys read again", extra={"num_keys": len(ring)})
        self._on_change()

    def _read_at_start(self) -> tuple[KeyRecord, ...]:
        try:
            return self._read()
        except KeyFaults as error:
            raise SettingsError(str(error)) from None

    def _read(self) -> tuple[KeyRecord, ...]:
        """Return all records.

        Raises:
            KeyFaults: a source is malformed, both contradict each other, or there is no key: an
                emptied file must not open a gateway to everybody.
        """
        records: tuple[KeyRecord, ...] = ()
        if self._lines:
            records = _named(LINES_OPTION, lambda: parse_records(self._lines))
        if (path := self._path) is not None:
            records += _named(PATH_OPTION, lambda: read_key_file(path))
            check_records(records)
        if not records and (self._lines or self._path is not None):
            raise KeyFaults(f"{self._path or LINES_OPTION} holds no key: nobody could call")
        return records


def _named(option: str, read: Callable[[], tuple[KeyRecord, ...]]) -> tuple[KeyRecord, ...]:
    """Read one source; name its option with every fault."""
    try:
        return read()
    except KeyFaults as error:
        faults = str(error).splitlines()
        raise KeyFaults("\n".join(f"{option}: {fault}" for fault in faults)) from None
