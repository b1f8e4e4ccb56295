"""The client: prompts in, a stream of small values out.

Knows nothing of tokenizers, cells or speculation; the gateway at the other end does.

    async with Client("127.0.0.1:50051") as client:
        async for event in client.generate(Request("Once upon a time")):
            ...
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from shared.errors import Internal
from shared.ids import RequestId, SessionId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as stubs
from shared.rpc.channel import open_channel, responses, translated_errors
from shared.speculation.vocabulary import SpeculationSummary, TokenSource
from shared.telemetry.trace_context import metadata_of
from shortstack.access import Access
from shortstack.events import Event, Finished, Started, Tokens, event_from_proto
from shortstack.request import Request
from shortstack.sessions.values import (
    SessionList,
    SessionTimeline,
    list_from_proto,
    timeline_from_proto,
)

UNARY_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer: the joined text, all ids with their sources, and the last message."""

    text: str
    token_ids: tuple[int, ...]
    sources: tuple[TokenSource, ...]
    started: Started
    finished: Finished

    @property
    def speculation(self) -> SpeculationSummary:
        """What speculation did."""
        return self.finished.speculation


@dataclass(slots=True)
class CompletionBuilder:
    """Gathers the events of one stream."""

    started: Started | None = None
    finished: Finished | None = None
    texts: list[str] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    sources: list[TokenSource] = field(default_factory=list)

    def add(self, event: Event) -> str:
        """Take one event; return the text that it brought."""
        if isinstance(event, Started):
            self.started = event
            return ""
        if isinstance(event, Tokens):
            self.token_ids += event.token_ids
            self.sources += event.sources
        else:
            self.finished = event
        self.texts.append(event.text)
        return event.text

    def build(self) -> Completion:
        """Return the whole.

        Raises:
            Internal: the stream ended without an error and without its last message.
        """
        if self.started is None or self.finished is None:
            raise Internal("the gateway ended the stream without its first or last message")
        return Completion(
            "".join(self.texts),
            tuple(self.token_ids),
            tuple(self.sources),
            self.started,
            self.finished,
        )


class Client:
    """An open connection to a gateway; use it as a context, from one event loop."""

    def __init__(self, target: str, access: Access | None = None) -> None:
        """Name the gateway (`host:port` or `unix:/path`); the connection is made at first use.

        access: API key and TLS, where the gateway has them.
        """
        access = access or Access()
        self.target = target
        self._metadata = access.metadata
        self._channel = open_channel(target, access.tls)
        self._stub = stubs.GatewayServiceStub(self._channel)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection; running streams end."""
        await self._channel.close()

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """Stream the completion of a prompt; leaving the iteration cancels the request.

        Raises:
            ShortstackError: what the gateway reports, or WorkerLost if it cannot be reached.
        """
        # The caller's span, if it has one now, is the parent of the gateway's.
        metadata = (*self._metadata, *metadata_of())
        call = self._stub.GenerateText(
            request.to_proto(), timeout=request.timeout_s, metadata=metadata
        )
        message: pb.GenerateTextResponse
        try:
            async for message in responses(call):
                yield event_from_proto(message)
        finally:
            call.cancel()

    async def complete(self, request: Request) -> Completion:
        """Return the whole completion of a prompt."""
        builder = CompletionBuilder()
        async with aclosing(self.generate(request)) as events:
            async for event in events:
                builder.add(event)
        return builder.build()

    async def cancel(self, request_id: RequestId) -> bool:
        """End a request early; return whether it was running."""
        with translated_errors():
            answer: pb.CancelResponse = await self._stub.Cancel(
                pb.CancelRequest(request_id=request_id),
                timeout=UNARY_TIMEOUT_S,
                metadata=self._metadata,
            )
        return answer.was_running

    async def models(self, timeout_s: float = UNARY_TIMEOUT_S) -> pb.ListModelsResponse:
        """Return the models served and the cells behind them."""
        with translated_errors():
            answer: pb.ListModelsResponse = await self._stub.ListModels(
                pb.ListModelsRequest(), timeout=timeout_s, metadata=self._metadata
            )
        return answer

    async def list_sessions(self, *, with_ended: bool = False) -> SessionList:
        """Return how the sessions of all cells stand; with_ended: those that ended of late, too."""
        with translated_errors():
            answer: pb.ListSessionsResponse = await self._stub.ListSessions(
                pb.ListSessionsRequest(with_ended=with_ended),
                timeout=UNARY_TIMEOUT_S,
                metadata=self._metadata,
            )
        return list_from_proto(answer)

    async def session_timeline(self, session_id: SessionId) -> SessionTimeline:
        """Return the last rounds of a session, running or ended of late.

        Raises:
            SessionNotFound: no cell knows it.
        """
        with translated_errors():
            answer: pb.GetSessionTimelineResponse = await self._stub.GetSessionTimeline(
                pb.GetSessionTimelineRequest(session_id=session_id),
                timeout=UNARY_TIMEOUT_S,
                metadata=self._metadata,
            )
        return timeline_from_proto(answer)
