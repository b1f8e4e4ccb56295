"""The points in time of one step of the engine."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Points in time of a step, ns.

    wait_from_ns: from here to collected_ns the engine waited for drafts; 0 if it did not.
    read_ns: time of the pass that went into reading exits as evidence.
    decide_ns: time that deciding took.
    """

    started_ns: int
    wait_from_ns: int
    collected_ns: int
    pass_end_ns: int
    read_ns: int = 0
    decide_ns: int = 0

    @property
    def wait_ns(self) -> int:
        """Time spent waiting for drafts."""
        return self.collected_ns - self.wait_from_ns if self.wait_from_ns else 0

    @property
    def pass_ns(self) -> int:
        """Time of the verify pass."""
        return self.pass_end_ns - self.collected_ns
