"""What cells and sessions do, for those who watch: read-only, no prompt and no text in it.

Many may watch at a time: cells are asked at most twice a second, whoever asks.
"""

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.gateway.api_keys import ANYBODY, Caller
from services.gateway.cell_reports import CellReport, CellReporter
from services.gateway.http_face.document import ANYWHERE, refusals
from services.gateway.http_face.door import caller_of
from services.gateway.http_face.errors import to_json
from services.gateway.latest import Latest
from services.gateway.parts import GatewayParts
from services.gateway.session_finder import SessionFinder
from services.gateway.throughput import WINDOW_S
from shared.errors import InvalidRequest, SessionNotFound
from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import FinishReason

MAX_AGE_S = 0.5
# A threshold is a float of 32 bits on the wire.
THRESHOLD_DIGITS = 6
_HEADERS = {"cache-control": "no-store"}


class Watching:
    """Reads cells and sessions for all who watch."""

    def __init__(self, parts: GatewayParts) -> None:
        """Take what tells the live cells."""
        self._parts = parts
        channels = parts.tools.channels
        self._finder = SessionFinder(lambda: parts.cells.cells, channels)
        self._reporter = CellReporter(lambda: parts.cells.cells, channels)
        self._sessions = Latest(self._list_sessions, MAX_AGE_S)
        # Asked for all who watch; who sees what is told apart behind it.
        self._timelines = Latest(self._find_timeline, MAX_AGE_S)
        self._reports = Latest(self._report, MAX_AGE_S)

    async def cells(self) -> dict[str, Any]:
        """Return how the cells are doing, and what this gateway has emitted in the last minute."""
        return {
            "cells": [_cell_of(report) for report in await self._reports.get("all")],
            "throughput": {
                "window_s": WINDOW_S,
                "tokens_per_s": self._parts.tools.throughput.per_second(),
            },
        }

    async def sessions(self, caller: Caller, *, with_ended: bool) -> dict[str, Any]:
        """Return the sessions that a caller may see, and which cells did not answer."""
        listed = await self._sessions.get(with_ended)
        seen = (session for session in listed.sessions if caller.sees(session.tenant))
        return {
            "sessions": [_session_of(session) for session in seen],
            "unanswered_cells": [_fields_of(cell) for cell in listed.unanswered_cells],
        }

    async def timeline(self, caller: Caller, session_id: str) -> dict[str, Any]:
        """Return a session's last rounds, as columns.

        Raises:
            SessionNotFound: no cell that answered knows it, or it is none that the caller may see.
        """
        told = await self._timelines.get(session_id)
        if not caller.sees(told.session.tenant):
            raise SessionNotFound(f"no cell knows a session {session_id!r}")
        return {"session": _session_of(told.session), "rounds": _columns_of(told.rounds)}

    async def _list_sessions(self, with_ended: bool) -> pb.ListSessionsResponse:
        return await self._finder.list(ANYBODY, with_ended=with_ended)

    async def _find_timeline(self, session_id: str) -> pb.GetSessionTimelineResponse:
        return await self._finder.timeline(ANYBODY, session_id)

    async def _report(self, which: str) -> list[CellReport]:
        return await self._reporter.report()


def watching_router(parts: GatewayParts) -> APIRouter:
    """Return the endpoints."""
    watching = Watching(parts)
    router = APIRouter(prefix="/v1/shortstack")

    @router.get("/cells", response_model=None, responses=refusals(*ANYWHERE))
    async def cells() -> Response:
        return _json(await watching.cells())

    @router.get("/sessions", response_model=None, responses=refusals(*ANYWHERE, InvalidRequest))
    async def sessions(request: Request, with_ended: bool = False) -> Response:
        return _json(await watching.sessions(caller_of(request), with_ended=with_ended))

    @router.get(
        "/sessions/{session_id}/timeline",
        response_model=None,
        responses=refusals(*ANYWHERE, SessionNotFound),
    )
    async def timeline(request: Request, session_id: str) -> Response:
        return _json(await watching.timeline(caller_of(request), session_id))

    return router


def _cell_of(report: CellReport) -> dict[str, Any]:
    """Return a cell as it says it is; by its lease where it says nothing."""
    lease, info = report.lease, report.info
    told: dict[str, Any] = {
        "cell_id": lease.cell_id,
        "address": lease.address,
        "model_name": lease.model_name,
        "error": report.error or None,
    }
    if info is None:
        return told | {
            "is_draining": lease.is_draining,
            "num_sessions": lease.num_sessions,
            "max_sessions": lease.max_sessions,
            "num_draft_workers": lease.num_draft_workers,
            "pages": None,
        }
    return told | {
        "is_draining": info.is_draining,
        "num_sessions": info.num_sessions,
        "max_sessions": info.max_sessions,
        "num_draft_workers": info.num_draft_workers,
        "pages": _fields_of(info.pool),
        "cell_kind": info.cell_kind,
        "transport": info.transport,
        "num_layers": info.model.num_layers,
        "dtype": info.model.dtype,
    }


def _session_of(session: pb.SessionState) -> dict[str, Any]:
    told = _fields_of(session)
    num_drafted = session.num_draft_tokens
    told["stop_threshold"] = _threshold(session.stop_threshold)
    told["acceptance_rate"] = session.num_accepted_tokens / num_drafted if num_drafted else None
    reason = FinishReason(session.finish_reason) if session.finish_reason else None
    told["finish_reason"] = reason.name.lower() if reason else None
    return told


def _columns_of(rounds: pb.RoundColumns) -> dict[str, Any]:
    told = {name: list(column) for name, column in _fields_of(rounds).items()}
    told["stop_thresholds"] = [_threshold(each) for each in rounds.stop_thresholds]
    return told


def _fields_of(
    message: pb.SessionState | pb.RoundColumns | pb.PoolState | pb.UnansweredCell,
) -> dict[str, Any]:
    """Return a flat message's fields by the names that they have on the wire."""
    names: Sequence[str] = [field.name for field in message.DESCRIPTOR.fields]
    return {name: getattr(message, name) for name in names}


def _threshold(value: float) -> float:
    return round(value, THRESHOLD_DIGITS)


def _json(value: dict[str, Any]) -> Response:
    return Response(to_json(value), headers=_HEADERS, media_type="application/json")
