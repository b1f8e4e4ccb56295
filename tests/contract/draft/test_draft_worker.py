"""DraftService on real ports: attachment, rounds, repeats, refusals, info, health, reflection."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from shared.model.segment import is_lock_free
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.status import from_rpc_error
from tests.contract.draft.conftest import Pair
from tests.contract.hosts import health_of, reflected_services
from tests.engine_harness import BOOT_ID
from tests.model_builder import NUM_LAYERS
from tests.polling import poll_until

FAILED_PRECONDITION = grpc.StatusCode.FAILED_PRECONDITION
INVALID_ARGUMENT = grpc.StatusCode.INVALID_ARGUMENT


class RoundStream:
    """The verify worker's end of the pair's stream."""

    def __init__(self, pair: Pair) -> None:
        self._requests: asyncio.Queue[pb.RoundRequest | None] = asyncio.Queue()
        self.call = pair.host.stub.Round(self._outgoing())
        self._num_sent = 0

    async def _outgoing(self) -> Any:
        while (request := await self._requests.get()) is not None:
            yield request

    def send(self, *tasks: pb.RoundTask) -> None:
        """Send one message."""
        self._num_sent += 1
        self._requests.put_nowait(pb.RoundRequest(batch_index=self._num_sent, tasks=tasks))

    async def ask(self, *tasks: pb.RoundTask) -> pb.RoundResponse:
        """Send one message and return its answer."""
        self.send(*tasks)
        answer = await asyncio.wait_for(self.call.read(), 10)
        if answer is grpc.aio.EOF:
            await self.call
            raise AssertionError("the stream ended")
        assert answer.batch_index == self._num_sent
        return answer

    async def close(self) -> None:
        """End the stream in good order."""
        self._requests.put_nowait(None)
        assert await self.call.read() is grpc.aio.EOF


def make_task(**fields: Any) -> pb.RoundTask:
    """Return a sound task with some fields changed."""
    values: dict[str, Any] = {
        "session_id": "s",
        "round_index": 1,
        "kv_handle": pb.KVHandle(
            boot_id=BOOT_ID, extents=[pb.PageExtent(first_page=2, num_pages=8)]
        ),
        "exit_states_handle": pb.ExitStatesHandle(slot=1, num_rows=8),
        "pending_tokens": [9],
        "committed_len": 1,
        "prompt_len": 1,
        "method": "layerskip",
        "exit_layer": 2,
        "max_draft_len": 4,
    }
    return pb.RoundTask(**(values | fields))


async def refusal(call: Any) -> tuple[grpc.StatusCode, str, str]:
    """Return code, reason and field that a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = from_rpc_error(caught.value)
    return caught.value.code(), type(error).__name__, error.field


async def test_attaching_proves_that_both_map_the_same_memory(pair: Pair) -> None:
    answer = await pair.host.stub.Attach(pair.attach_request)
    assert answer.check_word == BOOT_ID
    assert answer.worker_id == "draft-1"
    assert answer.liveness_path == str(pair.host.liveness)
    assert not is_lock_free(pair.host.liveness)
    info = await pair.host.stub.GetDraftInfo(pb.GetDraftInfoRequest())
    assert info.attached_boot_id == BOOT_ID


Change = Callable[[pb.AttachRequest], None]


def setting(path: str, value: object) -> Change:
    """Return what sets one field of the terms."""

    def change(request: pb.AttachRequest) -> None:
        message, name = path.split(".")
        setattr(getattr(request, message), name, value)

    return change


@pytest.mark.parametrize(
    ("change", "code", "reason"),
    [
        (setting("model.model_fingerprint", "0"), FAILED_PRECONDITION, "ModelMismatch"),
        (setting("layout.hidden_size", 32), FAILED_PRECONDITION, "ModelMismatch"),
        (setting("layout.dtype", "int4"), FAILED_PRECONDITION, "ModelMismatch"),
        (setting("layout.num_kv_layers", 3), FAILED_PRECONDITION, "ModelMismatch"),
        (
            lambda request: request.draft_adapters.add(exit_layer=2, digest="d"),
            FAILED_PRECONDITION,
            "ModelMismatch",
        ),
        (setting("layout.page_size", 0), INVALID_ARGUMENT, "InvalidRequest"),
        (setting("layout.num_pages", 7), INVALID_ARGUMENT, "InvalidRequest"),
        (setting("segment.size_bytes", 7), INVALID_ARGUMENT, "InvalidRequest"),
        (setting("segment.shm_path", "/etc/passwd"), FAILED_PRECONDITION, "StaleHandle"),
        (setting("segment.shm_path", "/dev/shm/nothing"), FAILED_PRECONDITION, "StaleHandle"),
        (
            lambda request: request.segment.cuda_ipc.SetInParent(),
            grpc.StatusCode.UNIMPLEMENTED,
            "Unsupported",
        ),
    ],
)
async def test_terms_that_do_not_fit_are_refused_and_leave_nothing_attached(
    change: Change, code: grpc.StatusCode, reason: str, pair: Pair
) -> None:
    await pair.host.stub.Attach(pair.attach_request)
    request = pb.AttachRequest()
    request.CopyFrom(pair.attach_request)
    change(request)
    found = await refusal(pair.host.stub.Attach(request))
    assert found[:2] == (code, reason)
    info = await pair.host.stub.GetDraftInfo(pb.GetDraftInfoRequest())
    assert info.attached_boot_id == 0


async def test_a_round_comes_back_as_ids_and_a_handle(pair: Pair) -> None:
    await pair.host.stub.Attach(pair.attach_request)
    stream = RoundStream(pair)
    [draft] = (await stream.ask(make_task())).drafts
    assert (draft.session_id, draft.round_index, draft.error) == ("s", 1, "")
    assert len(draft.draft_tokens) == len(draft.confidences) == 4
    assert draft.exit_states_handle == pb.ExitStatesHandle(slot=1, num_rows=5)
    assert draft.timings.draft_ns > 0
    assert pair.pool.exit_states[1, :5].any(-1).all()
    info = await pair.host.stub.GetDraftInfo(pb.GetDraftInfoRequest())
    assert (info.num_rounds, info.num_draft_steps) == (1, 5)
    await stream.close()


async def test_a_repeated_round_gets_the_same_answer_and_a_superseded_one_its_error(
    pair: Pair,
) -> None:
    await pair.host.stub.Attach(pair.attach_request)
    stream = RoundStream(pair)
    [first] = (await stream.ask(make_task())).drafts
    pair.pool.exit_states.zero_()
    [again] = (await stream.ask(make_task())).drafts
    first.ClearField("timings")
    again.ClearField("timings")
    assert first == again
    assert not pair.pool.exit_states.any(), "it was answered from memory"
    [old] = (await stream.ask(make_task(round_index=0))).drafts
    assert old.error and not old.draft_tokens
    await stream.close()


async def test_a_bad_task_does_not_disturb_its_neighbours(pair: Pair) -> None:
    await pair.host.stub.Attach(pair.attach_request)
    stream = RoundStream(pair)
    bad = make_task(session_id="bad", exit_layer=NUM_LAYERS)
    answer = await stream.ask(bad, make_task())
    drafts = {draft.session_id: draft for draft in answer.drafts}
    assert "exit_layer" in drafts["bad"].error
    assert len(drafts["s"].draft_tokens) == 4
    await stream.close()


async def test_a_stream_without_an_attachment_is_refused(pair: Pair) -> None:
    stream = RoundStream(pair)
    code, reason, _ = await refusal(stream.ask(make_task()))
    assert (code, reason) == (FAILED_PRECONDITION, "StaleHandle")


@pytest.mark.parametrize(
    ("fields", "code", "reason", "field"),
    [
        ({"kv_handle": pb.KVHandle(boot_id=1)}, FAILED_PRECONDITION, "StaleHandle", ""),
        ({"pending_tokens": []}, INVALID_ARGUMENT, "InvalidRequest", "pending_tokens"),
        ({"pending_tokens": [1000]}, INVALID_ARGUMENT, "InvalidRequest", "pending_tokens"),
        ({"committed_len": 0}, INVALID_ARGUMENT, "InvalidRequest", "committed_len"),
        ({"max_draft_len": 0}, INVALID_ARGUMENT, "InvalidRequest", "max_draft_len"),
        (
            {"sampling": pb.SamplingParams(temperature=-1)},
            INVALID_ARGUMENT,
            "InvalidRequest",
            "sampling.temperature",
        ),
    ],
)
async def test_a_task_that_makes_no_sense_ends_the_stream(
    fields: dict[str, Any], code: grpc.StatusCode, reason: str, field: str, pair: Pair
) -> None:
    await pair.host.stub.Attach(pair.attach_request)
    stream = RoundStream(pair)
    assert await refusal(stream.ask(make_task(**fields))) == (code, reason, field)
    # The worker is there for the next.
    stream = RoundStream(pair)
    assert (await stream.ask(make_task())).drafts[0].draft_tokens
    await stream.close()


async def test_what_a_lost_stream_still_sends_writes_to_nothing(pair: Pair) -> None:
    """The verify worker attached anew: it has its memory back, the old stream may lag behind."""
    await pair.host.stub.Attach(pair.attach_request)
    old = RoundStream(pair)
    await old.ask(make_task(session_id="before"))
    await pair.host.stub.Attach(pair.attach_request)
    pair.pool.exit_states.zero_()
    code, reason, _ = await refusal(old.ask(make_task()))
    assert (code, reason) == (FAILED_PRECONDITION, "StaleHandle")
    assert not pair.pool.exit_states.any()


async def test_the_worker_says_what_it_is(pair: Pair) -> None:
    info = await pair.host.stub.GetDraftInfo(pb.GetDraftInfoRequest())
    assert info.worker_id == "draft-1"
    assert info.model == pair.attach_request.model
    assert list(info.methods) == ["layerskip", "swift"]
    assert info.attached_boot_id == 0
    assert info.num_loaded_layers >= 1
    assert '"listen"' in info.settings_json
    assert info.build
    assert await health_of(pair.host.channel) == "SERVING"
    assert await health_of(pair.host.channel, "shortstack.v1.DraftService") == "SERVING"
    assert await reflected_services(pair.host.channel) == {
        "shortstack.v1.DraftService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_a_drain_answers_the_rounds_in_hand_and_then_ends(pair: Pair) -> None:
    await pair.host.stub.Attach(pair.attach_request)
    stream = RoundStream(pair)
    await stream.ask(make_task())
    for index in range(2, 12):
        stream.send(make_task(round_index=index))
    # Whatever the worker has taken when it begins to drain is answered.
    await poll_until(lambda: pair.host.engine.num_rounds >= 2)
    await pair.host.servicer.drain()
    answers = []
    while (answer := await stream.call.read()) is not grpc.aio.EOF:
        answers.append(answer)
    assert await stream.call.code() is grpc.StatusCode.OK
    assert len(answers) == pair.host.engine.num_rounds - 1
    assert [answer.batch_index for answer in answers] == list(range(2, len(answers) + 2))
    code, reason, _ = await refusal(pair.host.stub.Attach(pair.attach_request))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "WorkerDraining")
