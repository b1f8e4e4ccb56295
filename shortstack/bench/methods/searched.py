"""What the search for skip sets took while the turns were measured. Plain values."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Searched:
    """Looks at skip sets, and their time.

    steps_ns: of the steps of sessions for which sets are searched, those looks left out; it is what
        the search may take its share of.
    """

    num_looks: int = 0
    looks_ns: int = 0
    steps_ns: int = 0

    @property
    def share(self) -> float | None:
        """Share of the time of these steps that the looks took; None: nothing was searched for."""
        return self.looks_ns / (self.looks_ns + self.steps_ns) if self.steps_ns else None

    def to_json(self) -> dict[str, Any]:
        """Return the figures."""
        share = self.share
        return {"looks": self.num_looks, "share": None if share is None else round(share, 4)}
