"""The official client library finds what it looks for."""

import openai
import pytest

from services.gateway.http_face.seeds import seed_of_choice
from shared.rpc import shortstack_pb2 as pb
from tests.contract.gateway.conftest import TEXT
from tests.contract.gateway.http.conftest import NUM_CACHED, Served

pytestmark = pytest.mark.asyncio(loop_scope="module")

TURNS = [{"role": "user", "content": "Hi"}]
FIRST_FIVE = "Once upon a time there"


async def test_a_chat_is_completed(served: Served) -> None:
    answer = await served.openai.chat.completions.create(model="small", messages=TURNS)
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert answer.model == "small"
    assert answer.system_fingerprint == "f-0.1.0"
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", TEXT)
    assert (choice.finish_reason, choice.logprobs) == ("stop", None)
    sent = list(served.worker.requests[-1].token_ids)
    assert served.tokenizer.decode(sent) == "<user>Hi\n<assistant>"
    assert answer.usage.prompt_tokens == len(sent)
    assert answer.usage.completion_tokens == len(served.ids)
    assert answer.usage.total_tokens == len(sent) + len(served.ids)
    assert answer.usage.prompt_tokens_details.cached_tokens == NUM_CACHED


async def test_an_answer_may_be_sent_back_as_it_came(served: Served) -> None:
    answer = await served.openai.chat.completions.create(model="small", messages=TURNS)
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]
    turns = [
        {"role": "developer", "content": parts},
        *TURNS,
        answer.choices[0].message.model_dump(),
        *TURNS,
    ]
    await served.openai.chat.completions.create(model="small", messages=turns)
    text = served.tokenizer.decode(list(served.worker.requests[-1].token_ids))
    assert text == f"<system>Be brief.\n<user>Hi\n<assistant>{TEXT}\n<user>Hi\n<assistant>"


@pytest.mark.parametrize("stop", [None, " girl", ["never", "e sun"]])
async def test_a_streamed_chat_joins_to_the_whole_one(
    served: Served, stop: str | list[str] | None
) -> None:
    asked = {"model": "small", "messages": TURNS, "stop": stop}
    whole = await served.openai.chat.completions.create(**asked)
    stream = await served.openai.chat.completions.create(
        **asked, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    first, *_, last, usage = chunks
    assert first.choices[0].delta.role == "assistant"
    assert len({(each.id, each.created, each.system_fingerprint) for each in chunks}) == 1
    assert {each.object for each in chunks} == {"chat.completion.chunk"}
    text = "".join(each.choices[0].delta.content or "" for each in chunks[:-1])
    assert text == whole.choices[0].message.content
    assert last.choices[0].finish_reason == "stop"
    assert last.choices[0].delta.content is None
    assert last.choices[0].stop_reason == whole.choices[0].stop_reason
    assert (usage.choices, usage.usage) == ([], whole.usage)
    assert all(each.usage is None for each in chunks[:-1])


async def test_a_chunk_holds_a_rounds_tokens(served: Served) -> None:
    stream = await served.openai.completions.create(
        model="small", prompt="So:", stream=True, max_tokens=5
    )
    texts = [chunk.choices[0].text async for chunk in stream]
    assert texts == ["Once", " upon a time", " there", ""]


@pytest.mark.parametrize(
    ("prompt", "num"),
    [("So:", 1), (["So:", "Na"], 2), ([5, 6, 7], 1), ([[5, 6, 7], [8, 9]], 2)],
    ids=["text", "texts", "ids", "lists_of_ids"],
)
async def test_every_kind_of_prompt_is_completed(
    served: Served, prompt: str | list[str] | list[int] | list[list[int]], num: int
) -> None:
    del served.worker.requests[:]
    answer = await served.openai.completions.create(model="small", prompt=prompt, max_tokens=5)
    assert [choice.index for choice in answer.choices] == list(range(num))
    assert [choice.text for choice in answer.choices] == [FIRST_FIVE] * num
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage.completion_tokens == 5 * num
    sent = [list(request.token_ids) for request in served.worker.requests]
    assert answer.usage.prompt_tokens == sum(map(len, sent))
    assert answer.usage.prompt_tokens_details.cached_tokens == NUM_CACHED * num
    first = prompt if isinstance(prompt, str) else prompt[0]
    ids = served.tokenizer.encode(first).ids if isinstance(first, str) else prompt
    assert (ids[0] if num == 2 and isinstance(ids[0], list) else ids) in sent


async def test_choices_have_seeds_of_their_own_that_follow_from_the_first(served: Served) -> None:
    del served.worker.requests[:]
    answer = await served.openai.completions.create(
        model="small", prompt="So:", n=3, seed=7, temperature=0.5, max_tokens=2
    )
    seeds = {request.sampling.seed for request in served.worker.requests}
    assert seeds == {seed_of_choice(7, index) for index in range(3)}
    assert len(seeds) == 3 and 7 in seeds
    assert answer.metrics["seed"] == 7
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2]
    # The prompt was read once, whatever was made of it.
    assert answer.usage.prompt_tokens == len(served.worker.requests[0].token_ids)
    assert answer.usage.completion_tokens == 6


async def test_streamed_choices_keep_their_indices(served: Served) -> None:
    stream = await served.openai.chat.completions.create(
        model="small", messages=TURNS, n=3, stream=True
    )
    texts: dict[int, str] = {}
    ends = []
    async for chunk in stream:
        (choice,) = chunk.choices
        texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
        ends += [choice.index] if choice.finish_reason else []
    assert texts == dict.fromkeys(range(3), TEXT)
    assert sorted(ends) == [0, 1, 2]


async def test_without_a_seed_one_is_drawn_and_told(served: Served) -> None:
    first = await served.openai.completions.create(model="small", prompt="So:")
    assert first.metrics["seed"] == served.worker.requests[-1].sampling.seed
    stream = await served.openai.completions.create(model="small", prompt="So:", stream=True)
    *_, last = [chunk async for chunk in stream]
    assert last.metrics["seed"] == served.worker.requests[-1].sampling.seed
    assert last.metrics["seed"] != first.metrics["seed"]
    negative = await served.openai.completions.create(model="small", prompt="So:", seed=-1)
    assert negative.metrics["seed"] == 2**64 - 1


async def test_all_that_shapes_the_text_reaches_the_cell(served: Served) -> None:
    await served.openai.completions.create(
        model="small", prompt="So:", temperature=0.5, top_p=0.75, presence_penalty=0.5,
        frequency_penalty=-0.5, logit_bias={"5": 1.5}, max_tokens=9, seed=3,
        extra_body={"top_k": 4, "min_p": 0.25, "repetition_penalty": 1.25, "min_tokens": 2,
                    "stop_token_ids": [3, 4], "ignore_eos": True, "priority": "low",
                    "session_key": "talk"},
        extra_headers={"x-shortstack-tenant": "ann"},
    )  # fmt: skip
    request = served.worker.requests[-1]
    assert request.sampling == pb.SamplingParams(
        temperature=0.5, top_k=4, top_p=0.75, min_p=0.25, seed=3, repetition_penalty=1.25,
        presence_penalty=0.5, frequency_penalty=-0.5, logit_bias={5: 1.5},
    )  # fmt: skip
    assert request.stop == pb.StopParams(
        max_new_tokens=9, stop_token_ids=[3, 4], ignore_eos=True, min_new_tokens=2
    )
    assert (request.tenant, request.priority) == ("ann", pb.PRIORITY_LOW)
    assert request.session_key == "talk"


async def test_a_temperature_that_is_absent_is_openais(served: Served) -> None:
    await served.openai.completions.create(model="small", prompt="So:")
    assert served.worker.requests[-1].sampling.temperature == 1
    await served.openai.completions.create(model="small", prompt="So:", temperature=0)
    assert served.worker.requests[-1].sampling.temperature == 0


async def test_wishes_about_speculation_reach_the_cell_and_come_back_as_figures(
    served: Served,
) -> None:
    wish = {"mode": "force", "method": "layerskip", "policy": "static", "max_draft_len": 2,
            "exit_layer": 2, "stop_threshold": 0.5}  # fmt: skip
    answer = await served.openai.completions.create(
        model="small",
        prompt="So:",
        extra_body={"speculation": {**wish, "report": "detailed", "allow_approximate": False}},
    )
    assert served.worker.requests[-1].speculation == pb.SpeculationParams(**wish)
    told = answer.metrics["speculative_decoding"]
    drafted, accepted = told["per_step_drafted"], told["per_step_accepted"]
    assert sum(drafted) == told["num_draft_tokens"]
    assert sum(accepted) == told["num_accepted_draft_tokens"]
    assert len(drafted) == len(accepted) == told["num_spec_steps"] == 6
    assert told["mean_acceptance_length"] == 1 + sum(accepted) / len(accepted)
    assert told["draft_acceptance_rate"] == 1
    histogram = told["acceptance_histogram"]
    assert histogram == [accepted.count(num) for num in range(told["num_spec_tokens"] + 1)]
    assert set(told["exit_layers"]) == {2}
    assert set(told["methods"]) == {"layerskip"}
    assert set(told["reasons"]) == {"policy"}
    details = answer.usage.completion_tokens_details
    assert details.accepted_prediction_tokens == told["num_accepted_draft_tokens"]
    assert details.rejected_prediction_tokens == 0


async def test_the_usage_chunk_carries_the_summary(served: Served) -> None:
    stream = await served.openai.completions.create(
        model="small", prompt="So:", stream=True, stream_options={"include_usage": True},
        extra_body={"speculation": {"report": "summary"}},
    )  # fmt: skip
    chunks = [chunk async for chunk in stream]
    told = chunks[-1].metrics["speculative_decoding"]
    assert told["num_spec_steps"] == 6
    assert "reasons" not in told
    assert not any("metrics" in chunk.model_extra for chunk in chunks[:-1])


async def test_a_stop_id_is_told_as_a_number(served: Served) -> None:
    served.worker.stop_token_id = 11
    try:
        answer = await served.openai.completions.create(model="small", prompt="So:")
    finally:
        served.worker.stop_token_id = None
    assert (answer.choices[0].finish_reason, answer.choices[0].stop_reason) == ("stop", 11)


async def test_chats_have_logprobs_with_bytes(served: Served) -> None:
    asked = {"model": "small", "messages": TURNS, "logprobs": True, "top_logprobs": 1}
    whole = await served.openai.chat.completions.create(**asked)
    content = whole.choices[0].logprobs.content
    assert bytes(byte for entry in content for byte in entry.bytes).decode() == TEXT
    assert len(content) == len(served.ids)
    assert all(entry.top_logprobs[0].token == entry.token for entry in content)
    assert served.worker.requests[-1].num_logprobs == 1
    stream = await served.openai.chat.completions.create(**asked, stream=True)
    streamed = [
        entry
        async for chunk in stream
        if chunk.choices[0].logprobs is not None
        for entry in chunk.choices[0].logprobs.content
    ]
    assert streamed == content


async def test_completions_have_logprobs_with_places(served: Served) -> None:
    asked = {"model": "small", "prompt": "So:", "logprobs": 1, "stop": "girl"}
    whole = await served.openai.completions.create(**asked)
    told = whole.choices[0].logprobs
    text = "Once upon a time there was a little "
    assert whole.choices[0].text == text
    # The token that completed the stop string counts.
    assert "".join(told.tokens) == f"{text}girl"
    assert len(told.tokens) == whole.usage.completion_tokens
    for token, offset in zip(told.tokens, told.text_offset, strict=True):
        assert f"{text}girl"[offset:].startswith(token)
    assert [top[token] for token, top in zip(told.tokens, told.top_logprobs, strict=True)] == (
        told.token_logprobs
    )
    stream = await served.openai.completions.create(**asked, stream=True)
    offsets = [
        offset
        async for chunk in stream
        if chunk.choices[0].logprobs is not None
        for offset in chunk.choices[0].logprobs.text_offset
    ]
    assert offsets == told.text_offset


@pytest.mark.parametrize("is_stream", [False, True])
async def test_an_echo_begins_with_the_prompt(served: Served, is_stream: bool) -> None:
    ids = served.tokenizer.encode("So what").ids
    answer = await served.openai.completions.create(
        model="small", prompt=[ids, ids], echo=True, max_tokens=5, stream=is_stream
    )
    if is_stream:
        text = "".join([c.choices[0].text async for c in answer if c.choices[0].index == 1])
    else:
        text = answer.choices[1].text
    assert text == f"So what{FIRST_FIVE}"


async def test_models_are_listed(served: Served) -> None:
    (model,) = (await served.openai.models.list()).data
    assert (model.id, model.object, model.owned_by) == ("small", "model", "shortstack")
    assert model.context_length == model.max_model_len == 256
    assert (model.methods, model.exit_layers) == (["layerskip", "off"], [1, 2, 3])
    assert await served.openai.models.retrieve("small") == model
    with pytest.raises(openai.NotFoundError) as caught:
        await served.openai.models.retrieve("some/large")
    assert caught.value.code == "model_not_found"


async def test_a_prompt_beyond_the_context_has_openais_code(served: Served) -> None:
    with pytest.raises(openai.BadRequestError, match="has 300 tokens") as caught:
        await served.openai.completions.create(model="small", prompt=[5] * 300)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")
    with pytest.raises(openai.BadRequestError) as caught:
        await served.openai.chat.completions.create(
            model="small", messages=TURNS, max_completion_tokens=250, stream=True
        )
    assert caught.value.code == "context_length_exceeded"
    assert caught.value.param == "max_completion_tokens"


async def test_another_model_is_not_found(served: Served) -> None:
    with pytest.raises(openai.NotFoundError, match="'small' is") as caught:
        await served.openai.chat.completions.create(model="large", messages=TURNS)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
