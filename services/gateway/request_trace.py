"""The trace of one request: its `chat` or `text_completion` span, and what goes on to its cells.

Knows nothing of calls or faces: whichever face took the request gives the context that the span
belongs to. No text of users is put into it unless the settings say so.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext

from services.gateway.chat import ChatTurn
from services.gateway.request import Prompt, TextRequest
from services.gateway.request_log import RequestLog
from services.gateway.request_metrics import CHAT, TEXT_COMPLETION
from shared.speculation.vocabulary import SamplingParams, SpeculationSummary
from shared.telemetry import spans
from shared.telemetry.rpc_span import context_with, note_failure
from shared.telemetry.trace_context import Metadata, metadata_of
from shared.telemetry.tracing import Tracing

# Of a prompt or an output; backends refuse spans of some MiB.
MAX_TEXT_CHARS = 32_768


@dataclass(slots=True)
class RequestTrace:
    """One request's span, from its arrival on; `end` is called once."""

    tracing: Tracing
    request: TextRequest
    parent: Context
    _span: Span = field(init=False)
    _texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start the span."""
        is_chat = self.request.is_chat
        operation = CHAT if is_chat else TEXT_COMPLETION
        spec = spans.CHAT if is_chat else spans.TEXT_COMPLETION
        name = spec.name.format(model=self.request.model_name)
        self._span = self.tracing.tracer.start_span(name, self.parent, spec.kind)
        if self._span.is_recording():
            self._span.set_attributes(_asked(self.request) | {spans.OPERATION: operation})
            if self.tracing.records_text:
                self._span.set_attributes(_asked_text(self.request))

    @property
    def span_context(self) -> SpanContext:
        """Names the span; invalid where there is no trace at all."""
        return self._span.get_span_context()

    def metadata(self) -> Metadata:
        """Return what the calls to cells carry."""
        return metadata_of(context_with(self._span))

    def note_text(self, text: str) -> None:
        """Take text of the output, if it is wanted."""
        if self.tracing.records_text and self._span.is_recording():
            self._texts.append(text)

    def end(
        self,
        log: RequestLog,
        summary: SpeculationSummary,
        prompt_len: int,
        num_emitted: int,
        num_replays: int,
    ) -> None:
        """End the span with what the request's log line says too."""
        if self._span.is_recording():
            attributes = _outcome(log) | {
                spans.INPUT_TOKENS: prompt_len,
                spans.OUTPUT_TOKENS: num_emitted,
                spans.NUM_REPLAYS: num_replays,
                spans.NUM_DRAFT_TOKENS: summary.num_draft_tokens,
                spans.NUM_ACCEPTED: summary.num_accepted_tokens,
            }
            if self._texts:
                attributes[spans.OUTPUT_MESSAGES] = _messages([("assistant", "".join(self._texts))])
            self._span.set_attributes(attributes)
            if log.error_type:
                note_failure(self._span, log.error_type, log.status)
        self._span.end()


def _asked(request: TextRequest) -> dict[str, spans.Value]:
    attributes: dict[str, spans.Value] = {
        spans.PROVIDER: "shortstack",
        spans.REQUEST_MODEL: request.model_name,
        spans.REQUEST_ID: request.request_id,
        spans.TENANT: request.tenant,
    }
    if request.max_new_tokens:
        attributes[spans.REQUEST_MAX_TOKENS] = request.max_new_tokens
    return attributes | _sampling(request.sampling)


def _sampling(sampling: SamplingParams) -> dict[str, spans.Value]:
    """Return the sampling parameters that have an effect."""
    effects: dict[str, tuple[spans.Value, bool]] = {
        spans.REQUEST_TEMPERATURE: (sampling.temperature, True),
        spans.REQUEST_TOP_P: (sampling.top_p, sampling.top_p < 1),
        spans.REQUEST_TOP_K: (sampling.top_k, sampling.top_k > 0),
        spans.REQUEST_PRESENCE_PENALTY: (
            sampling.presence_penalty,
            sampling.presence_penalty != 0,
        ),
        spans.REQUEST_FREQUENCY_PENALTY: (
            sampling.frequency_penalty,
            sampling.frequency_penalty != 0,
        ),
        spans.SEED: (str(sampling.seed), not sampling.is_greedy),
    }
    return {name: value for name, (value, has_effect) in effects.items() if has_effect}


def _asked_text(request: TextRequest) -> dict[str, spans.Value]:
    attributes: dict[str, spans.Value] = {}
    if request.stop_strings:
        attributes[spans.REQUEST_STOP_SEQUENCES] = request.stop_strings
    if messages := _messages(_turns(request.prompt)):
        attributes[spans.INPUT_MESSAGES] = messages
    return attributes


def _turns(prompt: Prompt) -> list[tuple[str, str]]:
    """Return the turns of a prompt as (role, text); none of one that is token ids."""
    if isinstance(prompt, str):
        return [("user", prompt)]
    return [(part.role, part.content) for part in prompt if isinstance(part, ChatTurn)]


def _messages(turns: Iterable[tuple[str, str]]) -> str:
    """Return messages as the conventions have them, JSON; empty where there are none."""
    messages = [
        {"role": role, "parts": [{"type": "text", "content": text[:MAX_TEXT_CHARS]}]}
        for role, text in turns
    ]
    return json.dumps(messages) if messages else ""


def _outcome(log: RequestLog) -> dict[str, spans.Value]:
    attributes: dict[str, spans.Value] = {
        spans.FINISH_REASONS: (log.finish_reason or "error",),
        spans.CACHED_INPUT_TOKENS: log.num_cached_tokens,
    }
    if log.session_id:
        attributes |= {spans.SESSION_ID: log.session_id, spans.CELL_ID: log.cell_id}
    if log.admission_ms is not None:
        attributes[spans.ADMISSION_MS] = log.admission_ms
    if log.ttft_ms is not None:
        attributes[spans.TIME_TO_FIRST_CHUNK] = log.ttft_ms / 1000
    return attributes
