"""How fast the machine is at present, against what was learned of it. Pure."""

from math import exp, log
from statistics import median

PACE_RATE = 0.03
# A log ratio beyond this is an outlier, and cut: 1.35-fold.
OUTLIER = 0.3
# What is not known well yet may be far off.
EARLY_OUTLIER = 0.7
# So many outliers on one side in a row are the new pace.
NUM_OUTLIERS = 5


class Pace:
    """A factor on learned times: above 1 while another process takes a core."""

    def __init__(self, factor: float = 1.0) -> None:
        """Start at a factor."""
        self._log = log(factor)
        self._outliers: list[float] = []

    @property
    def factor(self) -> float:
        """Present times over learned ones."""
        return exp(self._log)

    def note(self, log_ratio: float, *, is_mature: bool) -> float:
        """Take log(measured / predicted); return what the prediction should learn from it.

        Args:
            log_ratio: of one measurement.
            is_mature: whether the prediction is known well enough that its error is the machine's.
        """
        if not is_mature:
            return max(-EARLY_OUTLIER, min(EARLY_OUTLIER, log_ratio))
        if abs(log_ratio) <= OUTLIER:
            self._outliers.clear()
        else:
            if self._outliers and self._outliers[-1] * log_ratio < 0:
                self._outliers.clear()
            self._outliers.append(log_ratio)
        if len(self._outliers) == NUM_OUTLIERS:
            self._log += median(self._outliers)
            self._outliers.clear()
            return 0.0
        cut = max(-OUTLIER, min(OUTLIER, log_ratio))
        self._log += PACE_RATE * cut
        return (1.0 - PACE_RATE) * cut
