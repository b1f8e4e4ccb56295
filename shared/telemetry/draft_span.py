"""The `draft` span of a round, made by whoever drafts: a draft worker, or a fused cell."""

from shared.speculation.vocabulary import Decision
from shared.telemetry import spans
from shared.telemetry.past_span import PastSpan, SpanKey, new_span_id
from shared.telemetry.spans import Attributes


def draft_span(
    in_round: SpanKey,
    round_index: int,
    decision: Decision,
    draft_len: int,
    start_ns: int,
    draft_ns: int,
    more: Attributes | None = None,
    error: str = "",
) -> PastSpan:
    """Make the span.

    Args:
        in_round: the round's own span.
        round_index: of the round.
        decision: as the round was ordered.
        draft_len: draft tokens made.
        start_ns: when the first step began.
        draft_ns: time of all steps.
        more: what only some who draft can tell.
        error: why there is no draft.
    """
    attributes = {
        spans.ROUND_INDEX: round_index,
        spans.METHOD: decision.method,
        spans.EXIT_LAYER: decision.exit_layer,
        spans.MAX_DRAFT_LEN: decision.max_draft_len,
        spans.DRAFT_LEN: draft_len,
        **(more or {}),
    }
    key = SpanKey(in_round.trace_id, new_span_id())
    end_ns = start_ns + draft_ns
    return PastSpan(
        spans.DRAFT_SPAN, key, in_round.span_id, start_ns, end_ns, attributes, error=error
    )
