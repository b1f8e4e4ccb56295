"""Traces of a stack of real processes, as OTLP brings them: from the client to every round."""

import asyncio
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise

import httpx2
import pytest
import pytest_asyncio
from opentelemetry.trace import use_span

from shared.errors import InvalidRequest
from shared.speculation.vocabulary import SamplingParams
from shared.telemetry import spans
from shared.telemetry.spans import SPANS
from shared.telemetry.trace_context import metadata_of
from shortstack.children import LogReader
from shortstack.client import Client, Completion
from shortstack.plan import StackConfig
from shortstack.request import PLAIN, Limits, Request, Turn
from shortstack.stack import Stack
from shortstack.traces.receiver import ReceivedSpan, SpanReceiver
from tests.cluster.streams import LAYERSKIP, Streams, make_requests, run_plain
from tests.polling import poll_until
from tests.received_spans import (
    ReceivedSpans,
    check_with_table,
    client_span,
    is_within,
    trace_id_of,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

PROMPT = "Once upon a time"
# What these processes are not told to record.
TEXTS = {spans.INPUT_MESSAGES, spans.OUTPUT_MESSAGES, spans.REQUEST_STOP_SEQUENCES}


class Setup:
    """A stack that traces the requests of traced clients alone, and what came of it."""

    def __init__(self, stack: Stack, client: Client, receiver: SpanReceiver) -> None:
        self.stack, self.client, self.receiver = stack, client, receiver
        self.received = ReceivedSpans()

    async def complete(self, request: Request) -> tuple[str, Completion]:
        """Run a request under a client's span; return its trace, once it is whole."""
        span = client_span()
        with use_span(span):
            completion = await self.client.complete(request)
        await self.whole(trace_id_of(span), completion)
        return trace_id_of(span), completion

    async def whole(self, trace_id: str, completion: Completion) -> None:
        """Wait for the spans of a request that ran in one cell."""
        counts = completion.speculation
        wanted = {"GenerateText": 1, "round": num_rounds(completion), "draft": counts.num_drafts}

        def has_come() -> bool:
            names = self.received.names(trace_id)
            return all(names.get(name, 0) == count for name, count in wanted.items())

        await poll_until(has_come, timeout_s=20)

    def one(self, trace_id: str, name: str) -> ReceivedSpan:
        """Return a trace's only span of a name."""
        (span,) = self.received.of(trace_id, name)
        return span


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def setup(config: StackConfig) -> AsyncIterator[Setup]:
    """Two cells that move their sessions at once when told to end."""
    received: list[Setup] = []
    async with SpanReceiver(
        "127.0.0.1:0", lambda batch: received[0].received.spans.extend(batch)
    ) as receiver:
        config = replace(
            config,
            num_cells=2,
            http="127.0.0.1:0",
            otlp=receiver.address,
            sampling_ratio=0.0,
            environ={**config.environ, "SHORTSTACK_VERIFY__DRAIN_TIMEOUT_MS": "0"},
        )
        async with Stack(config) as stack, Client(stack.target) as client:
            received.append(Setup(stack, client, receiver))
            yield received[0]


def request_of(max_new_tokens: int = 60) -> Request:
    """Return a request that drafts."""
    limits = Limits(max_new_tokens, ignore_eos=True)
    return Request(PROMPT, limits=limits, speculation=LAYERSKIP)


def num_rounds(completion: Completion) -> int:
    """Return the rounds of a request; the prefill counts as a plain one there, and is none."""
    return completion.speculation.num_drafts + completion.speculation.num_plain_rounds - 1


def sum_of(rounds: list[ReceivedSpan], name: str) -> int:
    """Sum an attribute over rounds."""
    return sum(int(each.attributes[name]) for each in rounds)  # type: ignore[arg-type]


async def test_a_trace_leads_from_the_client_to_every_round(setup: Setup) -> None:
    span = client_span()
    with use_span(span):
        completion = await setup.client.complete(request_of())
    trace_id = trace_id_of(span)
    await setup.whole(trace_id, completion)

    server = setup.one(trace_id, "GenerateText")
    assert int(server.parent_id, 16) == span.get_span_context().span_id
    (chat,) = setup.received.children(server)
    (generate,) = setup.received.children(chat)
    queue, prefill, decode = setup.received.children(generate)
    rounds = setup.received.children(decode)
    names = [each.name for each in (chat, generate, queue, prefill, decode)]
    assert names == ["text_completion tiny", "generate", "queue", "prefill", "decode"]
    assert {each.name for each in rounds} == {"round"}
    assert is_within(chat, server) and is_within(generate, chat)
    assert all(is_within(stage, generate) for stage in (queue, prefill, decode))
    assert all(is_within(each, decode) for each in rounds)
    assert all(one.end_ns <= next_.start_ns for one, next_ in pairwise(rounds))

    counts = completion.speculation
    assert counts.num_drafts > 0
    assert len(rounds) == num_rounds(completion) == decode.attributes[spans.NUM_ROUNDS]
    indices = [each.attributes[spans.ROUND_INDEX] for each in rounds]
    assert indices == list(range(1, len(rounds) + 1))
    assert 1 + sum_of(rounds, spans.ROUND_EMITTED) == completion.finished.num_emitted == 60
    assert sum_of(rounds, spans.DRAFT_LEN) == counts.num_draft_tokens
    assert sum_of(rounds, spans.ROUND_ACCEPTED) == counts.num_accepted_tokens
    assert chat.attributes[spans.NUM_ACCEPTED] == counts.num_accepted_tokens
    assert chat.attributes[spans.OUTPUT_TOKENS] == 60
    assert chat.attributes[spans.FINISH_REASONS] == ("length",)
    assert chat.attributes[spans.CELL_ID] == completion.started.cell_id
    num_emitted = 1
    for each in rounds:
        num_emitted += int(each.attributes[spans.ROUND_EMITTED])  # type: ignore[arg-type]
        source = completion.sources[num_emitted - 1]
        assert each.attributes[spans.SOURCE] == source.name.lower()
        check_parts(setup.received, each)


def check_parts(received: ReceivedSpans, round_: ReceivedSpan) -> None:
    """Check what a round is made of: one behind the other, within its time."""
    parts = received.children(round_)
    drafts = ["draft", "hand_over"] if round_.attributes[spans.DRAFT_LEN] else []
    assert [each.name for each in parts] == [*drafts, "verify", "commit"]
    assert all(is_within(each, round_) for each in parts)
    if drafts:
        assert parts[0].service == spans.DRAFT
        for name in (spans.ROUND_INDEX, spans.DRAFT_LEN, spans.EXIT_LAYER):
            assert parts[0].attributes[name] == round_.attributes[name]


async def test_a_plain_request_has_plain_rounds(setup: Setup) -> None:
    trace_id, completion = await setup.complete(replace(request_of(20), speculation=PLAIN))
    rounds = setup.received.of(trace_id, "round")
    assert len(rounds) == num_rounds(completion) == 19
    assert {each.attributes[spans.METHOD] for each in rounds} == {"off"}
    for each in rounds:
        check_parts(setup.received, each)


async def test_a_pass_is_linked_to_the_rounds_in_it_and_they_to_it(setup: Setup) -> None:
    traced = await asyncio.gather(*(setup.complete(request_of(120)) for _ in range(4)))

    def passes() -> dict[str, ReceivedSpan]:
        return {each.span_id: each for each in setup.received.spans if each.name == "pass"}

    rounds = [each for trace_id, _ in traced for each in setup.received.of(trace_id, "round")]
    linked = {link for each in passes().values() for link in each.links}
    assert {(each.trace_id, each.span_id) for each in rounds} <= linked
    # Two cells take four sessions: some pass of one has several.
    assert max(len(each.links) for each in passes().values()) > 1
    for trace_id, _ in traced:
        for verify in setup.received.of(trace_id, "verify"):
            ((_, pass_id),) = verify.links
            in_pass = passes()[pass_id]
            assert (verify.trace_id, verify.parent_id) in in_pass.links
            assert not in_pass.parent_id
            assert is_within(verify, in_pass) and is_within(in_pass, verify)


async def test_what_is_not_sampled_leaves_nothing(setup: Setup) -> None:
    num_before = len(setup.received.spans)
    # Some of their spans may be on their way still.
    earlier = {each.trace_id for each in setup.received.spans}
    await setup.client.complete(request_of())
    unsampled = client_span(is_sampled=False)
    with use_span(unsampled):
        await setup.client.complete(request_of())
    # Spans leave a process in order: what comes behind these requests is the barrier.
    trace_ids = {trace_id for trace_id, _ in [await setup.complete(request_of()) for _ in "ab"]}
    new = [each for each in setup.received.spans[num_before:] if each.trace_id not in earlier]
    assert {each.trace_id for each in new if each.name != "pass"} == trace_ids
    for in_pass in (each for each in new if each.name == "pass"):
        assert {trace_id for trace_id, _ in in_pass.links} <= trace_ids | earlier


async def test_a_chat_with_every_parameter_says_so_but_for_its_text(setup: Setup) -> None:
    sampling = SamplingParams(
        temperature=0.8,
        top_p=0.9,
        top_k=40,
        seed=2**64 - 1,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
    )
    secret = "swordfish"
    request = Request(
        (Turn("user", f"The word is {secret}"),),
        sampling,
        Limits(12, stop_strings=(secret,), ignore_eos=True),
        tenant="tests",
    )
    trace_id, completion = await setup.complete(request)
    (chat,) = setup.received.children(setup.one(trace_id, "GenerateText"))
    assert chat.name == "chat tiny"
    assert chat.attributes[spans.SEED] == str(2**64 - 1)
    assert chat.attributes[spans.REQUEST_TOP_K] == 40
    assert chat.attributes[spans.TENANT] == "tests"
    assert chat.attributes[spans.INPUT_TOKENS] == completion.started.prompt_len
    assert secret not in str(setup.received.of(trace_id))


async def test_a_trace_of_an_http_request_holds_all_its_choices(setup: Setup) -> None:
    span = client_span()
    with use_span(span):
        headers = dict(metadata_of())
    trace_id = trace_id_of(span)
    body = {"max_tokens": 12, "n": 2, "messages": [{"role": "user", "content": PROMPT}]}
    async with httpx2.AsyncClient(base_url=setup.stack.http_url, headers=headers) as http:
        answer = await http.post("/v1/chat/completions", json=body, timeout=30)
        refused = await http.post("/v1/completions", json={"prompt": PROMPT, "max_tokens": -1})
    assert (answer.status_code, refused.status_code) == (200, 400)
    for name in ("POST /v1/chat/completions", "POST /v1/completions"):
        await poll_until(lambda name=name: setup.received.names(trace_id).get(name))  # type: ignore[misc]
    await poll_until(lambda: setup.received.names(trace_id).get("decode") == 2)
    server = setup.one(trace_id, "POST /v1/chat/completions")
    chats = setup.received.children(server)
    assert [each.name for each in chats] == ["chat tiny"] * 2
    assert all(is_within(each, server) for each in chats)
    assert server.attributes[spans.REQUEST_ID] == answer.headers["x-request-id"]
    error = setup.one(trace_id, "POST /v1/completions")
    assert (error.attributes[spans.HTTP_STATUS], error.error) == (400, "")


async def test_errors_are_told_where_they_arose(setup: Setup) -> None:
    late = client_span()
    with use_span(late), pytest.raises(InvalidRequest):
        wish = replace(LAYERSKIP, exit_layer=99)
        await setup.client.complete(replace(request_of(), speculation=wish))
    early = client_span()
    with use_span(early), pytest.raises(InvalidRequest):
        await setup.client.complete(replace(request_of(), limits=Limits(10**6)))
    await poll_until(lambda: setup.received.names(trace_id_of(late)).get("generate"))
    await poll_until(lambda: setup.received.names(trace_id_of(early)).get("GenerateText"))
    for each in setup.received.of(trace_id_of(late)):
        assert each.attributes[spans.ERROR_TYPE] == "InvalidRequest"
        # The client's doing, not a fault of ours.
        assert not each.error
    assert setup.received.names(trace_id_of(early)) == {"GenerateText": 1}
    status = setup.one(trace_id_of(early), "GenerateText").attributes[spans.RPC_STATUS]
    assert status == "INVALID_ARGUMENT"


async def test_a_cancelled_request_has_a_trace_too(setup: Setup) -> None:
    span = client_span()
    streams = Streams(setup.client, make_requests(1, max_new_tokens=900))
    with use_span(span):
        streams.start()
    await poll_until(lambda: streams.are_all_running, timeout_s=20)
    streams.tasks[0].cancel()
    trace_id = trace_id_of(span)
    await poll_until(lambda: setup.received.names(trace_id).get("decode"), timeout_s=20)
    await poll_until(lambda: setup.received.names(trace_id).get("GenerateText"), timeout_s=20)
    (chat,) = setup.received.children(setup.one(trace_id, "GenerateText"))
    assert chat.attributes[spans.FINISH_REASONS] == ("cancelled",)
    assert setup.one(trace_id, "decode").attributes[spans.FINISH_REASON] == "cancelled"
    assert not any(each.error for each in setup.received.of(trace_id))


async def test_a_round_that_lost_its_draft_says_so(setup: Setup) -> None:
    expected = await run_plain(setup.client, make_requests(1))
    span = client_span()
    streams = Streams(setup.client, make_requests(1))
    with use_span(span):
        streams.start()
    await poll_until(lambda: streams.are_all_running, timeout_s=20)
    drafters = [child for name, child in setup.stack.children.items() if name.startswith("draft")]
    for child in drafters:
        child.send(signal.SIGSTOP)
    try:
        (completion,) = await streams.finish()
    finally:
        for child in drafters:
            child.send(signal.SIGCONT)
    assert completion.token_ids == expected[0]
    trace_id = trace_id_of(span)
    await poll_until(lambda: setup.received.names(trace_id).get("decode"), timeout_s=20)
    lost = [
        each
        for each in setup.received.of(trace_id, "round")
        if each.attributes.get(spans.IS_DRAFT_LOST)
    ]
    assert lost
    assert all(each.attributes[spans.METHOD] == "layerskip" for each in lost)
    assert all(each.attributes[spans.SOURCE] == "plain" for each in lost)


async def test_a_moved_session_goes_on_in_the_same_trace(setup: Setup) -> None:
    span = client_span()
    streams = Streams(setup.client, make_requests(1))
    with use_span(span):
        streams.start()
    await poll_until(lambda: streams.are_all_running, timeout_s=20)
    started = streams.builders[0].started
    assert started is not None
    left = setup.stack.children[f"verify-{started.cell_id.removeprefix('cell-')}"]
    left.send(signal.SIGTERM)
    (completion,) = await streams.finish()
    assert completion.finished.num_replays == 1
    trace_id = trace_id_of(span)
    await poll_until(lambda: setup.received.names(trace_id).get("decode") == 2, timeout_s=20)
    await poll_until(lambda: setup.received.names(trace_id).get("GenerateText"), timeout_s=20)
    (chat,) = setup.received.children(setup.one(trace_id, "GenerateText"))
    assert chat.attributes[spans.NUM_REPLAYS] == 1
    first, second = setup.received.children(chat)
    assert first.attributes[spans.CELL_ID] == started.cell_id
    assert second.attributes[spans.CELL_ID] == chat.attributes[spans.CELL_ID] != started.cell_id
    before = second.attributes[spans.NUM_EMITTED_BEFORE]
    decodes = setup.received.of(trace_id, "decode")
    assert first.attributes[spans.NUM_EMITTED_BEFORE] == 0 < before  # type: ignore[operator]
    assert before + decodes[1].attributes[spans.NUM_EMITTED] == 300  # type: ignore[operator]
    # The process has ended, and sent what it had before.
    await poll_until(lambda: left.exit_status is not None, timeout_s=20)
    assert left.exit_status == 0
    setup.stack.restart(left.name)


async def test_what_was_emitted_is_what_the_table_says(setup: Setup) -> None:
    seen = check_with_table(setup.received.spans, "tiny")
    # Both kinds of a request fill one table, from the same code.
    for one, other in ((spans.CHAT, spans.TEXT_COMPLETION), (spans.POST_CHAT, spans.POST_TEXT)):
        seen[one.name] = seen[other.name] = seen[one.name] | seen[other.name]
    for spec in SPANS:
        assert {each.name for each in spec.attributes} - TEXTS == seen[spec.name], spec.name


async def test_an_endpoint_that_is_gone_harms_no_request(setup: Setup) -> None:
    gateway = setup.stack.children["gateway"].log_path
    await setup.receiver.close()
    expected = await run_plain(setup.client, make_requests(1, 60))
    for _ in range(3):
        with use_span(client_span()):
            completion = await setup.client.complete(make_requests(1, 60)[0])
        assert completion.token_ids == expected[0]

    def complaints() -> list[str]:
        events = [str(each["event"]) for each in LogReader(gateway).read()]
        return [each for each in events if "exporting" in each]

    await poll_until(complaints, timeout_s=20)
    # It is tried again and again, and told of once a minute.
    assert len(complaints()) == 1
    assert "UNAVAILABLE" in complaints()[0]
