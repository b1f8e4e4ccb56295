"""Contexts between processes: read if they can be, passed on as they are."""

import time

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import use_span

from shared.telemetry.rpc_span import context_with
from shared.telemetry.trace_context import (
    context_of,
    epoch_offset_ns,
    metadata_of,
    span_context_of,
    trace_fields,
)
from tests.received_spans import client_span

TRACEPARENT = f"00-{7:032x}-{11:016x}-01"


def test_a_context_survives_metadata_with_its_state() -> None:
    carrier = (("user-agent", "x"), ("Traceparent", TRACEPARENT), ("tracestate", "a=1,b=2"))
    context = context_of(carrier)
    assert span_context_of(context).span_id == 11
    assert dict(metadata_of(context)) == {"traceparent": TRACEPARENT, "tracestate": "a=1,b=2"}


@pytest.mark.parametrize(
    "carrier",
    [
        None,
        (),
        (("traceparent", ""),),
        (("traceparent", "nonsense"),),
        (("traceparent", f"00-{0:032x}-{11:016x}-01"),),
        (("traceparent", TRACEPARENT), ("traceparent", TRACEPARENT)),
        (("traceparent", TRACEPARENT.encode()),),
        (("traceparent", TRACEPARENT * 50),),
    ],
)
def test_what_cannot_be_read_is_no_context(
    carrier: tuple[tuple[str, str | bytes], ...] | None,
) -> None:
    context = context_of(carrier)
    assert not span_context_of(context).is_valid
    assert metadata_of(context) == ()


def test_a_client_passes_its_current_span_on_if_it_has_one() -> None:
    assert metadata_of() == ()
    span = client_span(is_sampled=False)
    with use_span(span):
        ((name, value),) = metadata_of()
    assert name == "traceparent"
    assert value.endswith("-00")
    assert metadata_of() == ()


def test_a_log_line_names_the_span_or_nothing() -> None:
    span = client_span()
    fields = trace_fields(span_context_of(context_with(span)))
    assert len(fields["trace_id"]) == 32 and len(fields["span_id"]) == 16
    nothing = trace_fields(span_context_of(Context()))
    assert nothing == {"trace_id": "", "span_id": ""}


def test_the_offset_puts_one_clock_on_the_other() -> None:
    before = time.time_ns()
    now = time.perf_counter_ns() + epoch_offset_ns()
    # Both clocks are the machine's; what is allowed for is the time of a look.
    assert abs(now - before) < 1_000_000_000
