"""The OpenAI API of a running stack, by the official client: what it says is what gRPC says."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import openai
import pytest
import pytest_asyncio

from services.gateway.http_face.seeds import seed_of_choice
from shared.rpc import shortstack_pb2 as pb
from shared.rpc.channel import open_channel, responses
from shared.rpc.shortstack_pb2_grpc import GatewayServiceStub
from shared.speculation.vocabulary import SamplingParams
from shortstack.client import Client
from shortstack.health import verify_info
from shortstack.plan import StackConfig
from shortstack.request import Limits, Request, Turn
from shortstack.stack import Stack
from tests.polling import poll_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

PROMPT = "Once upon a time"
NUM_TOKENS = 40
FORCED = {"mode": "force", "method": "layerskip", "exit_layer": 2, "max_draft_len": 3}


@pytest.fixture(scope="module")
def config(config: StackConfig) -> StackConfig:
    """The stack of all modules, with HTTP."""
    return replace(config, http="127.0.0.1:0")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def api(shared_stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client; it tries nothing twice."""
    url = f"{shared_stack.http_url}/v1"
    async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
        yield client


def asked(**fields: Any) -> dict[str, Any]:
    """Return the arguments of a completion that does not end by itself."""
    extra = {"ignore_eos": True, **fields.pop("extra_body", {})}
    return {"model": "tiny", "max_tokens": NUM_TOKENS, **fields, "extra_body": extra}


async def streamed_text(stream: AsyncIterator[Any]) -> str:
    """Return the joined deltas of a stream."""
    text = ""
    async for chunk in stream:
        for choice in chunk.choices:
            delta = choice.delta.content if hasattr(choice, "delta") else choice.text
            text += delta or ""
    return text


@pytest.mark.parametrize("temperature", [0.0, 0.9])
async def test_streamed_whole_and_grpc_texts_are_one(
    api: openai.AsyncOpenAI, shared_client: Client, temperature: float
) -> None:
    sampling = SamplingParams(temperature=temperature, seed=11)
    limits = Limits(max_new_tokens=NUM_TOKENS, ignore_eos=True)
    told = await shared_client.complete(Request(PROMPT, sampling=sampling, limits=limits))
    ask = asked(prompt=PROMPT, temperature=temperature, seed=11)
    whole = await api.completions.create(**ask)
    assert whole.choices[0].text == told.text
    assert whole.usage.completion_tokens == len(told.token_ids) == NUM_TOKENS
    assert await streamed_text(await api.completions.create(**ask, stream=True)) == told.text

    chat = Request((Turn("user", PROMPT),), sampling=sampling, limits=limits)
    told = await shared_client.complete(chat)
    ask = asked(messages=[{"role": "user", "content": PROMPT}], temperature=temperature, seed=11)
    answer = await api.chat.completions.create(**ask)
    assert answer.choices[0].message.content == told.text
    assert await streamed_text(await api.chat.completions.create(**ask, stream=True)) == told.text


async def test_speculation_changes_no_byte_and_is_reported(api: openai.AsyncOpenAI) -> None:
    plain, drafted = [
        await api.completions.create(
            **asked(
                prompt=PROMPT,
                temperature=0,
                extra_body={"speculation": {**wish, "report": "detailed"}},
            )
        )
        for wish in ({"mode": "off"}, FORCED)
    ]
    assert plain.choices[0].text == drafted.choices[0].text
    assert plain.metrics["speculative_decoding"]["num_spec_steps"] == 0
    told = drafted.metrics["speculative_decoding"]
    assert told["num_spec_steps"] == len(told["per_step_drafted"]) > 0
    assert set(told["exit_layers"]) == {2}
    assert set(told["methods"]) == {"layerskip"}
    # A draft is cut where the limit is near.
    assert {"pinned"} <= set(told["reasons"]) <= {"pinned", "limit"}
    assert len(told["acceptance_histogram"]) == told["num_spec_tokens"] + 1 <= 4
    details = drafted.usage.completion_tokens_details
    assert details.accepted_prediction_tokens == sum(told["per_step_accepted"])


async def test_choices_are_what_their_seeds_say_and_so_is_a_drawn_seed(
    api: openai.AsyncOpenAI, shared_client: Client
) -> None:
    answer = await api.completions.create(**asked(prompt=PROMPT, n=3, temperature=1.0))
    seed = answer.metrics["seed"]
    alone = [
        await shared_client.complete(
            Request(
                PROMPT,
                sampling=SamplingParams(temperature=1.0, seed=seed_of_choice(seed, index)),
                limits=Limits(max_new_tokens=NUM_TOKENS, ignore_eos=True),
            )
        )
        for index in range(3)
    ]
    texts = [choice.text for choice in answer.choices]
    assert texts == [completion.text for completion in alone]
    assert len(set(texts)) == 3
    again = await api.completions.create(**asked(prompt=PROMPT, n=3, temperature=1.0, seed=seed))
    assert [choice.text for choice in again.choices] == texts


async def test_logprobs_equal_those_of_grpc(api: openai.AsyncOpenAI, shared_stack: Stack) -> None:
    message = pb.GenerateTextRequest(
        prompt=PROMPT, num_logprobs=2, stop={"max_new_tokens": NUM_TOKENS, "ignore_eos": True}
    )
    async with open_channel(shared_stack.target) as channel:
        call = GatewayServiceStub(channel).GenerateText(message)
        told = [entry async for each in responses(call) for entry in each.tokens.logprobs]
    answer = await api.completions.create(**asked(prompt=PROMPT, temperature=0, logprobs=2))
    logprobs = answer.choices[0].logprobs
    assert logprobs.token_logprobs == [entry.logprob for entry in told]
    best = [max(top.values()) for top in logprobs.top_logprobs]
    assert best == [entry.top[0].logprob for entry in told]
    assert len(logprobs.tokens) == NUM_TOKENS


async def test_a_client_that_leaves_gives_the_pages_back(
    api: openai.AsyncOpenAI, shared_stack: Stack
) -> None:
    target = shared_stack.cells[0].verify_target

    async def num_sessions() -> int:
        return (await verify_info(target)).num_sessions

    async def is_free() -> bool:
        info = await verify_info(target)
        pool = info.pool
        return not info.num_sessions and pool.num_free + pool.num_cached == pool.num_pages

    ask = asked(prompt=PROMPT, n=2, max_tokens=900)
    stream = await api.completions.create(**ask, stream=True)
    await anext(aiter(stream))
    whole = asyncio.create_task(api.completions.create(**ask))
    await poll_until(lambda: _equals(num_sessions, 4))
    await stream.close()
    whole.cancel()
    await asyncio.gather(whole, return_exceptions=True)
    await poll_until(is_free, timeout_s=30.0)


async def _equals(read: Any, value: int) -> bool:
    return bool(await read() == value)


@pytest.mark.parametrize("is_stream", [False, True])
async def test_what_only_a_cell_can_judge_is_a_status_too(
    api: openai.AsyncOpenAI, is_stream: bool
) -> None:
    wish = {"speculation": {"method": "telepathy"}}
    with pytest.raises(openai.BadRequestError) as caught:
        await api.completions.create(**asked(prompt=PROMPT, extra_body=wish), stream=is_stream)
    assert caught.value.param == "speculation.method"


async def test_the_model_says_what_can_be_asked_of_it(api: openai.AsyncOpenAI) -> None:
    model = await api.models.retrieve("tiny")
    assert model.context_length == 1024
    assert "layerskip" in model.methods
    assert model.exit_layers == list(range(1, len(model.exit_layers) + 1))
    assert set(model.default_exit_layers) <= set(model.exit_layers)
