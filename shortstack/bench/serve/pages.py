"""Pages of the cells under a load. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CellPeaks:
    """Most pages and sessions at a time, over all cells, as far as the samples show."""

    num_used: int
    num_sessions: int
    num_pages: int
    num_missed: int


@dataclass(frozen=True, slots=True)
class PoolPages:
    """Pages of all cells by state."""

    num_pages: int
    num_free: int
    num_used: int
    num_quarantined: int
    num_cached: int

    @property
    def is_idle(self) -> bool:
        """Whether nothing but the prefix cache holds pages."""
        return self.num_used == self.num_quarantined == 0
