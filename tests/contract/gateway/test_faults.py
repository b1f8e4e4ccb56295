"""What a client gets when cells or clients go away: no token twice, none lost, nothing left."""

import asyncio
import logging
from contextlib import suppress

import grpc
import pytest

from shared.errors import (
    ContextExceeded,
    DeadlineExceeded,
    Internal,
    InvalidRequest,
    ModelNotFound,
    NoCell,
    PoolExhausted,
    QueueFull,
    RateLimited,
    ShortstackError,
    WorkerDraining,
    WorkerLost,
)
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.shortstack_pb2_grpc import GatewayServiceStub
from tests.contract.gateway.conftest import TEXT, StartCells
from tests.contract.gateway.fake_verify_worker import EOS_ID, FakeVerifyWorker, Trouble
from tests.polling import poll_until

# A transport that does not grow its buffers soon has no room.
SMALL_BUFFERS = [("grpc.http2.bdp_probe", 0)]


def troubled_and_whole(
    ids: list[int], trouble: Trouble
) -> tuple[FakeVerifyWorker, FakeVerifyWorker]:
    """Return a cell with trouble that is taken first, and one without."""
    first = FakeVerifyWorker(ids, cell_id="first", trouble=trouble)
    # The router takes the cell with more room; this one looks busy.
    second = FakeVerifyWorker(ids, cell_id="second")
    second.num_running = 4
    return first, second


@pytest.mark.parametrize(
    "trouble",
    [Trouble(dies_at=10), Trouble(dies_at=0), Trouble(moves_at=10), Trouble(moves_at=0)],
    ids=["dies", "dies_before_the_first_token", "moved", "moved_before_the_first_token"],
)
async def test_a_request_goes_on_elsewhere_with_exactly_the_same_ids(
    start: StartCells, completion_ids: list[int], trouble: Trouble
) -> None:
    first, second = troubled_and_whole(completion_ids, trouble)
    client = await start(first, second)
    answer = await client.ask(sampling={"temperature": 1.0})
    assert answer.ids == completion_ids
    assert answer.text == TEXT
    assert answer.finished.num_replays == 1
    assert answer.finished.num_emitted == len(completion_ids)
    assert answer.started.cell_id == "first"
    replay, original = second.requests[0], first.requests[0]
    # What a dying cell sent last may be lost on the way, and is then made again.
    assert replay.num_emitted <= (trouble.dies_at or trouble.moves_at or 0)
    assert list(replay.token_ids) == [
        *original.token_ids,
        *completion_ids[: replay.num_emitted],
    ]
    assert replay.sampling == original.sampling
    assert replay.stop == original.stop
    assert replay.session_id != original.session_id


@pytest.mark.parametrize(
    ("last_id", "stop", "reason"),
    [
        (7, {"max_new_tokens": 5}, pb.FINISH_REASON_LENGTH),
        (EOS_ID, {}, pb.FINISH_REASON_STOP),
        (8, {"stop_token_ids": [8]}, pb.FINISH_REASON_STOP),
    ],
    ids=["limit", "end_of_sequence", "stop_id"],
)
async def test_a_cell_lost_behind_the_last_token_ends_the_request_as_that_token_says(
    start: StartCells, last_id: int, stop: dict[str, object], reason: int
) -> None:
    ids = [3, 4, 5, 6, last_id]
    first, second = troubled_and_whole(ids, Trouble(moves_at=5))
    client = await start(first, second)
    answer = await client.ask(stop=stop)
    assert answer.ids == ids
    assert answer.finished.finish_reason == reason
    assert answer.finished.num_replays == 0
    assert not second.requests


@pytest.mark.parametrize(
    "error",
    [WorkerDraining("it drains"), PoolExhausted("no pages", retry_delay_ms=5), QueueFull("full")],
    ids=lambda error: type(error).__name__,
)
async def test_a_cell_that_refuses_is_passed_over(
    start: StartCells, completion_ids: list[int], error: ShortstackError
) -> None:
    client = await start(*troubled_and_whole(completion_ids, Trouble(refuses_with=error)))
    answer = await client.ask()
    assert answer.ids == completion_ids
    assert answer.started.cell_id == "second"


async def test_what_only_a_cell_can_judge_is_its_to_refuse(
    start: StartCells, completion_ids: list[int]
) -> None:
    error = InvalidRequest("no such method", field="speculation.method")
    first, second = troubled_and_whole(completion_ids, Trouble(refuses_with=error))
    client = await start(first, second)
    with pytest.raises(InvalidRequest, match="no such method") as caught:
        await client.ask(speculation={"method": "magic"})
    assert caught.value.field == "speculation.method"
    assert not second.requests


async def test_without_another_cell_the_reason_is_told(
    start: StartCells, completion_ids: list[int]
) -> None:
    client = await start(FakeVerifyWorker(completion_ids, trouble=Trouble(moves_at=4)))
    with pytest.raises(NoCell, match=r"no other cell serves 'small'.*drain timeout"):
        await client.ask()


async def test_without_room_anywhere_the_delay_is_told(
    start: StartCells, completion_ids: list[int]
) -> None:
    full = Trouble(refuses_with=PoolExhausted("no pages left", retry_delay_ms=250))
    client = await start(FakeVerifyWorker(completion_ids, trouble=full))
    with pytest.raises(PoolExhausted, match="no pages left") as caught:
        await client.ask()
    assert caught.value.retry_delay_ms == 250


async def test_under_load_one_other_cell_is_asked_and_the_shortest_delay_is_told(
    start: StartCells, completion_ids: list[int]
) -> None:
    delays_ms = [900, 300, 0]
    workers = [
        FakeVerifyWorker(
            completion_ids,
            cell_id=f"cell-{index}",
            trouble=Trouble(refuses_with=QueueFull("full", retry_delay_ms=delay_ms)),
        )
        for index, delay_ms in enumerate(delays_ms)
    ]
    client = await start(*workers)
    with pytest.raises(QueueFull, match="full") as caught:
        await client.ask()
    asked_ms = [
        delay_ms
        for worker, delay_ms in zip(workers, delays_ms, strict=True)
        if worker.requests and delay_ms
    ]
    assert sum(len(worker.requests) for worker in workers) == 2
    assert caught.value.retry_delay_ms == min(asked_ms)


async def test_without_replays_another_cell_is_still_asked_for_room(
    start: StartCells, completion_ids: list[int]
) -> None:
    full = Trouble(refuses_with=QueueFull("full", retry_delay_ms=5))
    client = await start(*troubled_and_whole(completion_ids, full), max_replays=0)
    answer = await client.ask()
    assert answer.ids == completion_ids
    assert answer.finished.num_replays == 0


async def test_a_request_that_was_running_asks_every_cell_for_room(
    start: StartCells, completion_ids: list[int]
) -> None:
    full = Trouble(refuses_with=QueueFull("full", retry_delay_ms=5))
    first, last = troubled_and_whole(completion_ids, Trouble(moves_at=10))
    fulls = [
        FakeVerifyWorker(completion_ids, cell_id=f"full-{index}", trouble=full)
        for index in range(3)
    ]
    for worker in fulls:
        worker.num_running = 2
    client = await start(first, *fulls, last, max_replays=1)
    # Until the one that moves it is drawn: a new request gives up behind two that are full.
    answer = None
    while not first.requests:
        answer = None
        with suppress(QueueFull):
            answer = await client.ask()
    assert answer is not None, "it was running: it is owed its end"
    assert answer.ids == completion_ids
    assert answer.finished.num_replays == 1


async def test_replays_are_limited(start: StartCells, completion_ids: list[int]) -> None:
    lost = Trouble(refuses_with=WorkerLost("gone"))
    workers = [
        FakeVerifyWorker(completion_ids, cell_id=f"cell-{index}", trouble=lost)
        for index in range(4)
    ]
    client = await start(*workers, max_replays=2)
    with pytest.raises(NoCell, match="2 replays"):
        await client.ask()
    assert sum(len(worker.requests) for worker in workers) == 3


async def test_a_request_that_ends_one_cell_after_another_is_not_replayed_for_ever(
    start: StartCells, completion_ids: list[int]
) -> None:
    workers = [
        FakeVerifyWorker(completion_ids, cell_id=f"cell-{index}", trouble=Trouble(dies_at=4))
        for index in range(4)
    ]
    client = await start(*workers, max_replays=1)
    with pytest.raises(Internal, match="ended 2 cells"):
        await client.ask()


async def test_a_bug_in_a_worker_is_no_reason_to_replay(
    start: StartCells, completion_ids: list[int]
) -> None:
    first, second = troubled_and_whole(completion_ids, Trouble(fails_at=4))
    client = await start(first, second)
    with pytest.raises(Internal, match="a bug in the worker"):
        await client.ask()
    assert not second.requests


async def test_without_any_cell_it_is_said_at_once(start: StartCells) -> None:
    client = await start()
    with pytest.raises(NoCell, match="no cell serves 'small'"):
        await client.ask()


async def test_a_cell_that_comes_later_is_found(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    worker.is_draining = True

    async def is_served() -> bool:
        try:
            await client.ask()
        except NoCell:
            return False
        return True

    await poll_until(
        lambda: not client.gateway._cells.cells or client.gateway._cells.cells[0].is_draining
    )
    assert not await is_served()
    worker.is_draining = False
    await poll_until(is_served)


async def test_closing_the_stream_cancels_the_cells_call(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker)
    call = client.stub.GenerateText(pb.GenerateTextRequest(prompt="So:"))
    assert (await call.read()).HasField("started")
    await poll_until(lambda: worker.num_running == 1)
    call.cancel()
    await poll_until(lambda: worker.num_running == 0)
    assert worker.num_cancelled == 1


async def test_a_request_is_cancelled_by_its_id(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker)
    running = asyncio.create_task(client.ask(request_id="mine"))
    await poll_until(lambda: worker.num_running == 1)
    answer = await client.stub.Cancel(pb.CancelRequest(request_id="mine"))
    assert answer.was_running
    ended = await running
    assert ended.finished.finish_reason == pb.FINISH_REASON_CANCELLED
    assert ended.finished.num_emitted == len(ended.ids) <= 4
    await poll_until(lambda: worker.num_running == 0)
    again = await client.stub.Cancel(pb.CancelRequest(request_id="mine"))
    assert not again.was_running


async def test_a_request_in_the_queue_is_cancelled_by_its_id(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, max_concurrent_requests=1)
    first = asyncio.create_task(client.ask(request_id="first"))
    await poll_until(lambda: worker.num_running == 1)
    second = asyncio.create_task(client.ask(request_id="second"))
    await poll_until(lambda: client.gateway._admission.num_waiting == 1)
    assert (await client.stub.Cancel(pb.CancelRequest(request_id="second"))).was_running
    assert (await second).finished.finish_reason == pb.FINISH_REASON_CANCELLED
    assert (await client.stub.Cancel(pb.CancelRequest(request_id="first"))).was_running
    await first
    assert len(worker.requests) == 1


async def test_a_client_that_has_stopped_reading_is_cut_off_when_its_request_is_cancelled(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids * 30_000, round_len=300, max_context_len=10**6)
    client = await start(worker, max_new_tokens=10**6)
    request = pb.GenerateTextRequest(
        request_id="mine", prompt="So:", stop={"max_new_tokens": 500_000}, num_logprobs=0
    )
    async with grpc.aio.insecure_channel(client.gateway.address, SMALL_BUFFERS) as channel:
        call = GatewayServiceStub(channel).GenerateText(request)
        assert (await call.read()).HasField("started")
        seen = [-3, -2, -1]

        def is_stuck() -> bool:
            seen.append(worker.num_rounds)
            return len(set(seen[-4:])) == 1 and seen[-1] > 0

        await poll_until(is_stuck, period_s=0.3)
        assert worker.num_running == 1
        assert (await client.stub.Cancel(pb.CancelRequest(request_id="mine"))).was_running
        await poll_until(lambda: worker.num_running == 0)
        with pytest.raises(grpc.aio.AioRpcError, match="cancelled by request id"):
            while await call.read() is not grpc.aio.EOF:
                pass


async def test_a_client_that_has_stopped_reading_loses_its_place_and_its_session(
    start: StartCells, completion_ids: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    num_tokens = 500_000
    worker = FakeVerifyWorker(completion_ids * 30_000, round_len=300, max_context_len=10**6)
    client = await start(
        worker, max_new_tokens=10**6, max_concurrent_requests=1, slow_reader_timeout_ms=300
    )
    async with grpc.aio.insecure_channel(client.gateway.address, SMALL_BUFFERS) as channel:
        call = GatewayServiceStub(channel).GenerateText(
            pb.GenerateTextRequest(
                prompt="So:", stop={"max_new_tokens": num_tokens}, num_logprobs=0
            )
        )
        assert (await call.read()).HasField("started")
        await poll_until(lambda: worker.num_running == 0, timeout_s=30.0)
        await poll_until(lambda: client.gateway._admission.num_running == 0)
        # The cell was not read on while the client took nothing.
        assert 0 < worker.num_rounds * 300 < num_tokens / 2
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await call.read() is not grpc.aio.EOF:
                pass
        assert caught.value.code() is grpc.StatusCode.CANCELLED
        assert "has taken nothing for 0.3 s" in caught.value.details()
    assert "slow reader cut off" in [record.message for record in caplog.records]
    [finished] = [record for record in caplog.records if record.message == "request finished"]
    assert finished.__dict__["finish_reason"] == "slow_reader"
    # The place is free again, and a client that reads gets its whole answer.
    assert len((await client.ask(stop={"max_new_tokens": 5})).ids) == 5


async def test_an_id_that_is_running_cannot_be_taken_twice(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker)
    running = asyncio.create_task(client.ask(request_id="mine"))
    await poll_until(lambda: worker.num_running == 1)
    with pytest.raises(InvalidRequest, match="is running"):
        await client.ask(request_id="mine")
    await client.stub.Cancel(pb.CancelRequest(request_id="mine"))
    await running


async def test_the_clients_deadline_ends_the_cells_call(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker)
    with pytest.raises(DeadlineExceeded):
        await client.ask(timeout_s=0.3)
    await poll_until(lambda: worker.num_running == 0)


async def test_the_gateways_own_timeout_ends_a_request(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, request_timeout_ms=200)
    with pytest.raises(DeadlineExceeded):
        await client.ask()
    await poll_until(lambda: worker.num_running == 0)


async def test_a_full_gateway_refuses_with_a_delay(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, max_concurrent_requests=1, max_queued_requests=0)
    running = asyncio.create_task(client.ask(request_id="mine"))
    await poll_until(lambda: worker.num_running == 1)
    with pytest.raises(QueueFull) as caught:
        await client.ask()
    assert caught.value.retry_delay_ms > 0
    await client.stub.Cancel(pb.CancelRequest(request_id="mine"))
    await running


async def test_a_tenants_own_bounds_leave_the_others_alone(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, max_running_per_tenant=1)
    admission = client.gateway._admission
    running = []
    for name, tenant in (("first", "ann"), ("second", "ann"), ("third", "bob")):
        running.append(asyncio.create_task(client.ask(request_id=name, tenant=tenant)))
        count = len(running)
        await poll_until(lambda count=count: admission.num_running + admission.num_waiting == count)
    await poll_until(lambda: worker.num_running == 2)
    assert (admission.num_running, admission.num_waiting) == (2, 1)
    assert {request.tenant for request in worker.requests} == {"ann", "bob"}
    await client.stub.Cancel(pb.CancelRequest(request_id="first"))
    await poll_until(lambda: len(worker.requests) == 3)
    for name in ("second", "third"):
        await client.stub.Cancel(pb.CancelRequest(request_id=name))
    await asyncio.gather(*running)


async def test_a_tenant_over_its_rate_is_told_when_to_come_back(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker, tenant_tokens_per_s=0.01, tenant_burst_tokens=30)
    ask = {"stop": {"max_new_tokens": 20}, "token_ids": {"ids": [5]}}
    await client.ask(tenant="ann", **ask)
    with pytest.raises(RateLimited) as caught:
        await client.ask(tenant="ann", **ask)
    assert 500_000 < caught.value.retry_delay_ms <= 1_200_000
    assert (await client.ask(tenant="bob", **ask)).ids


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"prompt": ""}, InvalidRequest, "prompt"),
        ({"token_ids": {"ids": [9999]}}, InvalidRequest, "token_ids"),
        ({"token_ids": {"ids": [5] * 30}}, ContextExceeded, "prompt"),
        ({"stop": {"max_new_tokens": 30}}, ContextExceeded, "stop.max_new_tokens"),
        ({"stop": {"max_new_tokens": 5000}}, InvalidRequest, "stop.max_new_tokens"),
        ({"sampling": {"top_p": 2}}, InvalidRequest, "sampling.top_p"),
        ({"stop_strings": [""]}, InvalidRequest, "stop_strings"),
        ({"model": "large"}, ModelNotFound, ""),
    ],
)
async def test_a_bad_request_is_refused_before_any_work(
    start: StartCells, completion_ids: list[int], fields: dict[str, object],
    error: type[ShortstackError], field: str,
) -> None:  # fmt: skip
    worker = FakeVerifyWorker(completion_ids, max_context_len=30)
    client = await start(worker)
    with pytest.raises(error) as caught:
        await client.ask(**fields)
    assert type(caught.value) is error
    assert caught.value.field in (field, "model")
    assert not worker.requests


async def test_draining_lets_running_requests_finish_and_refuses_new_ones(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker)
    running = asyncio.create_task(client.ask(request_id="mine"))
    await poll_until(lambda: worker.num_running == 1)
    drain = asyncio.create_task(client.gateway.drain())
    await poll_until(lambda: client.gateway._admission._is_closed)
    with pytest.raises(WorkerDraining):
        await client.ask()
    assert not drain.done()
    await client.stub.Cancel(pb.CancelRequest(request_id="mine"))
    await running
    await drain


async def test_what_outlasts_the_drain_is_told_to_try_again(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids, trouble=Trouble(hangs_at=4))
    client = await start(worker, drain_timeout_ms=50)
    running = asyncio.create_task(client.ask())
    await poll_until(lambda: worker.num_rounds >= 1)
    await client.gateway.drain()
    with pytest.raises(WorkerDraining) as caught:
        await running
    assert caught.value.retry_delay_ms
    await poll_until(lambda: worker.num_running == 0)


async def test_cells_that_are_restarted_one_by_one_lose_no_request(
    start: StartCells, completion_ids: list[int]
) -> None:
    moving = [Trouble(moves_at=4), Trouble(moves_at=8), Trouble(moves_at=12), Trouble()]
    workers = [
        FakeVerifyWorker(completion_ids, cell_id=f"cell-{index}", trouble=trouble)
        for index, trouble in enumerate(moving)
    ]
    # More moves than replays are allowed: no request is the cause of a restart.
    client = await start(*workers, max_replays=1)
    answers = await asyncio.gather(*(client.ask() for _ in range(8)))
    assert all(answer.ids == completion_ids for answer in answers)
