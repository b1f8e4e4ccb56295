"""One session on one cell: the call that owns it, and what it shows of the cell.

Knows nothing of other cells, of text or of clients; `session` decides what a failure means.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import grpc

from services.gateway.cells import CellChannels
from services.gateway.request import TextRequest
from services.gateway.router import Router
from shared.control.registry import CellLease
from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    ShortstackError,
    WorkerDraining,
    WorkerLost,
)
from shared.ids import SessionId, new_session_id
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import translated_errors
from shared.rpc.convert import PRIORITY_ON_WIRE, sampling_to_proto
from shared.speculation.vocabulary import StopParams

# A cell that ends our call unasked is as good as gone.
LOST = (WorkerLost, Cancelled)


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A cell has admitted the session."""

    cell_id: str
    session_id: SessionId
    num_cached_tokens: int = 0


SessionEvent = SessionStarted | pb.GenerateTokens | pb.GenerateFinished


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What is to be run, and until when (in seconds of `monotonic`)."""

    request: TextRequest
    prompt_ids: tuple[int, ...]
    eos_token_ids: frozenset[int]
    deadline_s: float
    max_replays: int
    # Of the prompt, as `prefix_index.prefix_hashes` makes them.
    prefix_hashes: tuple[int, ...] = ()
    # The kind of text, as `TaskKeys` makes it.
    task_key: str = ""
    # What all calls of the request carry beside its ids.
    metadata: tuple[tuple[str, str], ...] = ()

    @property
    def stop(self) -> StopParams:
        """When the session ends, as its cell sees it."""
        request = self.request
        stop_ids = frozenset(request.stop_token_ids)
        if not request.ignore_eos:
            stop_ids |= self.eos_token_ids
        return StopParams(request.max_new_tokens, stop_ids, request.min_new_tokens)


@dataclass(slots=True)
class Attempt:
    """One session of a plan. `run` is called once."""

    plan: SessionPlan
    cell: CellLease
    router: Router
    channels: CellChannels
    # Of earlier attempts and of this one, which appends to it.
    emitted_ids: list[int]
    is_admitted: bool = False
    finished: pb.GenerateFinished | None = None

    async def run(self) -> AsyncGenerator[SessionEvent, None]:
        """Yield what the cell says; leaving early ends the session.

        Raises:
            WorkerLost, Cancelled: the cell went away.
            WorkerDraining: it drains, or told the session to move.
            DeadlineExceeded: the time is over.
            ShortstackError: what else the cell answered.
        """
        session_id = new_session_id()
        with self._recorded(), self._opened(session_id) as call:
            async for response in call:
                self._note_answer()
                event = _event_of(response, session_id)
                if isinstance(event, pb.GenerateFinished):
                    # Kept until the cell has ended its stream: leaving would be a cancel to it.
                    self.finished = event
                    continue
                if isinstance(event, pb.GenerateTokens):
                    self.emitted_ids.extend(event.token_ids)
                yield event
            if self.finished is None:
                raise WorkerLost("the cell's stream ended in the middle")
            yield self.finished

    def _note_answer(self) -> None:
        if not self.is_admitted:
            self.is_admitted = True
            self.router.breaker_of(self.cell).succeed()
            self.router.note_prefix(self.cell, self.plan.prefix_hashes)

    @contextmanager
    def _recorded(self) -> Iterator[None]:
        """Keep the router's records of the cell."""
        breaker = self.router.breaker_of(self.cell)
        self.router.begin(self.cell)
        try:
            yield
        except LOST:
            breaker.fail()
            raise
        except DeadlineExceeded:
            # A short deadline or a long queue; that a cell hangs is for keepalive to find out.
            raise
        except ShortstackError:
            breaker.succeed()
            raise
        finally:
            breaker.give_up()
            self.router.end(self.cell)

    @contextmanager
    def _opened(
        self, session_id: SessionId
    ) -> Iterator["grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse]"]:
        """Open the stream that owns the session; leaving ends it, whatever the reason."""
        timeout_s = self.plan.deadline_s - monotonic()
        if timeout_s <= 0:
            raise DeadlineExceeded("the request's time is over")
        call = self.channels.stub(self.cell.address).Generate(
            self._message(session_id),
            timeout=timeout_s,
            metadata=(
                ("session-id", session_id),
                ("request-id", self.plan.request.request_id),
                *self.plan.metadata,
            ),
        )
        try:
            with translated_errors():
                yield call
        finally:
            call.cancel()

    def _message(self, session_id: SessionId) -> pb.GenerateRequest:
        request = self.plan.request
        return pb.GenerateRequest(
            session_id=session_id,
            token_ids=[*self.plan.prompt_ids, *self.emitted_ids],
            num_emitted=len(self.emitted_ids),
            sampling=sampling_to_proto(request.sampling),
            stop=pb.StopParams(
                max_new_tokens=request.max_new_tokens,
                stop_token_ids=request.stop_token_ids,
                ignore_eos=request.ignore_eos,
                min_new_tokens=request.min_new_tokens,
            ),
            speculation=request.speculation,
            num_logprobs=request.num_logprobs,
            tenant=request.tenant,
            priority=PRIORITY_ON_WIRE[request.priority],
            session_key=request.session_key,
            task_key=self.plan.task_key,
        )


def _event_of(response: pb.GenerateResponse, session_id: SessionId) -> SessionEvent:
    kind = response.WhichOneof("event")
    if kind == "tokens":
        return response.tokens
    if kind == "started":
        started = response.started
        return SessionStarted(started.cell_id, session_id, started.num_cached_tokens)
    if kind == "finished":
        return response.finished
    if kind == "moved":
        raise WorkerDraining(f"moved: {response.moved.reason}")
    raise Internal("the cell sent an empty message")
