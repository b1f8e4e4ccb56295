"""Measured costs as cells of one kind of machine share them: a warm start, never the truth.

Knows nothing of what a cost is of; its field says so (`d:E:b:kv`, `f:E:b:kv`, `v:E:n:kv`, `h`).
"""

import math
from dataclasses import dataclass

# Samples that a merged cost counts at most, so that it still moves.
MAX_SAMPLES = 200


@dataclass(frozen=True, slots=True)
class CostCell:
    """One cost: mean and variance of so many samples, in us and us^2; when (ms since 1970)."""

    mean_us: float
    variance: float
    num_samples: int
    at_ms: int = 0

    @classmethod
    def from_text(cls, text: str) -> "CostCell":
        """Read what `merge_cost` writes.

        Raises:
            ValueError: it is something else.
        """
        mean, variance, num_samples, at_ms = text.split(",")
        cell = cls(float(mean), float(variance), int(num_samples), int(at_ms))
        is_sound = math.isfinite(cell.mean_us) and math.isfinite(cell.variance)
        if not is_sound or cell.mean_us < 0 or cell.variance < 0 or cell.num_samples < 1:
            raise ValueError(f"a cost is out of range: {text!r}")
        return cell
