"""A gateway's part of a trace: its spans, what its cells are told, and text only where wanted."""

import json
from collections.abc import AsyncIterator

import pytest

from services.gateway.completion import log as completion_log
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import responses
from shared.telemetry import spans
from shared.telemetry.past_span import SpanKey
from shortstack.traces.receiver import SpanReceiver
from tests.contract.gateway.conftest import Client, StartCells
from tests.contract.gateway.fake_verify_worker import FakeVerifyWorker, Trouble
from tests.polling import poll_until
from tests.received_spans import ReceivedSpans, check_with_table

TRACE = SpanKey(0xABC, 0xDEF)
TRACE_ID = f"{TRACE.trace_id:032x}"


class Endpoint(ReceivedSpans):
    """Where the gateway sends its spans."""

    address: str


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    """A receiver of spans."""
    endpoint = Endpoint()
    async with SpanReceiver("127.0.0.1:0", endpoint.spans.extend) as receiver:
        endpoint.address = receiver.address
        yield endpoint


async def ask(client: Client, traceparent: str, **fields: object) -> str:
    """Run a request with a trace context; return its text."""
    message = pb.GenerateTextRequest(**({"prompt": "So: the secret"} | fields))  # type: ignore[arg-type]
    call = client.stub.GenerateText(message, metadata=(("traceparent", traceparent),), timeout=10)
    texts = [each.tokens.text + each.finished.text async for each in responses(call)]
    return "".join(texts)


async def spans_of(endpoint: Endpoint, trace_id: str = TRACE_ID) -> ReceivedSpans:
    """Return the spans of a trace once both of its gateway's have come."""
    await poll_until(lambda: len(endpoint.of(trace_id)) == 2)
    return ReceivedSpans(endpoint.of(trace_id))


async def test_all_attempts_of_a_request_are_in_its_trace(
    start: StartCells, endpoint: Endpoint, completion_ids: list[int]
) -> None:
    workers = [
        FakeVerifyWorker(completion_ids, cell_id=name, trouble=Trouble(moves_at=moves_at))
        for name, moves_at in (("a", 6), ("b", 6), ("c", None))
    ]
    client = await start(*workers, telemetry={"endpoint": endpoint.address})
    await ask(client, TRACE.traceparent)
    received = await spans_of(endpoint)
    server, chat = received.spans
    assert (server.name, server.parent_id) == ("GenerateText", f"{TRACE.span_id:016x}")
    assert (chat.name, chat.parent_id) == ("text_completion small", server.span_id)
    told = [each["traceparent"] for worker in workers for each in worker.metadata]
    assert len(told) == 1 + int(chat.attributes[spans.NUM_REPLAYS])  # type: ignore[arg-type]
    assert set(told) == {f"00-{TRACE_ID}-{chat.span_id}-01"}
    check_with_table(received.spans, "small")


@pytest.mark.parametrize("records_text", [True, False])
async def test_text_is_recorded_only_where_wanted(
    start: StartCells, endpoint: Endpoint, completion_ids: list[int], records_text: bool
) -> None:
    telemetry = {"endpoint": endpoint.address, "records_text": records_text}
    client = await start(FakeVerifyWorker(completion_ids), telemetry=telemetry)
    text = await ask(client, TRACE.traceparent, stop_strings=["sun"])
    received = await spans_of(endpoint)
    check_with_table(received.spans, "small")
    attributes = received.of(TRACE_ID, "text_completion small")[0].attributes
    texts = (spans.INPUT_MESSAGES, spans.OUTPUT_MESSAGES, spans.REQUEST_STOP_SEQUENCES)
    if not records_text:
        assert not attributes.keys() & set(texts)
        assert "secret" not in str(received.spans)
        return
    prompt, output = (json.loads(str(attributes[each])) for each in texts[:2])
    assert prompt == [{"role": "user", "parts": [{"type": "text", "content": "So: the secret"}]}]
    assert output == [{"role": "assistant", "parts": [{"type": "text", "content": text}]}]
    assert attributes[texts[2]] == ("sun",)


async def test_a_gateway_that_does_not_trace_passes_contexts_on(
    start: StartCells, completion_ids: list[int]
) -> None:
    worker = FakeVerifyWorker(completion_ids)
    client = await start(worker)
    await ask(client, TRACE.traceparent)
    await ask(client, "nonsense")
    assert [each.get("traceparent") for each in worker.metadata] == [TRACE.traceparent, None]


async def test_requests_of_callers_that_have_not_decided_are_sampled_by_ratio(
    start: StartCells, endpoint: Endpoint, completion_ids: list[int]
) -> None:
    telemetry = {"endpoint": endpoint.address, "sampling_ratio": 1.0}
    client = await start(FakeVerifyWorker(completion_ids), telemetry=telemetry)
    await ask(client, "nonsense")
    await ask(client, f"{TRACE.traceparent[:-2]}00")
    await client.ask()
    await poll_until(lambda: len(endpoint.spans) == 4)
    assert TRACE_ID not in {each.trace_id for each in endpoint.spans}


async def test_the_log_line_of_a_request_names_its_span(
    start: StartCells,
    endpoint: Endpoint,
    completion_ids: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", completion_log.name)
    caplog.set_level("INFO", "services.gateway.request_log")
    telemetry = {"endpoint": endpoint.address}
    client = await start(FakeVerifyWorker(completion_ids), telemetry=telemetry)
    await ask(client, TRACE.traceparent)
    received = await spans_of(endpoint)
    (line,) = [each for each in caplog.records if each.getMessage() == "request finished"]
    assert vars(line)["trace_id"] == TRACE_ID
    assert vars(line)["span_id"] == received.of(TRACE_ID, "text_completion small")[0].span_id
