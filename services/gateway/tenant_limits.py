"""What one tenant may take of a gateway; 0 of a bound is none."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """One tenant's bounds."""

    max_running: int = 0
    tokens_per_s: float = 0.0
    burst_tokens: float = 0.0
