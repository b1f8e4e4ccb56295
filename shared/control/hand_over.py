"""What a draft phase takes beyond its steps, told from phases of different lengths. Pure."""

from copy import copy


class HandOver:
    """ns: what is believed of it, at the machine's usual pace; 0 at first.

    The height of a discounted least-squares line through (number of steps, phase / time of a step),
    held to a slope of 1 by as much as PRIOR_VARIANCE steps^2 weigh: lengths seldom differ much.
    """

    MIN_RATE = 0.005
    PRIOR_VARIANCE = 0.5
    # More than this share of a phase is not believed.
    MAX_SHARE = 0.5

    def __init__(self) -> None:
        self.ns = 0.0
        self._count = 0
        self._mean_steps = 0.0
        self._mean_phase = 0.0
        self._variance = 0.0
        self._covariance = 0.0

    def copy(self) -> "HandOver":
        """Return one that begins with what this one knows."""
        return copy(self)

    def note(self, num_steps: int, phase_ns: float, step_ns: float) -> None:
        """Take a phase's steps, the closing one included, its time, and that of such a step."""
        self._count += 1
        rate = max(1.0 / self._count, self.MIN_RATE)
        phase = phase_ns / step_ns
        off_steps, off_phase = num_steps - self._mean_steps, phase - self._mean_phase
        self._mean_steps += rate * off_steps
        self._mean_phase += rate * off_phase
        self._variance = (1.0 - rate) * (self._variance + rate * off_steps * off_steps)
        self._covariance = (1.0 - rate) * (self._covariance + rate * off_steps * off_phase)
        slope = (self._covariance + self.PRIOR_VARIANCE) / (self._variance + self.PRIOR_VARIANCE)
        height = self._mean_phase - slope * self._mean_steps
        height = max(0.0, min(self.MAX_SHARE * self._mean_phase, height))
        self.ns += self.MIN_RATE * (height * step_ns - self.ns)
