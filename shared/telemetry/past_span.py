"""A span that is over, as a value: what is known of it from timings that were taken anyway.

Pure. Times are of `perf_counter_ns`, until `Tracing.export` puts them on the epoch.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.telemetry.spans import SpanSpec, Value

NO_PARENT = 0


@dataclass(frozen=True, slots=True)
class SpanKey:
    """Names a span: 128 and 64 bits, never 0."""

    trace_id: int
    span_id: int

    @property
    def traceparent(self) -> str:
        """The key as a sampled W3C trace context."""
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-01"


@dataclass(frozen=True, slots=True)
class PastSpan:
    """One span of a sampled trace; error: what went wrong, if anything."""

    spec: SpanSpec
    key: SpanKey
    parent_id: int
    start_ns: int
    end_ns: int
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[SpanKey, ...] = ()
    error: str = ""


def new_span_id() -> int:
    """Return an id that no other span of its trace has."""
    return random.getrandbits(64) or 1


def new_trace_id() -> int:
    """Return an id that no other trace has."""
    return random.getrandbits(128) or 1
