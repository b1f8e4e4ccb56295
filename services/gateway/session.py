"""One request on the cells: ids in, rounds out, replays included.

A cell that goes away in the middle, drains or has no room costs time, never a token: the session is
replayed elsewhere with the prompt and the ids emitted so far, under the same seed. As the noise of
sampling depends on seed and position only, the text goes on as if nothing had happened. Knows
nothing of text, clients or stop strings.
"""

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from time import monotonic

import grpc

from services.gateway.breaker import Breaker
from services.gateway.cells import CellChannels
from services.gateway.request import TextRequest
from services.gateway.router import Router
from shared.control.registry import CellLease
from shared.errors import (
    Cancelled,
    DeadlineExceeded,
    Internal,
    NoCell,
    PoolExhausted,
    QueueFull,
    RateLimited,
    ShortstackError,
    WorkerDraining,
    WorkerLost,
)
from shared.ids import SessionId, new_session_id
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import translated_errors
from shared.rpc.convert import sampling_to_proto

log = logging.getLogger(__name__)

_NO_ROOM = (PoolExhausted, QueueFull, RateLimited)
# A cell that ends our call unasked is as good as gone.
_LOST = (WorkerLost, Cancelled)


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A cell has admitted the session."""

    cell_id: str
    session_id: SessionId


SessionEvent = SessionStarted | pb.GenerateTokens | pb.GenerateFinished


@dataclass(frozen=True, slots=True)
class SessionPlan:
    """What is to be run, and until when (in seconds of `monotonic`)."""

    request: TextRequest
    prompt_ids: tuple[int, ...]
    deadline_s: float
    max_replays: int


@dataclass(slots=True)
class _Visit:
    """One attempt on a cell."""

    breaker: Breaker
    is_admitted: bool = False

    def note_answer(self) -> None:
        """Note that the cell answers."""
        if not self.is_admitted:
            self.is_admitted = True
            self.breaker.succeed()


@dataclass(slots=True)
class Session:
    """The run of one plan. `run` is called once."""

    plan: SessionPlan
    router: Router
    channels: CellChannels
    emitted_ids: list[int] = field(default_factory=list)
    num_replays: int = 0
    num_losses: int = 0
    _left_cells: list[str] = field(default_factory=list)
    _last_error: ShortstackError | None = None

    async def run(self) -> AsyncGenerator[SessionEvent, None]:
        """Yield what happens, up to and including the cell's last message.

        Raises:
            NoCell: no cell, or no other cell, could run it.
            PoolExhausted, QueueFull, RateLimited: no cell had room.
            DeadlineExceeded: the time is over.
            Internal: a bug, or the request has ended one cell after another.
            ShortstackError: what the cell answered, where another cell would answer the same.
        """
        while True:
            cell = self._pick()
            try:
                async with aclosing(self._run_on(cell)) as events:
                    async for event in events:
                        yield event
                return
            except (*_LOST, WorkerDraining, *_NO_ROOM) as error:
                self._leave(cell, error)

    def _pick(self) -> CellLease:
        try:
            cell = self.router.pick(self.plan.request.model_name, self._left_cells)
        except NoCell as error:
            if self._last_error is None:
                raise
            if isinstance(self._last_error, _NO_ROOM):
                raise self._last_error from None
            raise NoCell(
                f"{error.message}; the last one said: {self._last_error.message}",
                retry_delay_ms=error.retry_delay_ms,
            ) from None
        if self._last_error is not None:
            self.num_replays += 1
        return cell

    def _leave(self, cell: CellLease, error: ShortstackError) -> None:
        """Note that a cell could not go on; raise when no other is to be tried."""
        self._left_cells.append(cell.cell_id)
        self._last_error = error
        fields = {
            "request_id": self.plan.request.request_id,
            "cell_id": cell.cell_id,
            "num_emitted": len(self.emitted_ids),
            "error_type": type(error).__name__,
            "error": error.message,
        }
        log.warning("cell left", extra=fields)
        if self.num_replays < self.plan.max_replays:
            return
        if self.num_losses > max(1, self.plan.max_replays):
            log.error("request ended its cells", extra={**fields, "cells": self._left_cells})
            raise Internal(f"the request ended {self.num_losses} cells; it is not replayed again")
        if isinstance(error, _NO_ROOM):
            raise error
        raise NoCell(f"given up after {self.num_replays} replays: {error.message}") from None

    async def _run_on(self, cell: CellLease) -> AsyncGenerator[SessionEvent, None]:
        session_id = new_session_id()
        with self._visited(cell) as visit, self._opened(cell, session_id) as call:
            async for response in call:
                visit.note_answer()
                event = _event_of(response, session_id)
                if isinstance(event, pb.GenerateTokens):
                    self.emitted_ids.extend(event.token_ids)
                yield event
                if isinstance(event, pb.GenerateFinished):
                    return
            raise WorkerLost("the cell's stream ended in the middle")

    @contextmanager
    def _visited(self, cell: CellLease) -> Iterator["_Visit"]:
        """Keep the router's records of one attempt on a cell."""
        visit = _Visit(self.router.breaker_of(cell))
        self.router.begin(cell)
        try:
            yield visit
        except (*_LOST, DeadlineExceeded) as error:
            is_lost = isinstance(error, _LOST)
            self.num_losses += is_lost and visit.is_admitted
            if is_lost or not visit.is_admitted:
                visit.breaker.fail()
            raise
        except ShortstackError:
            visit.breaker.succeed()
            raise
        finally:
            visit.breaker.give_up()
            self.router.end(cell)

    @contextmanager
    def _opened(
        self, cell: CellLease, session_id: SessionId
    ) -> Iterator["grpc.aio.UnaryStreamCall[pb.GenerateRequest, pb.GenerateResponse]"]:
        """Open the stream that owns the session; leaving ends it, whatever the reason."""
        timeout_s = self.plan.deadline_s - monotonic()
        if timeout_s <= 0:
            raise DeadlineExceeded("the request's time is over")
        request_id = self.plan.request.request_id
        call = self.channels.stub(cell.address).Generate(
            self._message(session_id),
            timeout=timeout_s,
            metadata=(("session-id", session_id), ("request-id", request_id)),
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
        )


def _event_of(response: pb.GenerateResponse, session_id: SessionId) -> SessionEvent:
    kind = response.WhichOneof("event")
    if kind == "tokens":
        return response.tokens
    if kind == "started":
        return SessionStarted(response.started.cell_id, session_id)
    if kind == "finished":
        return response.finished
    if kind == "moved":
        raise WorkerDraining(f"moved: {response.moved.reason}")
    raise Internal("the cell sent an empty message")
