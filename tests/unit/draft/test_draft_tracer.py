"""A draft worker's spans: those of traced rounds, below what the verify worker named."""

import pytest

from services.draft.draft_tracer import Drafted, spans_of_drafts
from shared.ids import SessionId, TokenId
from shared.speculation.vocabulary import Decision, Draft, RoundTask, SamplingParams
from shared.telemetry import spans
from shared.telemetry.past_span import SpanKey


def task_of(traceparent: str) -> RoundTask:
    """Return a round's order."""
    decision = Decision("layerskip", 2, 4)
    places = ((), 0, (TokenId(1),), 9, 3)
    return RoundTask(
        SessionId("s"), 6, *places, decision, SamplingParams(), traceparent=traceparent
    )


def draft_of(error: str = "") -> Draft:
    """Return its answer."""
    tokens = () if error else (TokenId(3), TokenId(4))
    return Draft(
        SessionId("s"), 6, tokens, (), queue_ns=2_000_000, started_ns=50, draft_ns=20, error=error
    )


def test_a_draft_lies_below_its_round() -> None:
    task = task_of(SpanKey(7, 11).traceparent)
    (made,) = spans_of_drafts(Drafted([(task, draft_of())], 3))
    assert (made.key.trace_id, made.parent_id) == (7, 11)
    assert (made.start_ns, made.end_ns, made.error) == (50, 70, "")
    assert made.attributes == {
        spans.ROUND_INDEX: 6,
        spans.METHOD: "layerskip",
        spans.EXIT_LAYER: 2,
        spans.MAX_DRAFT_LEN: 4,
        spans.DRAFT_LEN: 2,
        spans.NUM_TASKS: 3,
        spans.DRAFT_QUEUE_MS: 2.0,
    }


def test_a_round_that_could_not_be_drafted_says_why() -> None:
    task = task_of(SpanKey(7, 11).traceparent)
    (made,) = spans_of_drafts(Drafted([(task, draft_of("no such slot"))], 1))
    assert made.error == "no such slot"


@pytest.mark.parametrize("traceparent", ["nonsense", f"00-{7:032x}-{11:016x}-00", "00-0-0-01"])
def test_what_is_no_sampled_context_makes_no_span(traceparent: str) -> None:
    assert not list(spans_of_drafts(Drafted([(task_of(traceparent), draft_of())], 1)))
