"""One request on the cells: ids in, rounds out, replays included.

A cell that goes away in the middle, drains or has no room costs time, never a token: the session is
replayed elsewhere with the prompt and the ids emitted so far, under the same seed. As the noise of
sampling depends on seed and position only, the text goes on as if nothing had happened. Knows
nothing of text, clients or stop strings.
"""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

from services.gateway.attempt import LOST, Attempt, SessionEvent, SessionPlan
from services.gateway.cells import CellChannels
from services.gateway.router import BootKey, Router, boot_key
from shared.control.registry import CellLease
from shared.errors import (
    Internal,
    NoCell,
    PoolExhausted,
    QueueFull,
    RateLimited,
    ShortstackError,
    WorkerDraining,
)
from shared.ids import TokenId
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.acceptance import cut_at_finish
from shared.speculation.vocabulary import FinishReason

log = logging.getLogger(__name__)

_NO_ROOM = (PoolExhausted, QueueFull, RateLimited)
# Cells without room that a new request is sent to.
MAX_REFUSALS = 2
DEFAULT_RETRY_DELAY_MS = 1000


@dataclass(slots=True)
class Session:
    """The run of one plan. `run` is called once."""

    plan: SessionPlan
    router: Router
    channels: CellChannels
    emitted_ids: list[int] = field(default_factory=list)
    num_replays: int = 0
    num_losses: int = 0
    _num_moves: int = 0
    _left_boots: list[BootKey] = field(default_factory=list)
    _last_error: ShortstackError | None = None
    _refusals: list[ShortstackError] = field(default_factory=list)
    _was_admitted: bool = False

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
            attempt = Attempt(self.plan, cell, self.router, self.channels, self.emitted_ids)
            try:
                async with aclosing(attempt.run()) as events:
                    async for event in events:
                        yield event
                return
            except (*LOST, WorkerDraining, *_NO_ROOM) as error:
                if finished := attempt.finished or self._end_of_emitted():
                    yield finished
                    return
                self._was_admitted |= attempt.is_admitted
                self.num_losses += attempt.is_admitted and isinstance(error, LOST)
                self._leave(cell, error)

    def _end_of_emitted(self) -> pb.GenerateFinished | None:
        """Return the end that the last emitted id is, if its cell was lost before it could say so.

        A replay behind such an id would go on where plain decoding ends.
        """
        if not self.emitted_ids:
            return None
        last_id = TokenId(self.emitted_ids[-1])
        _, reason = cut_at_finish([last_id], len(self.emitted_ids) - 1, self.plan.stop)
        if reason is None:
            return None
        stop_id = last_id if reason is FinishReason.STOP else None
        name = f"FINISH_REASON_{reason.name}"
        return pb.GenerateFinished(finish_reason=name, stop_token_id=stop_id)

    def _pick(self) -> CellLease:
        try:
            cell = self.router.pick(
                self.plan.request.model_name, self._left_boots, self.plan.prefix_hashes
            )
        except NoCell as error:
            if self._last_error is None:
                raise
            if isinstance(self._last_error, _NO_ROOM):
                raise self._no_room() from None
            raise NoCell(
                f"{error.message}; the last one said: {self._last_error.message}",
                retry_delay_ms=error.retry_delay_ms,
            ) from None
        if self._last_error is not None and not isinstance(self._last_error, _NO_ROOM):
            self.num_replays += 1
        return cell

    def _no_room(self) -> ShortstackError:
        """Return the last refusal with the shortest delay that any cell told: that one has room."""
        last = self._refusals[-1]
        delays_ms = [error.retry_delay_ms for error in self._refusals if error.retry_delay_ms]
        delay_ms = min(delays_ms, default=DEFAULT_RETRY_DELAY_MS)
        return type(last)(last.message, field=last.field, retry_delay_ms=delay_ms)

    def _leave(self, cell: CellLease, error: ShortstackError) -> None:
        """Note that a cell could not go on; raise when no other is to be tried."""
        self._left_boots.append(boot_key(cell))
        self._last_error = error
        fields = {
            "request_id": self.plan.request.request_id,
            "cell_id": cell.cell_id,
            "num_emitted": len(self.emitted_ids),
            "error_type": type(error).__name__,
            "error": error.message,
        }
        # To have no room is normal life under load.
        log.log(
            logging.INFO if isinstance(error, _NO_ROOM) else logging.WARNING,
            "cell left",
            extra=fields,
        )
        if isinstance(error, _NO_ROOM):
            self._note_refusal(error)
            return
        if isinstance(error, WorkerDraining):
            # Restarts, which no request is the cause of; each boot is left once, so this ends.
            self._num_moves += 1
            return
        if self.num_replays - self._num_moves < self.plan.max_replays:
            return
        if self.num_losses > max(1, self.plan.max_replays):
            log.error(
                "request ended its cells",
                extra={**fields, "cells": [cell_id for cell_id, _ in self._left_boots]},
            )
            raise Internal(f"the request ended {self.num_losses} cells; it is not replayed again")
        raise NoCell(f"given up after {self.num_replays} replays: {error.message}") from None

    def _note_refusal(self, error: ShortstackError) -> None:
        """Note that a cell had no room; raise when no other is to be asked.

        A new request asks one other cell: under load all are full, and asking each of them would
        only add to it. One that was running is owed its end, so that every cell is asked.
        """
        self._refusals.append(error)
        if not self._was_admitted and len(self._refusals) >= MAX_REFUSALS:
            raise self._no_room() from None
