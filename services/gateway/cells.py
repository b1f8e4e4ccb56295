"""Cells as the gateway finds and reaches them: fixed targets, channels.

With a registry, `shared.control.registry.CellDirectory` tells the cells; without one, `StaticCells`
asks each target what it is. Knows nothing of requests.
"""

import asyncio
import logging
from typing import Protocol

import grpc

from shared.access.tls_files import TlsFaults, TlsFiles
from shared.control.periodic import PeriodicTask
from shared.control.registry import CellLease
from shared.errors import ShortstackError, WorkerLost
from shared.ids import BootId, CellId, WorkerId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, translated_errors
from shared.rpc.shortstack_pb2_grpc import VerifyServiceStub

log = logging.getLogger(__name__)

INFO_TIMEOUT_S = 1.0


class CellSource(Protocol):
    """What tells the live cells; never waits."""

    @property
    def cells(self) -> tuple[CellLease, ...]:
        """The last known cells."""
        ...

    async def start(self) -> None:
        """Look once, and go on in the background."""
        ...

    async def stop(self) -> None:
        """End the background looking."""
        ...


class CellChannels:
    """One channel per address, opened when first needed, and anew when the TLS files change."""

    def __init__(self, tls: TlsFiles | None = None, grace_s: float = 0.0) -> None:
        """Start without channels.

        grace_s: how long calls may go on over a channel that another has replaced.
        """
        self._tls = tls
        self._grace_s = grace_s
        self._signature = tls.signature() if tls else ()
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._stubs: dict[str, VerifyServiceStub] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def stub(self, address: str) -> VerifyServiceStub:
        """Return the verify worker behind an address.

        Raises:
            WorkerLost: the TLS files are not sound now.
        """
        self._forget_outdated()
        if address not in self._stubs:
            self._channels[address] = open_channel(address, self._tls)
            self._stubs[address] = VerifyServiceStub(self._channels[address])
        return self._stubs[address]

    def _forget_outdated(self) -> None:
        """Replace channels whose certificate was renewed; calls over them go on."""
        if self._tls is None or (signature := self._tls.signature()) == self._signature:
            return
        self._signature = signature
        try:
            self._tls.load()
        except TlsFaults as error:
            # Half written, perhaps: what is open still works, and the next change is looked at.
            log.error("certificate stays as it was", extra={"faults": str(error).splitlines()})
            return
        for channel in self._channels.values():
            task = asyncio.create_task(channel.close(self._grace_s))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._channels.clear()
        self._stubs.clear()

    async def get_info(self, address: str) -> pb.GetVerifyInfoResponse:
        """Ask a verify worker what it is.

        Raises:
            ShortstackError: it cannot be reached, or does not answer in time.
        """
        with translated_errors():
            info: pb.GetVerifyInfoResponse = await self.stub(address).GetVerifyInfo(
                pb.GetVerifyInfoRequest(), timeout=INFO_TIMEOUT_S
            )
        return info

    async def close(self) -> None:
        """Close all channels, and with them their calls."""
        channels = list(self._channels.values())
        self._channels.clear()
        self._stubs.clear()
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await asyncio.gather(*(channel.close() for channel in channels))


class StaticCells:
    """The cells behind a fixed list of targets.

    A target that cannot be reached is no cell; one that is merely slow to answer stays.
    """

    def __init__(self, targets: tuple[str, ...], channels: CellChannels, poll_ms: int) -> None:
        """Take the targets; nothing is asked yet."""
        self._targets = targets
        self._channels = channels
        self._known: dict[str, CellLease] = {}
        self._task = PeriodicTask(poll_ms, self.refresh)

    @property
    def cells(self) -> tuple[CellLease, ...]:
        """The targets that answered."""
        return tuple(self._known[target] for target in self._targets if target in self._known)

    async def start(self) -> None:
        """Ask every target once, and go on in the background."""
        await self.refresh()
        self._task.start()

    async def stop(self) -> None:
        """End the asking."""
        await self._task.stop()

    async def refresh(self) -> None:
        """Ask every target once, all at the same time."""
        await asyncio.gather(*(self._ask(target) for target in self._targets))

    async def _ask(self, target: str) -> None:
        try:
            info = await self._channels.get_info(target)
        except WorkerLost as error:
            if self._known.pop(target, None):
                log.warning("cell lost", extra={"address": target, "error": error.message})
        except ShortstackError as error:
            log.warning("cell is slow", extra={"address": target, "error": error.message})
        else:
            if target not in self._known:
                log.info("cell found", extra={"address": target, "cell_id": info.cell_id})
            self._known[target] = lease_of(target, info)


def lease_of(address: str, info: pb.GetVerifyInfoResponse) -> CellLease:
    """Return what a verify worker says of itself in the form of the registry."""
    return CellLease(
        cell_id=CellId(info.cell_id),
        worker_id=WorkerId(info.worker_id),
        boot_id=BootId(info.boot_id),
        address=address,
        model_name=info.model.model_name,
        model_fingerprint=info.model.model_fingerprint,
        num_sessions=info.num_sessions,
        max_sessions=info.max_sessions,
        num_free_pages=info.pool.num_free,
        num_draft_workers=info.num_draft_workers,
        is_draining=info.is_draining,
    )
