"""Samples what a cell says of itself while a load runs: pages in use, sessions."""

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from shared.control.periodic import PeriodicTask
from shared.errors import ShortstackError
from shared.rpc import shortstack_pb2 as pb
from shortstack.bench.serve.pages import CellPeaks, PoolPages
from shortstack.health import verify_info

PERIOD_S = 0.5
# A worker in the middle of a long pass answers late; the load goes on meanwhile.
INFO_TIMEOUT_S = 5.0


def sum_pages(pools: Sequence[pb.PoolState]) -> PoolPages:
    """Add pools up."""
    return PoolPages(
        sum(pool.num_pages for pool in pools),
        sum(pool.num_free for pool in pools),
        sum(pool.num_used for pool in pools),
        sum(pool.num_quarantined for pool in pools),
        sum(pool.num_cached for pool in pools),
    )


async def ask_cells(targets: Sequence[str]) -> list[pb.GetVerifyInfoResponse]:
    """Ask every verify worker.

    Raises:
        ShortstackError: one cannot be reached.
    """
    answers = (verify_info(target, INFO_TIMEOUT_S) for target in targets)
    return list(await asyncio.gather(*answers))


async def pages_of(targets: Sequence[str]) -> PoolPages:
    """Return the pages of all cells."""
    return sum_pages([info.pool for info in await ask_cells(targets)])


class CellWatch:
    """Samples cells until the context is left."""

    def __init__(self, targets: Sequence[str], period_s: float = PERIOD_S) -> None:
        self._targets = targets
        self._peaks = CellPeaks(0, 0, 0, 0)
        self._task = PeriodicTask(int(period_s * 1000), self._sample)

    async def __aenter__(self) -> Self:
        self._task.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._task.stop()

    @property
    def peaks(self) -> CellPeaks:
        """The most that was seen so far."""
        return self._peaks

    async def _sample(self) -> None:
        """Take a sample; a worker that does not answer is counted, the load will tell the rest."""
        seen = self._peaks
        try:
            infos = await ask_cells(self._targets)
        except ShortstackError:
            self._peaks = CellPeaks(
                seen.num_used, seen.num_sessions, seen.num_pages, seen.num_missed + 1
            )
            return
        pages = sum_pages([info.pool for info in infos])
        self._peaks = CellPeaks(
            max(seen.num_used, pages.num_used),
            max(seen.num_sessions, sum(info.num_sessions for info in infos)),
            pages.num_pages,
            seen.num_missed,
        )
