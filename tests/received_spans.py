"""What a receiver of spans has got: looked up by name, compared with the table of spans."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

from shared.telemetry.past_span import new_span_id, new_trace_id
from shared.telemetry.spans import SPANS, SpanSpec
from shortstack.traces.receiver import ReceivedSpan

# Two clocks are compared: what one process says began after another's may begin so much before.
CLOCK_NS = 50_000


@dataclass
class ReceivedSpans:
    """All spans so far."""

    spans: list[ReceivedSpan] = field(default_factory=list)

    def of(self, trace_id: str, name: str = "") -> list[ReceivedSpan]:
        """Return a trace's spans by time, all or those of one name."""
        found = [each for each in self.spans if each.trace_id == trace_id]
        return sorted(
            (each for each in found if name in ("", each.name)), key=lambda each: each.start_ns
        )

    def names(self, trace_id: str) -> dict[str, int]:
        """Return how many spans of each name a trace has."""
        counts: dict[str, int] = defaultdict(int)
        for span in self.of(trace_id):
            counts[span.name] += 1
        return dict(counts)

    def children(self, parent: ReceivedSpan) -> list[ReceivedSpan]:
        """Return the spans below another, by time."""
        return [each for each in self.of(parent.trace_id) if each.parent_id == parent.span_id]


def client_span(*, is_sampled: bool = True) -> NonRecordingSpan:
    """Return a span as an instrumented client would have one, to be made the current one."""
    flags = TraceFlags(TraceFlags.SAMPLED if is_sampled else TraceFlags.DEFAULT)
    return NonRecordingSpan(SpanContext(new_trace_id(), new_span_id(), False, flags))


def trace_id_of(span: NonRecordingSpan) -> str:
    """Return the trace of a span, as a receiver names it."""
    return trace.format_trace_id(span.get_span_context().trace_id)


def spec_of(span: ReceivedSpan, model_name: str) -> SpanSpec:
    """Return the entry of the table that a span belongs to."""
    return next(spec for spec in SPANS if spec.name.format(model=model_name) == span.name)


def check_with_table(spans: Iterable[ReceivedSpan], model_name: str) -> dict[str, set[str]]:
    """Check each span with its entry; return the attributes seen, by name of the entry."""
    seen: dict[str, set[str]] = defaultdict(set)
    for span in spans:
        spec = spec_of(span, model_name)
        assert span.kind == spec.kind.name
        assert span.service in spec.services
        types = {each.name: each.type for each in spec.attributes}
        assert span.attributes.keys() <= types.keys(), span
        for name, value in span.attributes.items():
            assert type(value) is types[name], (span.name, name, value)
        always = {each.name for each in spec.attributes if each.is_always}
        assert always <= span.attributes.keys(), (span, always - span.attributes.keys())
        seen[spec.name] |= span.attributes.keys()
    return seen


def is_within(inner: ReceivedSpan, outer: ReceivedSpan) -> bool:
    """Say whether a span lies in the time of another."""
    begins = inner.start_ns >= outer.start_ns - CLOCK_NS
    return begins and inner.end_ns <= outer.end_ns + CLOCK_NS
