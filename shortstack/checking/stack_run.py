"""The tokens that came: every prompt through a local stack, a few at a time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import SamplingParams
from shortstack.checking.prompts import PromptLine
from shortstack.client import Client, Completion
from shortstack.errors import CommandError
from shortstack.plan import StackConfig
from shortstack.request import Limits, Request, Speculation
from shortstack.stack import Observer, Stack


@dataclass(frozen=True, slots=True)
class EncodedPrompt:
    """A line of the file and the ids it stands for."""

    line: PromptLine
    token_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How every prompt is run; `max_new_tokens` is cut to what the context holds."""

    max_new_tokens: int
    sampling: SamplingParams
    speculation: Speculation
    concurrency: int


@dataclass(frozen=True, slots=True)
class StackRun:
    """The model as the stack knows it, and one completion per prompt, in their order."""

    model: pb.ModelInfo
    completions: tuple[Completion, ...]


async def run_through_stack(
    config: StackConfig,
    prompts: Sequence[EncodedPrompt],
    options: RunOptions,
    observer: Observer,
    on_done: Callable[[], None],
) -> StackRun:
    """Bring a stack up, run all prompts, take it down.

    Raises:
        StackError: the stack did not come up.
        CommandError: a prompt leaves no room in the model's context.
        ShortstackError: a prompt was refused or a request failed.
    """
    places = asyncio.Semaphore(options.concurrency)

    async def run(client: Client, request: Request) -> Completion:
        async with places:
            completion = await client.complete(request)
        on_done()
        return completion

    async with Stack(config, observer) as stack, Client(stack.target) as client:
        model = (await client.models()).models[0]
        requests = [make_request(prompt, options, model.max_context_len) for prompt in prompts]
        completions = await asyncio.gather(*(run(client, request) for request in requests))
    return StackRun(model, tuple(completions))


def make_request(prompt: EncodedPrompt, options: RunOptions, max_context_len: int) -> Request:
    """Return the request of a prompt; text is sent as text, so that the gateway is checked too.

    Raises:
        CommandError: the prompt leaves no room in the model's context.
    """
    max_new_tokens = new_tokens_of(prompt, options, max_context_len)
    if max_new_tokens < 1:
        raise CommandError(
            f"line {prompt.line.line_number}: {len(prompt.token_ids)} tokens leave no room in a"
            f" context of {max_context_len}"
        )
    return Request(
        prompt=prompt.line.prompt,
        sampling=options.sampling,
        limits=Limits(max_new_tokens=max_new_tokens),
        speculation=options.speculation,
    )


def new_tokens_of(prompt: EncodedPrompt, options: RunOptions, max_context_len: int) -> int:
    """Return how many tokens to ask for behind a prompt."""
    return min(options.max_new_tokens, max_context_len - len(prompt.token_ids))
