"""What requests come to, summed up for metrics. Written by the event loop's thread alone."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from shared.errors import ShortstackError
from shared.telemetry.distribution import Distribution
from shared.telemetry.signals.table import bounds_of

CHAT, TEXT_COMPLETION = "chat", "text_completion"
OK = "OK"
NO_REASON = "none"
# Finish reasons of requests that somebody ended before their end.
CUT_OFF = frozenset({"cancelled", "slow_reader"})


@dataclass(frozen=True, slots=True)
class RequestEnd:
    """A request when it is over. Times are since its arrival; None: it did not come to that.

    operation: as the conventions for generative AI name it.
    error_type: class of the error that ended it; empty: none did.
    has_begun: a cell has run it.
    trace_id: of its trace, if that is kept.
    """

    operation: str
    status: str
    finish_reason: str
    error_type: str
    has_begun: bool
    queue_s: float | None
    first_token_s: float | None
    duration_s: float
    prompt_len: int
    num_cached: int
    num_emitted: int
    num_drafted: int
    num_accepted: int
    num_replays: int
    trace_id: str | None = None

    @property
    def outcome(self) -> str:
        """How it ended, in a word."""
        if self.finish_reason in CUT_OFF:
            return "cancelled"
        return "finished" if self.status == OK else "failed"


class RequestMetrics:
    """Sums over all requests of this gateway."""

    def __init__(self) -> None:
        """Begin with zeros."""
        self.requests: Counter[tuple[str, ...]] = Counter()
        self.refused: Counter[str] = Counter()
        self.replays: Counter[str] = Counter(dict.fromkeys(("finished", "failed", "cancelled"), 0))
        self.tokens: Counter[str] = Counter()
        self.queue_s = Distribution(bounds_of("shortstack_gateway_queue_seconds"))
        # By operation, the first by the error's class too.
        self.duration_s: dict[tuple[str, ...], Distribution] = {}
        self.first_token_s = _by_operation("gen_ai_server_time_to_first_token_seconds")
        self.per_token_s = _by_operation("gen_ai_server_time_per_output_token_seconds")

    @contextmanager
    def refusals_counted(self) -> Iterator[None]:
        """Count a request that is refused before there is anything to log of it."""
        try:
            yield
        except ShortstackError as error:
            self.requests[error.status, NO_REASON] += 1
            self.refused[type(error).__name__] += 1
            raise

    def note_end(self, end: RequestEnd) -> None:
        """Take a request that is over."""
        trace_id = end.trace_id
        self.requests[end.status, end.finish_reason or NO_REASON] += 1
        if end.error_type and not end.has_begun:
            self.refused[end.error_type] += 1
        self.replays[end.outcome] += end.num_replays
        self._note_tokens(end)
        if end.queue_s is not None:
            self.queue_s.observe(end.queue_s, trace_id=trace_id)
        key = (end.operation, end.error_type)
        duration_s = self.duration_s.get(key)
        if duration_s is None:
            duration_s = Distribution(bounds_of("gen_ai_server_request_duration_seconds"))
            self.duration_s[key] = duration_s
        duration_s.observe(end.duration_s, trace_id=trace_id)
        if end.first_token_s is None:
            return
        self.first_token_s[end.operation].observe(end.first_token_s, trace_id=trace_id)
        if end.num_emitted > 1:
            per_token_s = (end.duration_s - end.first_token_s) / (end.num_emitted - 1)
            self.per_token_s[end.operation].observe(per_token_s, trace_id=trace_id)

    def _note_tokens(self, end: RequestEnd) -> None:
        self.tokens["prompt"] += end.prompt_len
        self.tokens["cached"] += end.num_cached
        self.tokens["emitted"] += end.num_emitted
        self.tokens["drafted"] += end.num_drafted
        self.tokens["accepted"] += end.num_accepted


def _by_operation(name: str) -> dict[str, Distribution]:
    return {operation: Distribution(bounds_of(name)) for operation in (CHAT, TEXT_COMPLETION)}
