"""The draft worker's spans: one for every traced round that it drafts.

Their parents are the verify worker's rounds, whose contexts come with the tasks. Where no task of
a message has one, that costs the engine's thread one look at each.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from shared.speculation.vocabulary import Draft, RoundTask
from shared.telemetry import spans
from shared.telemetry.draft_span import draft_span
from shared.telemetry.past_span import PastSpan, SpanKey
from shared.telemetry.span_outbox import SpanOutbox
from shared.telemetry.trace_context import TRACEPARENT, context_of, span_context_of
from shared.telemetry.tracing import Tracing


class Drafted(NamedTuple):
    """The traced rounds of a message with their drafts; num_tasks: of all its rounds."""

    rounds: Sequence[tuple[RoundTask, Draft]]
    num_tasks: int


class DraftTracer:
    """Notes of one engine."""

    def __init__(self, tracing: Tracing) -> None:
        self._outbox: SpanOutbox[Drafted] = SpanOutbox(spans_of_drafts, tracing.export)

    def note(self, tasks: Sequence[RoundTask], drafts: Sequence[Draft]) -> None:
        """Note rounds that have just been drafted; called by the engine's thread."""
        traced = [task for task in tasks if task.traceparent]
        if not traced:
            return
        made = {(draft.session_id, draft.round_index): draft for draft in drafts}
        keys = [(task.session_id, task.round_index) for task in traced]
        rounds = [(task, made[key]) for task, key in zip(traced, keys, strict=True) if key in made]
        self._outbox.put(Drafted(rounds, len(tasks)))

    def close(self) -> None:
        """Hand over what is left, once the engine has ended."""
        self._outbox.close()


def spans_of_drafts(drafted: Drafted) -> Iterator[PastSpan]:
    """Make the spans of a message's drafts; a context that cannot be read makes none."""
    for task, draft in drafted.rounds:
        parent = span_context_of(context_of([(TRACEPARENT, task.traceparent)]))
        if not (parent.is_valid and parent.trace_flags.sampled):
            continue
        yield draft_span(
            SpanKey(parent.trace_id, parent.span_id),
            task.round_index,
            task.decision,
            len(draft.draft_tokens),
            draft.started_ns,
            draft.draft_ns,
            {spans.NUM_TASKS: drafted.num_tasks, spans.DRAFT_QUEUE_MS: draft.queue_ns / 1e6},
            draft.error,
        )
