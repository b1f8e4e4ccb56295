"""What the cells run: the model behind each, asked once per boot and kept.

Looked up in the background, so that a request never waits for it. Knows nothing of requests.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace

from services.gateway.cells import CellChannels
from services.gateway.tokenizer import ModelLimits
from shared.control.periodic import PeriodicTask
from shared.control.registry import CellLease
from shared.errors import ShortstackError
from shared.rpc import shortstack_pb2 as pb

log = logging.getLogger(__name__)


class ModelInfos:
    """The models of the live cells."""

    def __init__(
        self, read_cells: Callable[[], Sequence[CellLease]], channels: CellChannels, poll_ms: int
    ) -> None:
        """Take what tells the live cells; nothing is asked yet."""
        self._read_cells = read_cells
        self._channels = channels
        self._by_boot: dict[tuple[str, int], pb.GetVerifyInfoResponse] = {}
        self._task = PeriodicTask(poll_ms, self.refresh)
        # Counts what was learned or forgotten: what was made of it before is out of date then.
        self.version = 0

    async def start(self) -> None:
        """Ask the cells that are known now, and new ones in the background."""
        await self.refresh()
        self._task.start()

    async def stop(self) -> None:
        """End the asking."""
        await self._task.stop()

    async def refresh(self) -> None:
        """Ask the cells not asked yet; forget those that are gone."""
        cells = {(cell.cell_id, cell.boot_id): cell for cell in self._read_cells()}
        if gone := self._by_boot.keys() - cells.keys():
            self._by_boot = {key: i for key, i in self._by_boot.items() if key not in gone}
            self.version += 1
        new = [cell for key, cell in cells.items() if key not in self._by_boot]
        await asyncio.gather(*(self._ask(cell) for cell in new))

    def models(self) -> list[pb.ModelInfo]:
        """Return each model once, by name."""
        by_name = {info.model.model_name: info.model for info in self._by_boot.values()}
        return [by_name[name] for name in sorted(by_name)]

    def of_model(self, model_name: str) -> list[pb.GetVerifyInfoResponse]:
        """Return what each cell of a model said of itself at its boot."""
        return [each for each in self._by_boot.values() if each.model.model_name == model_name]

    def fingerprint_of(self, cell_id: str) -> str:
        """Return the fingerprint of a cell's model; empty where it is not known."""
        for (known_id, _), info in self._by_boot.items():
            if known_id == cell_id:
                return info.model.model_fingerprint
        return ""

    def narrow(self, limits: ModelLimits, model_name: str) -> ModelLimits:
        """Return the limits that hold on every cell of a model, and its end-of-sequence ids."""
        infos = [info.model for info in self.of_model(model_name)]
        return replace(
            limits,
            vocab_size=min([limits.vocab_size, *(info.vocab_size for info in infos)]),
            max_context_len=min(
                [limits.max_context_len, *(info.max_context_len for info in infos)]
            ),
            eos_token_ids=limits.eos_token_ids.union(*(info.eos_token_ids for info in infos)),
        )

    async def _ask(self, cell: CellLease) -> None:
        try:
            info = await self._channels.get_info(cell.address)
        except ShortstackError as error:
            log.debug("no model info", extra={"cell_id": cell.cell_id, "error": error.message})
            return
        self._by_boot[cell.cell_id, cell.boot_id] = info
        self.version += 1
