"""When a running session hands over its evidence: every 64 rounds or 2 s. Pure."""

from dataclasses import dataclass

NUM_ROUNDS = 64
PERIOD_NS = 2_000_000_000


@dataclass(slots=True)
class FlushSchedule:
    """One session's schedule; at the end of the session it is due anyway."""

    last_ns: int
    num_rounds: int = 0

    def note_round(self, now_ns: int) -> bool:
        """Count a round; return whether the evidence is to be handed over now."""
        self.num_rounds += 1
        if self.num_rounds < NUM_ROUNDS and now_ns - self.last_ns < PERIOD_NS:
            return False
        self.num_rounds, self.last_ns = 0, now_ns
        return True
