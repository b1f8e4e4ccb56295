"""Memory of abandoned rounds: set aside until the draft worker that may write to it cannot."""

from dataclasses import dataclass

from shared.speculation.vocabulary import Extent

RoundKey = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """Memory of an abandoned round that its draft worker may still write to."""

    extents: tuple[Extent, ...]
    exit_slot: int
    worker_id: str


class Quarantine:
    """What is set aside, by round."""

    def __init__(self) -> None:
        self._held: dict[RoundKey, Quarantined] = {}

    def put(self, key: RoundKey, held: Quarantined) -> None:
        """Set a round's memory aside."""
        self._held[key] = held

    def take(self, key: RoundKey) -> Quarantined | None:
        """Return what was set aside for a round, which it is no longer; None: nothing was."""
        return self._held.pop(key, None)

    def keys_of(self, worker_id: str) -> list[RoundKey]:
        """Return the rounds that a draft worker may still write for."""
        return [key for key, held in self._held.items() if held.worker_id == worker_id]

    @property
    def worker_ids(self) -> frozenset[str]:
        """Draft workers that may still write to memory set aside."""
        return frozenset(held.worker_id for held in self._held.values())

    @property
    def exit_slots(self) -> list[int]:
        """Exit-state slots set aside."""
        return [held.exit_slot for held in self._held.values()]
