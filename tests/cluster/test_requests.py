"""Good and bad requests against one running stack."""

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from shared.errors import InvalidRequest, ModelNotFound, ShortstackError, Unsupported
from shared.speculation.vocabulary import FinishReason, SamplingParams, TokenSource
from shortstack.client import Client
from shortstack.health import verify_info
from shortstack.request import Limits, Request, Speculation, Turn
from shortstack.stack import Stack
from tests.cluster.streams import LAYERSKIP, ids_of, make_requests, run_plain
from tests.cluster.tiny_model import MAX_CONTEXT_LEN
from tests.polling import poll_until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(240)]

GOOD = Request((5, 6, 7), limits=Limits(max_new_tokens=5))


def with_sampling(**options: float) -> Request:
    return replace(GOOD, sampling=SamplingParams(**options))  # type: ignore[arg-type]


def with_speculation(**options: int | float | str) -> Request:
    return replace(GOOD, speculation=Speculation(**options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("request_", "error", "field"),
    [
        (replace(GOOD, prompt=""), InvalidRequest, "prompt"),
        (replace(GOOD, prompt=()), InvalidRequest, "token_ids"),
        (replace(GOOD, prompt=(5, 99_999)), InvalidRequest, "token_ids"),
        (replace(GOOD, prompt=(5,) * MAX_CONTEXT_LEN), InvalidRequest, ""),
        (replace(GOOD, prompt=(Turn("wizard", "hi"),)), InvalidRequest, ""),
        (replace(GOOD, model="another"), ModelNotFound, ""),
        (replace(GOOD, limits=Limits(max_new_tokens=10**6)), InvalidRequest, "max_new_tokens"),
        (replace(GOOD, limits=Limits(MAX_CONTEXT_LEN - 1)), InvalidRequest, "max_new_tokens"),
        (replace(GOOD, limits=Limits(stop_strings=("",))), InvalidRequest, "stop_strings"),
        (replace(GOOD, num_logprobs=10**6), InvalidRequest, "num_logprobs"),
        (with_sampling(temperature=-1), InvalidRequest, "temperature"),
        (with_sampling(temperature=float("nan")), InvalidRequest, "temperature"),
        (with_sampling(temperature=1, top_p=2), InvalidRequest, "top_p"),
        (with_sampling(temperature=1, min_p=-0.5), InvalidRequest, "min_p"),
        (with_sampling(repetition_penalty=-1), InvalidRequest, "repetition_penalty"),
        (with_sampling(presence_penalty=9), InvalidRequest, "presence_penalty"),
        (with_speculation(method="telepathy"), InvalidRequest, "method"),
        (with_speculation(exit_layer=99), InvalidRequest, "exit_layer"),
        (with_speculation(exit_layer=0), InvalidRequest, "exit_layer"),
        (with_speculation(max_draft_len=9999), InvalidRequest, "draft_len"),
        (with_speculation(stop_threshold=1.5), InvalidRequest, "stop_threshold"),
        (with_speculation(policy="oracle"), InvalidRequest, "policy"),
    ],
)
async def test_a_bad_request_is_refused_with_its_field(
    request_: Request, error: type[ShortstackError], field: str, shared_client: Client
) -> None:
    with pytest.raises((error, Unsupported)) as raised:
        await shared_client.complete(request_)
    assert field in raised.value.field + raised.value.message


async def test_nothing_is_left_of_refused_requests(
    shared_stack: Stack, shared_client: Client
) -> None:
    assert len((await shared_client.complete(GOOD)).token_ids) == 5

    async def pool_is_free() -> bool:
        pool = (await verify_info(shared_stack.cells[0].verify_target)).pool
        return pool.num_free + pool.num_cached == pool.num_pages

    await poll_until(pool_is_free)


async def test_speculation_changes_no_token(shared_client: Client) -> None:
    requests = make_requests(6, max_new_tokens=60)
    expected = await run_plain(shared_client, requests)
    completions = await asyncio.gather(*map(shared_client.complete, requests))
    assert ids_of(completions) == expected
    sources = {source for completion in completions for source in completion.sources}
    assert {TokenSource.ACCEPTED, TokenSource.RECOVERED} <= sources


async def test_streamed_text_joins_to_the_whole(shared_client: Client) -> None:
    request = Request("Once upon a time", limits=Limits(max_new_tokens=40, ignore_eos=True))
    completion = await shared_client.complete(request)
    assert completion.text
    assert completion.finished.finish_reason is FinishReason.LENGTH
    assert completion.finished.num_emitted == len(completion.token_ids) == 40


async def test_a_request_ends_at_the_end_of_the_context(shared_client: Client) -> None:
    prompt = (5,) * (MAX_CONTEXT_LEN - 10)
    limits = Limits(max_new_tokens=10, ignore_eos=True)
    completion = await shared_client.complete(Request(prompt, limits=limits, speculation=LAYERSKIP))
    assert len(completion.token_ids) == 10
    assert completion.finished.finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize("sampling", [[], ["--temperature", "0.9", "--seed", "4"]])
async def test_check_finds_no_difference(
    model_dir: Path, tmp_path: Path, sampling: list[str]
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "The little girl"}\n{"token_ids": [9, 8, 7]}\n')
    options = [
        "--model", str(model_dir), "--prompts", str(prompts), "--max-new-tokens", "40",
        "--exit-layer", "2", "--draft-len", "3", "--cell", "fused", "--num-threads", "1", "--json",
    ]  # fmt: skip
    check = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shortstack.cli", "check", *options, *sampling,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, errors = await check.communicate()
    assert check.returncode == 0, errors.decode()
    report = json.loads(out.splitlines()[-1])
    assert (report["prompts"], report["mismatches"]) == (2, 0)
    assert report["tokens"] == 80
    assert report["mean_emitted_len"] >= 1
