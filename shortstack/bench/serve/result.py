"""What became of one request, as its client saw it. Pure.

Times are nanoseconds of one clock, taken where the client reads the messages; queue_ns is the
server's own and None where the sender does not tell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from shared.speculation.vocabulary import SpeculationSummary
from shortstack.bench.serve.workload import WorkItem


class Outcome(StrEnum):
    """How a request ended. Only `failed` is lost: the client got neither tokens nor advice."""

    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class ServerSide:
    """What the server tells of a request when it ends."""

    queue_ns: int
    speculation: SpeculationSummary
    prompt_len: int = 0
    num_cached_tokens: int = 0
    num_preemptions: int = 0


@dataclass(frozen=True, slots=True)
class Result:
    """One request. Message i brought lens[i] tokens at times_ns[i]; num_refusals were retried.

    sent_ns is when the request should have been sent: a client that is late does not hide it.
    """

    item: WorkItem
    sent_ns: int
    ended_ns: int
    outcome: Outcome
    times_ns: tuple[int, ...] = ()
    lens: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    error: str = ""
    retry_delay_ms: int = 0
    num_refusals: int = 0
    server: ServerSide | None = None

    @property
    def ttft_ns(self) -> int | None:
        """Time to the first token; None without any."""
        return self.times_ns[0] - self.sent_ns if self.times_ns else None

    def gaps_ns(self, start_ns: float = 0, end_ns: float = float("inf")) -> list[tuple[int, int]]:
        """Return (time since the message before, tokens) of messages in (start, end].

        The first message has none before it, and a gap that began before the start is left out.
        """
        pairs = zip(pairwise(self.times_ns), self.lens[1:], strict=True)
        return [
            (now - before, num_tokens)
            for (before, now), num_tokens in pairs
            if start_ns <= before and now <= end_ns
        ]

    def num_tokens_in(self, start_ns: int, end_ns: int) -> int:
        """Count the tokens that arrived in (start, end]."""
        stamped = zip(self.times_ns, self.lens, strict=True)
        return sum(num for time_ns, num in stamped if start_ns < time_ns <= end_ns)


def with_outcome(results: Sequence[Result], outcome: Outcome) -> list[Result]:
    """Return the results that ended so."""
    return [result for result in results if result.outcome is outcome]
