"""How the cells are doing, asked of all of them at once.

A cell that does not answer in time is told as its lease knows it, with the reason.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.gateway.cells import CellChannels
from shared.control.registry import CellLease
from shared.errors import ShortstackError
from shared.rpc import shortstack_pb2 as pb


@dataclass(frozen=True, slots=True)
class CellReport:
    """What a cell says of itself; no info but an error where it does not answer."""

    lease: CellLease
    info: pb.GetVerifyInfoResponse | None
    error: str = ""


class CellReporter:
    """Asks every live cell."""

    def __init__(
        self, read_cells: Callable[[], Sequence[CellLease]], channels: CellChannels
    ) -> None:
        """Take what tells the live cells."""
        self._read_cells = read_cells
        self._channels = channels

    async def report(self) -> list[CellReport]:
        """Return a report for each cell that holds a lease."""
        return await asyncio.gather(*map(self._report_of, self._read_cells()))

    async def _report_of(self, lease: CellLease) -> CellReport:
        try:
            info = await self._channels.get_info(lease.address)
        except ShortstackError as error:
            return CellReport(lease, None, error.message)
        return CellReport(lease, info)
