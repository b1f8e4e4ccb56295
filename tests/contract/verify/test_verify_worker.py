"""VerifyService on real ports: sessions, refusals, ends of streams, drain, info, health."""

import asyncio
from typing import Any

import grpc
import pytest

from shared.errors import ShortstackError
from shared.model.plain import PlainDecoder
from shared.rpc import shortstack_pb2 as pb
from shared.rpc import shortstack_pb2_grpc as pb_grpc
from shared.rpc.channel import open_channel
from shared.rpc.convert import sampling_from_proto
from shared.rpc.status import from_rpc_error
from shared.speculation.vocabulary import StopParams
from tests.contract.hosts import (
    VerifyHost,
    free_tcp_address,
    health_of,
    reflected_services,
    rest_of,
)
from tests.contract.verify.conftest import (
    CONTEXT_LEN,
    StartWorker,
    generate,
    ids_of,
    make_request,
)
from tests.golden.reference import PlainPass
from tests.model_builder import NUM_LAYERS, VOCAB_SIZE
from tests.polling import poll_until

PROMPT = [5, 17, 60, 33]
SAMPLING = pb.SamplingParams(
    temperature=0.9, top_k=40, seed=4, repetition_penalty=1.1, presence_penalty=0.1
)
LONG = CONTEXT_LEN - 100


async def refusal(call: Any) -> tuple[grpc.StatusCode, ShortstackError]:
    """Return code and error that a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    return caught.value.code(), from_rpc_error(caught.value)


@pytest.mark.parametrize("sampling", [pb.SamplingParams(), SAMPLING], ids=["greedy", "sampled"])
async def test_a_session_streams_the_text_of_plain_decoding(
    sampling: pb.SamplingParams, start_worker: StartWorker, plain: PlainDecoder
) -> None:
    host = await start_worker()
    messages = await generate(host, make_request(PROMPT, 40, sampling=sampling))
    kinds = [message.WhichOneof("event") for message in messages]
    assert kinds[0] == "started" and kinds[-1] == "finished"
    assert set(kinds[1:-1]) == {"tokens"}
    expected = plain.generate(PROMPT, sampling_from_proto(sampling, VOCAB_SIZE), StopParams(40))
    assert ids_of(messages) == expected.token_ids
    assert messages[0].started.cell_id == "cell-1"
    rounds = [message.tokens for message in messages[1:-1]]
    assert [each.round_index for each in rounds] == list(range(len(rounds)))
    assert all(len(each.sources) == len(each.token_ids) for each in rounds)
    assert not any(each.logprobs for each in rounds)
    finished = messages[-1].finished
    assert finished.finish_reason == pb.FINISH_REASON_LENGTH
    assert not finished.HasField("stop_token_id")
    speculation = finished.speculation
    assert speculation.num_drafts == sum(each.draft_len > 0 for each in rounds) > 3
    assert speculation.num_draft_tokens == sum(each.draft_len for each in rounds)
    sources = [source for each in rounds for source in each.sources]
    assert speculation.num_accepted_tokens == sources.count(pb.TOKEN_SOURCE_ACCEPTED)
    assert finished.timings.decode_ns > 0 and finished.timings.prefill_ns > 0


async def test_sessions_side_by_side_stream_their_own_texts_even_under_one_id(
    start_worker: StartWorker, plain: PlainDecoder
) -> None:
    host = await start_worker(free_tcp_address())
    prompts = [[5 + index, *PROMPT] for index in range(6)]
    found = await asyncio.gather(*(generate(host, make_request(p, 30)) for p in prompts))
    for prompt, messages in zip(prompts, found, strict=True):
        greedy = sampling_from_proto(pb.SamplingParams(), VOCAB_SIZE)
        expected = plain.generate(prompt, greedy, StopParams(30))
        assert ids_of(messages) == expected.token_ids


async def test_log_probabilities_are_those_of_plain_decoding(
    start_worker: StartWorker, plain: PlainDecoder
) -> None:
    host = await start_worker()
    messages = await generate(host, make_request(PROMPT, 12, num_logprobs=3))
    tokens = ids_of(messages)
    logits = PlainPass(plain.stack, [*PROMPT, *tokens]).logits_of_exit(NUM_LAYERS)
    expected = logits.log_softmax(-1)[len(PROMPT) - 1 :]
    found = [each for message in messages for each in message.tokens.logprobs]
    assert len(found) == len(tokens)
    for row, (token, each) in enumerate(zip(tokens, found, strict=True)):
        assert each.logprob == pytest.approx(expected[row, token].item(), abs=1e-4)
        values, best = expected[row].topk(3)
        assert [top.token_id for top in each.top] == best.tolist()
        assert [top.logprob for top in each.top] == pytest.approx(values.tolist(), abs=1e-4)


async def test_an_end_token_is_named(start_worker: StartWorker, plain: PlainDecoder) -> None:
    host = await start_worker()
    tokens = ids_of(await generate(host, make_request(PROMPT, 12)))
    stop = pb.StopParams(max_new_tokens=12, stop_token_ids=[tokens[5]], ignore_eos=True)
    messages = await generate(host, make_request(PROMPT, 12, stop=stop))
    assert ids_of(messages) == tokens[: tokens.index(tokens[5]) + 1]
    assert messages[-1].finished.finish_reason == pb.FINISH_REASON_STOP
    assert messages[-1].finished.stop_token_id == tokens[5]


@pytest.mark.parametrize("how", ["cancelled", "deadline", "channel closed"])
async def test_a_closed_stream_frees_the_pages(how: str, start_worker: StartWorker) -> None:
    host = await start_worker()
    if how == "deadline":
        call = host.stub.Generate(make_request(PROMPT, LONG), timeout=0.3)
        with pytest.raises(grpc.aio.AioRpcError):
            async for _ in call:
                pass
    elif how == "cancelled":
        call = await host.started(make_request(PROMPT, LONG))
        await call.read()
        assert not await host.memory_is_free()
        call.cancel()
    else:
        async with open_channel(host.address) as channel:
            call = pb_grpc.VerifyServiceStub(channel).Generate(make_request(PROMPT, LONG))
            await call.read()
            assert not await host.memory_is_free()
    await poll_until(host.memory_is_free)
    assert (await host.info()).num_sessions == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"session_id": ""}, "session_id"),
        ({"token_ids": []}, "token_ids"),
        ({"token_ids": [VOCAB_SIZE]}, "token_ids"),
        ({"token_ids": [5] * CONTEXT_LEN}, "token_ids"),
        ({"num_emitted": len(PROMPT)}, "num_emitted"),
        ({"stop": pb.StopParams()}, "stop.max_new_tokens"),
        ({"num_logprobs": 21}, "num_logprobs"),
        ({"sampling": pb.SamplingParams(temperature=-1)}, "sampling.temperature"),
        ({"sampling": pb.SamplingParams(top_p=2)}, "sampling.top_p"),
        ({"speculation": pb.SpeculationParams(method="magic")}, "speculation.method"),
        ({"speculation": pb.SpeculationParams(exit_layer=NUM_LAYERS)}, "speculation.exit_layer"),
        ({"speculation": pb.SpeculationParams(max_draft_len=99)}, "speculation.max_draft_len"),
        # Fits the model, but never the pool.
        ({"stop": pb.StopParams(max_new_tokens=LONG)}, "stop.max_new_tokens"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_request_is_refused_and_its_field_named(
    fields: dict[str, Any], field: str, start_worker: StartWorker
) -> None:
    host = await start_worker(num_pages=100)
    request = make_request(PROMPT, 10)
    for name in fields:
        request.ClearField(name)  # type: ignore[arg-type]
    request.MergeFrom(pb.GenerateRequest(**fields))
    code, error = await refusal(host.stub.Generate(request))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert (type(error).__name__, error.field) == ("InvalidRequest", field)


async def test_an_unknown_policy_is_refused_and_named(start_worker: StartWorker) -> None:
    host = await start_worker()
    request = make_request(PROMPT, 10, speculation=pb.SpeculationParams(policy="oracle"))
    code, error = await refusal(host.stub.Generate(request))
    assert (code, type(error).__name__) == (grpc.StatusCode.INVALID_ARGUMENT, "InvalidRequest")
    assert (error.field, "oracle" in error.message) == ("speculation.policy", True)


async def test_a_full_queue_is_refused_with_a_retry_delay(start_worker: StartWorker) -> None:
    host = await start_worker(max_sessions=1, max_waiting=0)
    running = await host.started(make_request(PROMPT, LONG))
    code, error = await refusal(host.stub.Generate(make_request(PROMPT, 5, "other")))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert type(error).__name__ == "QueueFull"
    assert error.retry_delay_ms > 0
    running.cancel()


async def test_a_session_that_waits_too_long_is_refused(start_worker: StartWorker) -> None:
    host = await start_worker(max_sessions=1, queue_timeout_ms=1)
    running = await host.started(make_request(PROMPT, LONG))
    code, error = await refusal(host.stub.Generate(make_request(PROMPT, 5, "other")))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert type(error).__name__ == "PoolExhausted"
    assert error.retry_delay_ms > 0
    running.cancel()


async def test_a_drain_refuses_new_sessions_and_finishes_the_running_one(
    start_worker: StartWorker, plain: PlainDecoder
) -> None:
    host = await start_worker()
    running = await host.started(make_request(PROMPT, 600))
    answer = await host.stub.Drain(pb.DrainRequest(timeout_ms=30_000))
    assert answer.num_sessions == 1
    assert (await host.info()).is_draining
    code, error = await refusal(host.stub.Generate(make_request(PROMPT, 5, "other")))
    assert (code, type(error).__name__) == (grpc.StatusCode.UNAVAILABLE, "WorkerDraining")
    await poll_until(lambda: health_is(host, "NOT_SERVING"))
    messages = await rest_of(running)
    assert len(ids_of(messages)) == 600
    assert messages[-1].finished.finish_reason == pb.FINISH_REASON_LENGTH
    # The worker ends by itself.
    await asyncio.wait_for(host.serving, 20)


async def health_is(host: VerifyHost, status: str) -> bool:
    """Say whether the worker's health is this."""
    return await health_of(host.channel) == status


async def test_a_drain_that_takes_too_long_moves_the_session(start_worker: StartWorker) -> None:
    host = await start_worker()
    running = await host.started(make_request(PROMPT, LONG))
    await host.stub.Drain(pb.DrainRequest(timeout_ms=1))
    messages = await rest_of(running)
    assert messages[-1].WhichOneof("event") == "moved"
    assert messages[-1].moved.reason
    await asyncio.wait_for(host.serving, 20)


async def test_a_moved_session_goes_on_elsewhere_by_replay(
    start_worker: StartWorker, plain: PlainDecoder
) -> None:
    host = await start_worker()
    sampling = sampling_from_proto(SAMPLING, VOCAB_SIZE)
    tokens = plain.generate(PROMPT, sampling, StopParams(30)).token_ids
    request = make_request([*PROMPT, *tokens[:11]], 30, num_emitted=11, sampling=SAMPLING)
    assert ids_of(await generate(host, request)) == tokens[11:]


@pytest.mark.parametrize("kind", ["fused", "plain"])
async def test_the_worker_says_what_it_is(kind: str, start_worker: StartWorker) -> None:
    host = await start_worker(cell_kind=kind, num_pages=2000)
    await generate(host, make_request(PROMPT, 20))
    info = await host.info()
    assert (info.cell_id, info.cell_kind, info.transport) == ("cell-1", kind, "local")
    assert info.worker_id.startswith("verify-")
    assert info.boot_id > 0
    assert info.model.model_name == "tiny"
    assert (info.model.num_layers, info.model.vocab_size) == (NUM_LAYERS, VOCAB_SIZE)
    assert (info.page_size, info.pool.num_pages) == (4, 2000)
    assert set(info.methods) == {"layerskip", "swift", "off"}
    assert info.default_speculation.method == ("layerskip" if kind == "fused" else "off")
    assert info.default_speculation.max_draft_len == 4
    assert info.num_draft_workers == (kind == "fused")
    assert (info.max_sessions, info.is_draining) == (4, False)
    assert '"cell_kind"' in info.settings_json
    assert info.build
    assert (info.speculation.num_drafts > 0) == (kind == "fused")
    assert info.counters.num_passes > 1
    assert info.counters.num_row_layers > 0
    assert await health_of(host.channel, "shortstack.v1.VerifyService") == "SERVING"
    expected = "SERVING" if kind == "fused" else "NOT_SERVING"
    assert await health_of(host.channel, "speculation") == expected
    assert await reflected_services(host.channel) == {
        "shortstack.v1.VerifyService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_two_starts_have_two_boot_ids(start_worker: StartWorker) -> None:
    first = await start_worker()
    second = await start_worker(free_tcp_address())
    assert (await first.info()).boot_id != (await second.info()).boot_id
