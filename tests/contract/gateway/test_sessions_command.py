"""`shortstack sessions` before a gateway with scripted cells."""

import json
from pathlib import Path

import pytest

from shared.errors import SessionNotFound
from shared.ids import SessionId
from shared.rpc import shortstack_pb2 as pb
from shortstack.client import Client
from shortstack.commands.sessions import show_all, show_one
from shortstack.connect import Destination
from shortstack.errors import CommandError, UsageError
from tests.contract.gateway.conftest import StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker


def timeline(
    session_id: str, draft_lens: list[int], **fields: object
) -> pb.VerifyServiceGetSessionTimelineResponse:
    """Return a session whose drafts were all kept but one of each."""
    num_rounds = len(draft_lens)
    kept = [max(0, draft_len - 1) for draft_len in draft_lens]
    state = pb.SessionState(
        session_id=session_id,
        cell_id="cell-a",
        method="layerskip",
        exit_layer=2,
        max_draft_len=4,
        stop_threshold=0.7,
        policy="goodput",
        reason="policy",
        num_rounds=num_rounds,
        num_draft_tokens=sum(draft_lens),
        num_accepted_tokens=sum(kept),
        **fields,  # type: ignore[arg-type]
    )
    rounds = pb.RoundColumns(
        round_indices=range(1, num_rounds + 1),
        positions=range(20, 20 + num_rounds),
        at_ns=range(num_rounds),
        round_ns=[10_000_000] * num_rounds,
        method_names=["layerskip"],
        methods=[0] * num_rounds,
        exit_layers=[2] * num_rounds,
        max_draft_lens=[4] * num_rounds,
        stop_thresholds=[0.7] * num_rounds,
        draft_lens=draft_lens,
        nums_accepted=kept,
        nums_emitted=[each + 1 for each in kept],
        reason_names=["policy"],
        reasons=[0] * num_rounds,
        are_alarms=[False] * num_rounds,
    )
    return pb.VerifyServiceGetSessionTimelineResponse(session=state, rounds=rounds)


@pytest.fixture
async def destination(start: StartCells) -> Destination:
    """A gateway before one cell with three sessions."""
    timelines = [
        timeline("ses-one", [4, 4, 3]),
        timeline("ses-other", []),
        timeline("old", [2], has_ended=True, finish_reason=pb.FINISH_REASON_LENGTH),
    ]
    client = await start(FakeVerifyWorker([], timelines=timelines))
    return Destination(client.gateway.address)


async def test_the_table_is_printed_once(
    destination: Destination, capsys: pytest.CaptureFixture[str]
) -> None:
    await show_all(destination, once=True, as_json=False, with_ended=False)
    out = capsys.readouterr().out
    assert "ses-one" in out
    assert "ses-other" in out
    assert "old" not in out
    assert "the policy's own choice" in out


async def test_json_is_an_object_per_session(
    destination: Destination, capsys: pytest.CaptureFixture[str]
) -> None:
    await show_all(destination, once=False, as_json=True, with_ended=True)
    listed = json.loads(capsys.readouterr().out)
    assert [each["session_id"] for each in listed["sessions"]] == ["ses-one", "ses-other", "old"]
    assert [each["finish_reason"] for each in listed["sessions"]] == [None, None, "length"]
    assert listed["sessions"][0]["stop_threshold"] == 0.7
    assert listed["unanswered_cells"] == []
    await show_one(destination, "ses-one", as_json=True, plot=None)
    told = json.loads(capsys.readouterr().out)
    assert told["session"]["session_id"] == "ses-one"
    assert [each["draft_len"] for each in told["rounds"]] == [4, 4, 3]


async def test_a_session_is_shown_by_the_beginning_of_its_id(
    destination: Destination, capsys: pytest.CaptureFixture[str]
) -> None:
    await show_one(destination, "ses-on", as_json=False, plot=None)
    out = capsys.readouterr().out
    assert out.startswith("ses-one on cell-a")
    assert "1-3" in out
    with pytest.raises(UsageError, match="begins 2 ids: ses-one, ses-other"):
        await show_one(destination, "ses-o", as_json=False, plot=None)
    with pytest.raises(SessionNotFound, match="no cell knows a session 'nobody'"):
        await show_one(destination, "nobody", as_json=False, plot=None)


async def test_a_session_is_drawn(destination: Destination, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "session.png"
    await show_one(destination, "ses-one", as_json=False, plot=file)
    assert file.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CommandError, match="ses-other has no round yet"):
        await show_one(destination, "ses-other", as_json=False, plot=tmp_path / "other.png")
    assert not (tmp_path / "other.png").exists()


async def test_the_client_gives_plain_values(destination: Destination) -> None:
    assert destination.target is not None
    async with Client(destination.target) as client:
        listed = await client.list_sessions()
        assert [each.session_id for each in listed.sessions] == ["ses-one", "ses-other"]
        assert listed.sessions[0].acceptance_rate == pytest.approx(8 / 11)
        assert listed.sessions[1].acceptance_rate is None
        told = await client.session_timeline(SessionId("ses-one"))
        assert [each.num_emitted for each in told.rounds] == [4, 4, 3]
        assert told.rounds[0].method == "layerskip"
