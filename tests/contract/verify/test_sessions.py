"""What a verify worker tells of its sessions, over a real port; the log is written by hand."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from services.verify.cell import Cell
from services.verify.servicer import VerifyServicer
from services.verify.session_log import SessionLog
from shared.errors import InvalidRequest, SessionNotFound
from shared.ids import TokenId
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as pb_grpc
from shared.rpc.channel import open_channel, translated_errors
from shared.rpc.server import ServiceServer
from shared.speculation.vocabulary import LAYERSKIP, PLAIN_DECISION, Decision, FinishReason
from tests.unit.verify.builders import make_session

SERVICE = "shortstack.v1.VerifyService"


@dataclass
class LoggedCell:
    """As much of a cell as answers about sessions need."""

    session_log: SessionLog = field(default_factory=SessionLog)
    settings: Any = field(
        default_factory=lambda: SimpleNamespace(verify=SimpleNamespace(cell_id="cell-7"))
    )


@pytest.fixture
def log() -> SessionLog:
    """A log with a session that runs and one that ended."""
    log = SessionLog()
    for session_id in ("old", "s"):
        session = make_session(session_id, num_generated=1, tenant="ann", arrived_ns=1)
        session.first_token_ns = 1_000
        log.open(session)
        for draft_len, num_accepted in ((4, 2), (0, 0)):
            session.tokens += [TokenId(9)] * (num_accepted + 1)
            session.round_index += 1
            decision = Decision(LAYERSKIP, 2, 4) if draft_len else PLAIN_DECISION
            log.note(session, decision, draft_len, num_accepted, num_accepted + 1, 2_000)
        if session_id == "old":
            log.end(session, FinishReason.STOP)
    return log


@pytest.fixture
async def stub(log: SessionLog) -> AsyncIterator[pb_grpc.VerifyServiceStub]:
    """A client of the worker."""

    async def drain(timeout_s: float) -> None:
        raise AssertionError("nobody asked for that")

    server = ServiceServer([SERVICE])
    servicer = VerifyServicer(cast(Cell, LoggedCell(log)), drain)
    pb_grpc.add_VerifyServiceServicer_to_server(servicer, server.grpc_server)
    address = server.bind("127.0.0.1:0")
    await server.start()
    async with open_channel(address) as channel:
        yield pb_grpc.VerifyServiceStub(channel)
    await server.stop(0)


async def test_running_sessions_are_listed_and_ended_ones_when_asked_for(
    stub: pb_grpc.VerifyServiceStub,
) -> None:
    running = await stub.ListSessions(pb.VerifyServiceListSessionsRequest())
    (state,) = running.sessions
    assert (state.session_id, state.cell_id, state.tenant) == ("s", "cell-7", "ann")
    assert (state.num_rounds, state.num_plain_rounds, state.num_emitted) == (2, 1, 5)
    assert (state.num_draft_tokens, state.num_accepted_tokens) == (4, 2)
    assert not state.has_ended
    everything = await stub.ListSessions(pb.VerifyServiceListSessionsRequest(with_ended=True))
    assert [each.session_id for each in everything.sessions] == ["s", "old"]
    assert everything.sessions[1].finish_reason == pb.FINISH_REASON_STOP


async def test_a_timeline_has_a_row_in_every_column_per_round(
    stub: pb_grpc.VerifyServiceStub,
) -> None:
    request = pb.VerifyServiceGetSessionTimelineRequest(session_id="old")
    answer = await stub.GetSessionTimeline(request)
    assert answer.session.has_ended
    rounds = answer.rounds
    assert list(rounds.draft_lens) == [4, 0]
    assert [rounds.method_names[index] for index in rounds.methods] == [LAYERSKIP, "off"]
    columns = [
        field.name for field in rounds.DESCRIPTOR.fields if not field.name.endswith("_names")
    ]
    assert {len(getattr(rounds, name)) for name in columns} == {2}


async def test_an_unknown_session_is_not_found(stub: pb_grpc.VerifyServiceStub) -> None:
    with pytest.raises(SessionNotFound, match="no session 'x'"), translated_errors():
        await stub.GetSessionTimeline(pb.VerifyServiceGetSessionTimelineRequest(session_id="x"))
    with pytest.raises(InvalidRequest) as raised, translated_errors():
        await stub.GetSessionTimeline(pb.VerifyServiceGetSessionTimelineRequest())
    assert raised.value.field == "session_id"
