"""What the cells' controllers do, asked of all of them at once.

A cell that does not answer in time is named, not waited for. Knows nothing of requests.
"""

import asyncio
from collections.abc import Callable, Sequence

from services.gateway.api_keys import Caller
from services.gateway.cells import CellChannels
from shared.control.registry import CellLease
from shared.errors import SessionNotFound, ShortstackError
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import translated_errors

CELL_TIMEOUT_S = 1.0


class SessionFinder:
    """Looks for sessions on every live cell."""

    def __init__(
        self, read_cells: Callable[[], Sequence[CellLease]], channels: CellChannels
    ) -> None:
        """Take what tells the live cells."""
        self._read_cells = read_cells
        self._channels = channels

    async def list(self, caller: Caller, *, with_ended: bool) -> pb.ListSessionsResponse:
        """Return the sessions that a caller may see, and which cells did not answer."""
        cells = self._read_cells()
        answers = await asyncio.gather(*(self._list_of(cell, with_ended) for cell in cells))
        response = pb.ListSessionsResponse()
        for cell, answer in zip(cells, answers, strict=True):
            if isinstance(answer, ShortstackError):
                response.unanswered_cells.append(_unanswered(cell, answer))
            else:
                response.sessions.extend(
                    each for each in answer.sessions if caller.sees(each.tenant)
                )
        return response

    async def timeline(self, caller: Caller, session_id: str) -> pb.GetSessionTimelineResponse:
        """Return a session's last rounds, from whichever cell it is or was on.

        Raises:
            SessionNotFound: no cell that answered knows it, or it is none that the caller may see;
                names those that did not answer.
        """
        cells = self._read_cells()
        answers = await asyncio.gather(*(self._timeline_of(cell, session_id) for cell in cells))
        found = [
            answer
            for answer in answers
            if not isinstance(answer, ShortstackError) and caller.sees(answer.session.tenant)
        ]
        if found:
            # A running one before those that ended, of these the youngest.
            best = min(found, key=lambda each: (each.session.has_ended, each.session.age_ms))
            return pb.GetSessionTimelineResponse(session=best.session, rounds=best.rounds)
        silent = [
            cell.cell_id
            for cell, answer in zip(cells, answers, strict=True)
            if isinstance(answer, ShortstackError) and not isinstance(answer, SessionNotFound)
        ]
        raise SessionNotFound(
            f"no cell knows a session {session_id!r}: it never ran, or ended too long ago"
            + (f"; no answer from {', '.join(silent)}" if silent else "")
        )

    async def _list_of(
        self, cell: CellLease, with_ended: bool
    ) -> pb.VerifyServiceListSessionsResponse | ShortstackError:
        request = pb.VerifyServiceListSessionsRequest(with_ended=with_ended)
        try:
            with translated_errors():
                answer: pb.VerifyServiceListSessionsResponse = await self._channels.stub(
                    cell.address
                ).ListSessions(request, timeout=CELL_TIMEOUT_S)
        except ShortstackError as error:
            return error
        return answer

    async def _timeline_of(
        self, cell: CellLease, session_id: str
    ) -> pb.VerifyServiceGetSessionTimelineResponse | ShortstackError:
        request = pb.VerifyServiceGetSessionTimelineRequest(session_id=session_id)
        try:
            with translated_errors():
                answer: pb.VerifyServiceGetSessionTimelineResponse = await self._channels.stub(
                    cell.address
                ).GetSessionTimeline(request, timeout=CELL_TIMEOUT_S)
        except ShortstackError as error:
            return error
        return answer


def _unanswered(cell: CellLease, error: ShortstackError) -> pb.UnansweredCell:
    return pb.UnansweredCell(cell_id=cell.cell_id, address=cell.address, error=error.message)
