"""Router: which cell a request goes to.

Two of the live cells are drawn and the less loaded one is taken: nearly as good as the least loaded
of all, and gateways that look at the same old numbers do not all run to the same cell (Mitzenmacher
2001, "The power of two choices"). Load is what the cell last said of itself, or this gateway's own
count where that is newer. Knows neither channels nor requests.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from time import monotonic

from services.gateway.breaker import Breaker
from shared.control.registry import CellLease
from shared.errors import NoCell

BootKey = tuple[str, int]


class Router:
    """Picks cells, and keeps what this gateway saw of each boot of them."""

    def __init__(
        self,
        read_cells: Callable[[], Sequence[CellLease]],
        *,
        clock: Callable[[], float] = monotonic,
        generator: random.Random | None = None,
    ) -> None:
        """Take what tells the cells that are known now."""
        self._read_cells = read_cells
        self._clock = clock
        self._generator = generator or random.Random()
        self._breakers: dict[BootKey, Breaker] = {}
        self._num_running: Counter[BootKey] = Counter()

    def pick(self, model_name: str, excluded: Collection[str] = ()) -> CellLease:
        """Return the cell for a request.

        Args:
            model_name: the model to be run.
            excluded: cells that this request has been on.

        Raises:
            NoCell: none is left; with the time to wait where it is known.
        """
        cells = self._read_cells()
        self._forget_all_but(cells)
        serving = [cell for cell in cells if cell.model_name == model_name and not cell.is_draining]
        if not serving:
            raise NoCell(f"no cell serves {model_name!r}", retry_delay_ms=1000)
        left = [cell for cell in serving if cell.cell_id not in excluded]
        if not left:
            raise NoCell(f"no other cell serves {model_name!r}", retry_delay_ms=1000)
        waits = {cell.cell_id: self.breaker_of(cell).wait_s for cell in left}
        ready = [cell for cell in left if waits[cell.cell_id] == 0]
        if not ready:
            raise NoCell(
                f"every cell of {model_name!r} keeps failing",
                retry_delay_ms=int(min(waits.values()) * 1000) + 1,
            )
        drawn = self._generator.sample(ready, min(2, len(ready)))
        return min(drawn, key=self._load_of)

    def breaker_of(self, cell: CellLease) -> Breaker:
        """Return the breaker of this boot of a cell; a new boot starts with a clean record."""
        return self._breakers.setdefault(_key_of(cell), Breaker(self._clock))

    def begin(self, cell: CellLease) -> None:
        """Count a session that goes to a cell."""
        self._num_running[_key_of(cell)] += 1
        self.breaker_of(cell).begin()

    def end(self, cell: CellLease) -> None:
        """Count it off."""
        key = _key_of(cell)
        self._num_running[key] -= 1
        if not self._num_running[key]:
            del self._num_running[key]

    def _load_of(self, cell: CellLease) -> tuple[float, bool, int]:
        """Return what is compared: sessions by room, then lack of a drafter, then lack of pages."""
        num_sessions = max(cell.num_sessions, self._num_running[_key_of(cell)])
        share = num_sessions / max(1, cell.max_sessions)
        return share, cell.num_draft_workers == 0, -cell.num_free_pages

    def _forget_all_but(self, cells: Sequence[CellLease]) -> None:
        live = {_key_of(cell) for cell in cells}
        for key in [key for key in self._breakers if key not in live]:
            del self._breakers[key]


def _key_of(cell: CellLease) -> BootKey:
    return cell.cell_id, cell.boot_id
