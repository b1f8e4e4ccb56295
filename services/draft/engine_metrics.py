"""What the draft engine's thread counts for metrics: plain numbers, no lock."""

from shared.telemetry.distribution import Distribution
from shared.telemetry.signals.table import bounds_of

NS_PER_S = 1e9


class EngineMetrics:
    """Owned by the engine's thread; read by any."""

    def __init__(self) -> None:
        """Begin with zeros."""
        self.num_refused = 0
        self.num_repeated = 0
        self.batch_s = Distribution(bounds_of("shortstack_draft_batch_seconds"))
        self.queue_s = Distribution(bounds_of("shortstack_draft_queue_seconds"))
        self.batch_rounds = Distribution(bounds_of("shortstack_draft_batch_rounds"))

    def note_batch(self, num_rounds: int, queue_ns: int, draft_ns: int) -> None:
        """Take the rounds of one message."""
        self.batch_rounds.observe(num_rounds)
        self.queue_s.observe(queue_ns / NS_PER_S)
        self.batch_s.observe(draft_ns / NS_PER_S)
