"""Streams: from a session's events to the messages of its call, with backpressure.

A session's events are queued here and read by its call; tokens that were not read yet are counted,
and a session with too many of them is paused by the scheduler until its client reads on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from services.verify.session import (
    Emitted,
    Finished,
    Moved,
    Session,
    SessionEvent,
    SessionRequest,
    Started,
)
from shared.errors import ShortstackError
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.convert import REASON_ON_WIRE, SOURCE_ON_WIRE, summary_to_proto


class SessionStream:
    """The events of one session on their way to its call; lives in the event loop."""

    def __init__(
        self,
        request: SessionRequest,
        arrived_ns: int,
        max_unread: int,
        on_resume: Callable[[], None],
    ) -> None:
        self._events: asyncio.Queue[SessionEvent] = asyncio.Queue()
        self._max_unread = max_unread
        self._on_resume = on_resume
        self._num_put = 0
        self._num_read = 0
        self.session = Session(request, self.put, arrived_ns, self._num_unread)

    def put(self, event: SessionEvent) -> None:
        """Queue an event; called in the event loop."""
        if isinstance(event, Emitted):
            self._num_put += len(event.token_ids)
        self._events.put_nowait(event)

    def _num_unread(self) -> int:
        return self._num_put - self._num_read

    def _note_read(self, num_tokens: int) -> None:
        """Count tokens as read; a session that was paused for them may go on."""
        was_paused = self._num_unread() >= self._max_unread
        self._num_read += num_tokens
        if was_paused and self._num_unread() < self._max_unread:
            self._on_resume()

    async def messages(self, cell_id: str) -> AsyncIterator[pb.GenerateResponse]:
        """Iterate over the messages until the session ends.

        Raises:
            ShortstackError: the session was refused.
        """
        while True:
            event = await self._events.get()
            if isinstance(event, ShortstackError):
                raise event
            yield to_message(event, cell_id)
            if isinstance(event, Emitted):
                self._note_read(len(event.token_ids))
            elif isinstance(event, (Finished, Moved)):
                return


def to_message(event: Started | Emitted | Finished | Moved, cell_id: str) -> pb.GenerateResponse:
    """Return an event as a message."""
    match event:
        case Started(num_cached):
            started = pb.GenerateStarted(cell_id=cell_id, num_cached_tokens=num_cached)
            return pb.GenerateResponse(started=started)
        case Emitted():
            return pb.GenerateResponse(tokens=_tokens(event))
        case Moved():
            return pb.GenerateResponse(moved=pb.GenerateMoved(reason=event.reason))
        case Finished():
            return pb.GenerateResponse(finished=_finished(event))


def _tokens(event: Emitted) -> pb.GenerateTokens:
    return pb.GenerateTokens(
        round_index=event.round_index,
        token_ids=event.token_ids,
        sources=[SOURCE_ON_WIRE[source] for source in event.sources],
        logprobs=[
            pb.TokenLogprobs(
                logprob=logprob,
                top=[pb.TopLogprob(token_id=token, logprob=value) for token, value in top],
            )
            for logprob, top in event.logprobs
        ],
        method=event.decision.method,
        exit_layer=event.decision.exit_layer,
        draft_len=event.draft_len,
        reason=event.decision.reason,
    )


def _finished(event: Finished) -> pb.GenerateFinished:
    timings = event.timings
    return pb.GenerateFinished(
        finish_reason=REASON_ON_WIRE[event.reason],
        stop_token_id=event.stop_token_id,
        speculation=summary_to_proto(event.summary),
        num_cached_tokens=event.num_cached,
        num_preemptions=event.num_preemptions,
        timings=pb.SessionTimings(
            queue_ns=timings.queue_ns,
            prefill_ns=timings.prefill_ns,
            decode_ns=timings.decode_ns,
            draft_ns=timings.draft_ns,
            verify_ns=timings.verify_ns,
        ),
    )
