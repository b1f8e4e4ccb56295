"""How a cell is doing, as dashboards read it from Redis."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CellLoad:
    """How a cell is doing, for dashboards."""

    num_sessions: int
    num_waiting: int
    mode: str
    tokens_per_s: float
    is_degraded: bool

    def to_fields(self) -> dict[str, str | int]:
        """Return the fields of a Redis hash."""
        return {
            "B": self.num_sessions,
            "queue": self.num_waiting,
            "mode": self.mode,
            "tok_s": f"{self.tokens_per_s:.1f}",
            "degraded": int(self.is_degraded),
        }
