"""What cells and sessions do, as JSON: what gRPC says of them, at the price of one asker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest

from services.gateway.cell_reports import CellReporter
from services.gateway.cells import CellChannels
from shared.control.registry import CellLease
from shared.ids import BootId, CellId, WorkerId
from shared.rpc import shortstack_pb2 as pb
from tests.contract.gateway.conftest import Client, StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble
from tests.contract.hosts import free_tcp_address
from tests.polling import poll_until

HTTP = {"http_listen": "127.0.0.1:0"}
SESSIONS = "/v1/shortstack/sessions"
RUNNING = pb.SessionState(
    session_id="ses-1",
    cell_id="cell-a",
    method="layerskip",
    exit_layer=2,
    max_draft_len=4,
    stop_threshold=0.1,
    policy="goodput",
    reason="policy",
    num_emitted=20,
    num_rounds=6,
    num_draft_tokens=20,
    num_accepted_tokens=15,
    tokens_per_s=50.5,
    mean_emitted_len=3.5,
)
ENDED = pb.SessionState(
    session_id="ses/2",
    cell_id="cell-a",
    method="off",
    has_ended=True,
    finish_reason=pb.FINISH_REASON_STOP,
)
ROUNDS = pb.RoundColumns(
    round_indices=[1, 2],
    positions=[5, 9],
    method_names=["layerskip", "off"],
    methods=[0, 1],
    exit_layers=[2, 0],
    max_draft_lens=[4, 0],
    stop_thresholds=[0.1, 0.0],
    draft_lens=[4, 0],
    nums_accepted=[3, 0],
    nums_emitted=[4, 1],
    reason_names=["policy", "probe"],
    reasons=[0, 1],
    are_alarms=[False, True],
)


def cell(*, is_mute: bool = False, cell_id: str = "cell-a") -> FakeVerifyWorker:
    """Return a fake cell with both sessions."""
    timelines = [
        pb.VerifyServiceGetSessionTimelineResponse(session=session, rounds=ROUNDS)
        for session in (RUNNING, ENDED)
    ]
    trouble = Trouble(is_mute=is_mute)
    return FakeVerifyWorker([5] * 9, cell_id=cell_id, timelines=timelines, trouble=trouble)


@asynccontextmanager
async def http_of(client: Client) -> AsyncIterator[httpx2.AsyncClient]:
    """Open a client of a gateway's HTTP face."""
    async with httpx2.AsyncClient(base_url=client.gateway.http_url) as http:
        yield http


async def test_sessions_are_told_by_their_names_on_the_wire(start: StartCells) -> None:
    async with http_of(await start(cell(), **HTTP)) as http:
        answer = await http.get(SESSIONS)
        everything = (await http.get(SESSIONS, params={"with_ended": "true"})).json()
    assert answer.headers["cache-control"] == "no-store"
    (running,) = answer.json()["sessions"]
    assert running.keys() - {"acceptance_rate"} == {
        field.name for field in pb.SessionState.DESCRIPTOR.fields
    }
    assert (running["session_id"], running["acceptance_rate"]) == ("ses-1", 0.75)
    assert (running["stop_threshold"], running["finish_reason"]) == (0.1, None)
    assert everything["unanswered_cells"] == []
    ended = everything["sessions"][1]
    assert (ended["session_id"], ended["finish_reason"]) == ("ses/2", "stop")
    assert ended["acceptance_rate"] is None


async def test_a_timeline_comes_as_columns(start: StartCells) -> None:
    async with http_of(await start(cell(), **HTTP)) as http:
        told = (await http.get(f"{SESSIONS}/ses-1/timeline")).json()
        missing = await http.get(f"{SESSIONS}/absent/timeline")
    assert told["session"]["session_id"] == "ses-1"
    rounds = told["rounds"]
    assert rounds["stop_thresholds"] == [0.1, 0.0]
    assert rounds["are_alarms"] == [False, True]
    assert rounds["reason_names"] == ["policy", "probe"]
    assert rounds["nums_accepted"] == [3, 0]
    assert rounds.keys() == {field.name for field in pb.RoundColumns.DESCRIPTOR.fields}
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "session_not_found"


async def test_cells_that_keep_silent_are_named(start: StartCells) -> None:
    client = await start(cell(), cell(is_mute=True, cell_id="mute"), **HTTP)
    async with http_of(client) as http:
        told = (await http.get(SESSIONS)).json()
    assert [each["session_id"] for each in told["sessions"]] == ["ses-1"]
    (silent,) = told["unanswered_cells"]
    assert silent["cell_id"] == "mute"
    assert silent["error"]


async def test_many_who_watch_cost_as_one(start: StartCells) -> None:
    worker = cell()
    async with http_of(await start(worker, **HTTP)) as http:
        answers = await asyncio.gather(*(http.get(SESSIONS) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert worker.num_listed == 1


async def test_a_malformed_wish_is_refused(start: StartCells) -> None:
    async with http_of(await start(**HTTP)) as http:
        answer = await http.get(SESSIONS, params={"with_ended": "perhaps"})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "with_ended"


async def test_cells_are_told_with_their_load_and_pages(start: StartCells) -> None:
    async with http_of(await start(cell(), **HTTP)) as http:
        told = (await http.get("/v1/shortstack/cells")).json()
    (only,) = told["cells"]
    assert (only["cell_id"], only["error"], only["num_draft_workers"]) == ("cell-a", None, 1)
    assert (only["num_sessions"], only["max_sessions"], only["num_layers"]) == (0, 8, 4)
    assert only["pages"] == {
        "num_pages": 10, "num_free": 10, "num_used": 0, "num_quarantined": 0, "num_cached": 0,
    }  # fmt: skip


async def test_without_cells_there_is_still_an_answer(start: StartCells) -> None:
    async with http_of(await start(**HTTP)) as http:
        assert (await http.get("/v1/shortstack/cells")).json()["cells"] == []
        assert (await http.get(SESSIONS)).json() == {"sessions": [], "unanswered_cells": []}


async def test_a_cell_that_does_not_answer_is_told_by_its_lease() -> None:
    lease = CellLease(
        CellId("gone"), WorkerId("w"), BootId(1), free_tcp_address(), "small", "f", 3, 8, 5, 1
    )
    channels = CellChannels()
    (report,) = await CellReporter(lambda: [lease], channels).report()
    await channels.close()
    assert (report.lease, report.info) == (lease, None)
    assert report.error


@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_was_emitted_is_counted(start: StartCells, is_stream: bool) -> None:
    async with http_of(await start(cell(), **HTTP)) as http:
        ask = {"prompt": "So:", "max_tokens": 7, "stream": is_stream}
        assert (await http.post("/v1/completions", json=ask)).status_code == 200

        async def is_counted() -> bool:
            throughput = (await http.get("/v1/shortstack/cells")).json()["throughput"]
            assert len(throughput["tokens_per_s"]) == throughput["window_s"]
            return bool(sum(throughput["tokens_per_s"]) == 7)

        # Told once its second is over.
        await poll_until(is_counted)
