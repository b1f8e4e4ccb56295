"""What a client is told of the sessions of all cells."""

import pytest

from shared.errors import InvalidRequest, SessionNotFound
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import translated_errors
from tests.contract.gateway.conftest import Client, StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble

Timeline = pb.VerifyServiceGetSessionTimelineResponse


def timeline(cell_id: str, session_id: str, draft_lens: list[int], **fields: object) -> Timeline:
    """Return what a cell tells of a session."""
    session = pb.SessionState(session_id=session_id, cell_id=cell_id, **fields)  # type: ignore[arg-type]
    return Timeline(session=session, rounds=pb.RoundColumns(draft_lens=draft_lens))


def cell(name: str, *timelines: Timeline, trouble: Trouble | None = None) -> FakeVerifyWorker:
    """Return a fake cell with scripted sessions."""
    return FakeVerifyWorker([], cell_id=name, timelines=timelines, trouble=trouble)


async def sessions(client: Client, *, with_ended: bool = False) -> pb.ListSessionsResponse:
    """List the sessions."""
    with translated_errors():
        request = pb.ListSessionsRequest(with_ended=with_ended)
        answer: pb.ListSessionsResponse = await client.stub.ListSessions(request)
    return answer


async def timeline_of(client: Client, session_id: str) -> pb.GetSessionTimelineResponse:
    """Return one session's rounds."""
    with translated_errors():
        request = pb.GetSessionTimelineRequest(session_id=session_id)
        answer: pb.GetSessionTimelineResponse = await client.stub.GetSessionTimeline(request)
    return answer


def names(answer: pb.ListSessionsResponse) -> list[tuple[str, str]]:
    """Return cell and id of each session."""
    return [(each.cell_id, each.session_id) for each in answer.sessions]


async def test_the_sessions_of_all_cells_are_listed(start: StartCells) -> None:
    ended = timeline("a", "old", [1], has_ended=True)
    client = await start(
        cell("a", timeline("a", "s1", [1]), ended), cell("b", timeline("b", "s2", [2]))
    )
    running = await sessions(client)
    assert names(running) == [("a", "s1"), ("b", "s2")]
    assert not running.unanswered_cells
    everything = await sessions(client, with_ended=True)
    assert names(everything) == [("a", "s1"), ("a", "old"), ("b", "s2")]


async def test_without_cells_the_list_is_empty(start: StartCells) -> None:
    assert await sessions(await start()) == pb.ListSessionsResponse()


async def test_cells_that_do_not_answer_are_named(start: StartCells) -> None:
    mute = cell("mute", timeline("mute", "s1", [1]), trouble=Trouble(is_mute=True))
    client = await start(cell("a", timeline("a", "s2", [2])), mute)
    answer = await sessions(client)
    assert names(answer) == [("a", "s2")]
    (unanswered,) = answer.unanswered_cells
    assert (unanswered.cell_id, unanswered.address) == ("mute", mute.address)
    assert unanswered.error
    # Nor does it keep others from being found.
    assert list((await timeline_of(client, "s2")).rounds.draft_lens) == [2]


async def test_a_session_is_found_by_its_id_on_whichever_cell(start: StartCells) -> None:
    client = await start(
        cell("a", timeline("a", "s1", [1, 0])), cell("b", timeline("b", "s2", [3, 4]))
    )
    for session_id, cell_id, draft_lens in (("s1", "a", [1, 0]), ("s2", "b", [3, 4])):
        answer = await timeline_of(client, session_id)
        assert (answer.session.session_id, answer.session.cell_id) == (session_id, cell_id)
        assert list(answer.rounds.draft_lens) == draft_lens


async def test_of_equal_ids_the_running_session_is_meant(start: StartCells) -> None:
    ended = timeline("a", "s", [1], has_ended=True, age_ms=5)
    client = await start(cell("a", ended), cell("b", timeline("b", "s", [2], age_ms=9)))
    assert (await timeline_of(client, "s")).session.cell_id == "b"


async def test_an_unknown_session_is_told(start: StartCells) -> None:
    client = await start(
        cell("a", timeline("a", "s1", [1])), cell("mute", trouble=Trouble(is_mute=True))
    )
    with pytest.raises(SessionNotFound, match=r"no cell knows a session 's9'.*no answer from mute"):
        await timeline_of(client, "s9")
    with pytest.raises(InvalidRequest) as raised:
        await timeline_of(client, "")
    assert raised.value.field == "session_id"
