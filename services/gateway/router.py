"""Router: which cell a request goes to.

Two of the live cells are drawn and the less loaded one is taken: nearly as good as the least loaded
of all, and gateways that look at the same old numbers do not all run to the same cell (Mitzenmacher
2001, "The power of two choices"). Load is what the cell last said of itself, or this gateway's own
count where that is newer.

The cell that has seen most of the prompt before is always one of the two, and is taken although it
is a little more loaded: what it has kept need not be computed again. Once it is much more loaded,
the other one gets the prompt, and is known to have it from then on. Knows neither channels nor
requests.
"""

import random
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from time import monotonic

from services.gateway.prefix_index import PrefixIndex
from shared.control.breaker import Breaker
from shared.control.registry import CellLease
from shared.errors import NoCell

BootKey = tuple[str, int]
# Shares of a cell's sessions by which it may be more loaded and still be taken for its prefix.
MAX_LOAD_GAP = 0.2
# A cell that failed so often in a row gets no requests for so long.
MAX_FAILURES = 5
OPEN_S = 30.0


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
        self._prefixes = PrefixIndex()

    def pick(
        self,
        model_name: str,
        excluded: Collection[BootKey] = (),
        prefix_hashes: Sequence[int] = (),
    ) -> CellLease:
        """Return the cell for a request.

        Args:
            model_name: the model to be run.
            excluded: boots of cells that this request has left; a restart makes another.
            prefix_hashes: of its prompt, as `prefix_index.prefix_hashes` makes them.

        Raises:
            NoCell: none is left; with the time to wait where it is known.
        """
        cells = self._read_cells()
        self._forget_all_but(cells)
        serving = [cell for cell in cells if cell.model_name == model_name and not cell.is_draining]
        if not serving:
            raise NoCell(f"no cell serves {model_name!r}", retry_delay_ms=1000)
        left = [cell for cell in serving if boot_key(cell) not in excluded]
        if not left:
            raise NoCell(f"no other cell serves {model_name!r}", retry_delay_ms=1000)
        waits = {cell.cell_id: self.breaker_of(cell).wait_s for cell in left}
        ready = [cell for cell in left if waits[cell.cell_id] == 0]
        if not ready:
            raise NoCell(
                f"every cell of {model_name!r} keeps failing",
                retry_delay_ms=int(min(waits.values()) * 1000) + 1,
            )
        return self._best_of_two(ready, prefix_hashes)

    def breaker_of(self, cell: CellLease) -> Breaker:
        """Return the breaker of this boot of a cell; a new boot starts with a clean record."""
        key = boot_key(cell)
        if key not in self._breakers:
            self._breakers[key] = Breaker(self._clock, MAX_FAILURES, OPEN_S)
        return self._breakers[key]

    def is_failing(self, cell: CellLease) -> bool:
        """Whether a cell gets no requests for a while; may be asked from any thread."""
        breaker = self._breakers.get(boot_key(cell))
        return breaker is not None and breaker.is_open

    def begin(self, cell: CellLease) -> None:
        """Count a session that goes to a cell."""
        self._num_running[boot_key(cell)] += 1
        self.breaker_of(cell).begin()

    def end(self, cell: CellLease) -> None:
        """Count it off."""
        key = boot_key(cell)
        self._num_running[key] -= 1
        if not self._num_running[key]:
            del self._num_running[key]

    def note_prefix(self, cell: CellLease, prefix_hashes: Sequence[int]) -> None:
        """Note that a cell runs a prompt."""
        self._prefixes.note(boot_key(cell), prefix_hashes)

    def _best_of_two(self, ready: Sequence[CellLease], prefix_hashes: Sequence[int]) -> CellLease:
        drawn = self._generator.sample(ready, min(2, len(ready)))
        num_known = {
            cell.cell_id: self._prefixes.num_known(boot_key(cell), prefix_hashes) for cell in ready
        }
        knowing = max(ready, key=lambda cell: num_known[cell.cell_id])
        most = num_known[knowing.cell_id]
        if most and all(num_known[cell.cell_id] < most for cell in drawn):
            drawn = [knowing, drawn[0]]
        calm = min(drawn, key=self._load_of)
        known = max(drawn, key=lambda cell: num_known[cell.cell_id])
        gap = self._share_of(known) - self._share_of(calm)
        knows_more = num_known[known.cell_id] > num_known[calm.cell_id]
        return known if knows_more and gap <= MAX_LOAD_GAP and self._has_room(known) else calm

    def _load_of(self, cell: CellLease) -> tuple[float, bool, int]:
        """Return what is compared: sessions by room, then lack of a drafter, then lack of pages."""
        return self._share_of(cell), cell.num_draft_workers == 0, -cell.num_free_pages

    def _share_of(self, cell: CellLease) -> float:
        """Return sessions by room for them."""
        num_sessions = max(cell.num_sessions, self._num_running[boot_key(cell)])
        return num_sessions / max(1, cell.max_sessions)

    def _has_room(self, cell: CellLease) -> bool:
        return self._share_of(cell) < 1

    def _forget_all_but(self, cells: Sequence[CellLease]) -> None:
        live = {boot_key(cell) for cell in cells}
        for key in [key for key in self._breakers if key not in live]:
            del self._breakers[key]
        self._prefixes.keep_only(live)


def boot_key(cell: CellLease) -> BootKey:
    """Return what tells a cell from the same one before its restart."""
    return cell.cell_id, cell.boot_id
