"""Gathers the spans of traces, which come from several processes and in no order.

Nobody says when a trace is whole, so it counts as that once it has its root and nothing has come
for a while.
"""

from collections.abc import Container
from dataclasses import dataclass, field

from shortstack.traces.receiver import ReceivedSpan

# Processes send what they have about once a second.
QUIET_S = 2.5
# Traces without a root: passes, and what was lost of others. The oldest are forgotten.
MAX_TRACES = 512


@dataclass(slots=True)
class Trace:
    """The spans of one trace that have come so far."""

    trace_id: str
    spans: list[ReceivedSpan] = field(default_factory=list)
    last_s: float = 0.0

    @property
    def roots(self) -> list[ReceivedSpan]:
        """Spans whose parents are not among the spans: of a whole trace one."""
        ids = {span.span_id for span in self.spans}
        return [span for span in self.spans if span.parent_id not in ids]

    def children(self, parent: ReceivedSpan) -> list[ReceivedSpan]:
        """Return the spans below another, by time."""
        found = (span for span in self.spans if span.parent_id == parent.span_id)
        return sorted(found, key=lambda span: span.start_ns)


class Gathering:
    """Traces that are not whole yet."""

    def __init__(self, root_names: Container[str]) -> None:
        """Wait for roots of these names; traces with others are not told of."""
        self._root_names = root_names
        self._traces: dict[str, Trace] = {}

    def take(self, spans: list[ReceivedSpan], now_s: float) -> None:
        """Take a batch."""
        for span in spans:
            trace = self._traces.setdefault(span.trace_id, Trace(span.trace_id))
            trace.spans.append(span)
            trace.last_s = now_s
        while len(self._traces) > MAX_TRACES:
            del self._traces[next(iter(self._traces))]

    def pop_whole(self, now_s: float) -> list[Trace]:
        """Return and forget the traces that are whole by now."""
        whole = [
            trace
            for trace in self._traces.values()
            if now_s - trace.last_s >= QUIET_S
            and any(span.name in self._root_names for span in trace.roots)
        ]
        for trace in whole:
            del self._traces[trace.trace_id]
        return whole
