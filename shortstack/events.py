"""What a client receives, as plain values, and how they are read from the wire.

A completion is one Started, any number of Tokens and one Finished; the texts of Tokens and
Finished, joined, are the completion. Knows nothing of channels.
"""

from dataclasses import dataclass, field

from shared.errors import Internal
from shared.ids import CellId, RequestId, SessionId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import summary_from_proto
from shared.speculation.vocabulary import FinishReason, SpeculationSummary, TokenSource


@dataclass(frozen=True, slots=True)
class Started:
    """The request was admitted."""

    request_id: RequestId
    session_id: SessionId
    cell_id: CellId
    prompt_len: int
    model: str
    seed: int


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """Log probability of one emitted token, and the likeliest (id, log probability) there."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one round; the text may lag behind the ids, it never splits a character."""

    text: str
    token_ids: tuple[int, ...]
    sources: tuple[TokenSource, ...]
    logprobs: tuple[TokenLogprobs, ...] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Times of a session inside its cell."""

    queue_ns: int = 0
    prefill_ns: int = 0
    decode_ns: int = 0
    draft_ns: int = 0
    verify_ns: int = 0


@dataclass(frozen=True, slots=True)
class Finished:
    """The request is done; `text` had been held back and belongs to the completion."""

    text: str
    finish_reason: FinishReason
    stop_reason: str
    prompt_len: int
    num_emitted: int
    speculation: SpeculationSummary = field(default_factory=SpeculationSummary)
    timings: Timings = field(default_factory=Timings)
    num_replays: int = 0
    # Prompt tokens that the cell took from its prefix cache.
    num_cached_tokens: int = 0
    # How often the cell took the session's memory back and computed it again.
    num_preemptions: int = 0

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens after the first, over the time they took in the cell; 0 when there were none."""
        if self.num_emitted < 2 or not self.timings.decode_ns:
            return 0.0
        return (self.num_emitted - 1) / (self.timings.decode_ns / 1e9)


Event = Started | Tokens | Finished


def event_from_proto(message: pb.GenerateTextResponse) -> Event:
    """Read one message of an answer.

    Raises:
        Internal: the message holds no event that this client knows.
    """
    match message.WhichOneof("event"):
        case "started":
            return _started(message.started)
        case "tokens":
            return _tokens(message.tokens)
        case "finished":
            return _finished(message.finished)
    raise Internal("the gateway sent a message without an event")


def _started(message: pb.GenerateTextStarted) -> Started:
    return Started(
        RequestId(message.request_id),
        SessionId(message.session_id),
        CellId(message.cell_id),
        message.prompt_len,
        message.model,
        message.seed,
    )


def _tokens(message: pb.GenerateTextTokens) -> Tokens:
    return Tokens(
        message.text,
        tuple(message.token_ids),
        tuple(TokenSource(source) for source in message.sources),
        tuple(
            TokenLogprobs(entry.logprob, tuple((top.token_id, top.logprob) for top in entry.top))
            for entry in message.logprobs
        ),
    )


def _finished(message: pb.GenerateTextFinished) -> Finished:
    times = message.timings
    return Finished(
        message.text,
        FinishReason(message.finish_reason),
        message.stop_reason,
        message.prompt_len,
        message.num_emitted,
        summary_from_proto(message.speculation),
        Timings(times.queue_ns, times.prefill_ns, times.decode_ns, times.draft_ns, times.verify_ns),
        message.num_replays,
        message.num_cached_tokens,
        message.num_preemptions,
    )
