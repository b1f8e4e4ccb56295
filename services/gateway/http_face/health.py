"""Whether this gateway lives, whether it can serve, and what it is."""

import asyncio
from typing import Any

from services.gateway.http_face.heading import BUILD
from services.gateway.parts import GatewayParts
from shared.control.registry import CellLease
from shared.errors import NoCell, ShortstackError, WorkerDraining


class Health:
    """Answers probes."""

    def __init__(self, parts: GatewayParts) -> None:
        """Take what tells the cells."""
        self._parts = parts

    def alive(self) -> dict[str, Any]:
        """Say that the process answers."""
        return {"status": "alive"}

    def version(self) -> dict[str, Any]:
        """Say what runs."""
        return {"version": BUILD}

    async def ready(self) -> dict[str, Any]:
        """Say that a cell answers.

        Raises:
            WorkerDraining: this gateway shuts down.
            NoCell: no cell of the model answers.
        """
        if not self._parts.tools.admission.is_open:
            raise WorkerDraining("the gateway shuts down")
        name = self._parts.limits.model_name
        cells = [
            cell
            for cell in self._parts.cells.cells
            if cell.model_name == name and not cell.is_draining
        ]
        answers = await asyncio.gather(*map(self._answers, cells))
        if not any(answers):
            raise NoCell(f"none of {len(cells)} cells that serve {name!r} answers")
        return {"status": "ready", "num_cells": sum(answers)}

    async def _answers(self, cell: CellLease) -> bool:
        try:
            await self._parts.tools.channels.get_info(cell.address)
        except ShortstackError:
            return False
        return True
