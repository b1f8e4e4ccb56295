"""The tokens that came: every prompt through a local stack, a few at a time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from shared.rpc import shortstack_pb2 as pb
from shared.speculation.vocabulary import SamplingParams
from shortstack.checking.prompts import PromptLine
from shortstack.client import Client, Completion
from shortstack.plan import StackConfig
from shortstack.request import Limits, Request, Speculation
from shortstack.stack import Observer, Stack


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How every prompt is run."""

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
    prompts: Sequence[PromptLine],
    options: RunOptions,
    observer: Observer,
    on_done: Callable[[], None],
) -> StackRun:
    """Bring a stack up, run all prompts, take it down.

    Raises:
        StackError: the stack did not come up.
        ShortstackError: a prompt was refused or a request failed.
    """
    places = asyncio.Semaphore(options.concurrency)

    async def run(client: Client, line: PromptLine) -> Completion:
        async with places:
            completion = await client.complete(make_request(line, options))
        on_done()
        return completion

    async with Stack(config, observer) as stack, Client(stack.target) as client:
        served = await client.models()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run(client, line)) for line in prompts]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
    return StackRun(served.models[0], tuple(task.result() for task in tasks))


def make_request(line: PromptLine, options: RunOptions) -> Request:
    """Return the request of a prompt."""
    return Request(
        prompt=line.prompt,
        sampling=options.sampling,
        limits=Limits(max_new_tokens=options.max_new_tokens),
        speculation=options.speculation,
    )
