"""Many requests at once against a stack, and what to compare them with."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from shared.ids import new_request_id
from shared.speculation.vocabulary import SamplingParams, TokenSource
from shortstack.client import Client, Completion, CompletionBuilder
from shortstack.request import PLAIN, Limits, Request, Speculation

LAYERSKIP = Speculation(method="layerskip", exit_layer=2, max_draft_len=3)


def make_requests(num: int, max_new_tokens: int = 300) -> list[Request]:
    """Return different prompts, half of them greedy, half sampled with a seed."""
    return [
        Request(
            prompt=tuple(range(10 * index + 1, 10 * index + 8)),
            sampling=SamplingParams(temperature=0.8 * (index % 2), seed=index + 1),
            limits=Limits(max_new_tokens=max_new_tokens, ignore_eos=True),
            speculation=LAYERSKIP,
        )
        for index in range(num)
    ]


def fresh(request: Request) -> Request:
    """Return the same request under a new id."""
    return replace(request, request_id=new_request_id())


async def run_plain(client: Client, requests: Sequence[Request]) -> list[tuple[int, ...]]:
    """Return the ids of plain decoding."""
    plain = [replace(fresh(request), speculation=PLAIN) for request in requests]
    completions = await asyncio.gather(*map(client.complete, plain))
    return [completion.token_ids for completion in completions]


@dataclass
class Streams:
    """Requests under way; `num_tokens` counts what has arrived over all of them."""

    client: Client
    requests: Sequence[Request]
    builders: list[CompletionBuilder] = field(default_factory=list)
    tasks: list[asyncio.Task[Completion]] = field(default_factory=list)

    def start(self) -> None:
        """Send all requests."""
        for request in self.requests:
            builder = CompletionBuilder()
            self.builders.append(builder)
            self.tasks.append(asyncio.create_task(self._run(request, builder)))

    async def _run(self, request: Request, builder: CompletionBuilder) -> Completion:
        async for event in self.client.generate(request):
            builder.add(event)
        return builder.build()

    @property
    def num_tokens(self) -> int:
        """Tokens received so far."""
        return sum(len(builder.token_ids) for builder in self.builders)

    @property
    def are_all_emitting(self) -> bool:
        """Whether every stream has tokens, and none has ended."""
        have_tokens = all(builder.token_ids for builder in self.builders)
        return have_tokens and not any(task.done() for task in self.tasks)

    @property
    def are_all_running(self) -> bool:
        """Whether all are emitting, and some of their tokens came by a draft."""
        sources = {source for builder in self.builders for source in builder.sources}
        return self.are_all_emitting and bool(sources - {TokenSource.PLAIN})

    async def finish(self) -> list[Completion]:
        """Wait for all answers."""
        return list(await asyncio.gather(*self.tasks))


def ids_of(completions: Sequence[Completion]) -> list[tuple[int, ...]]:
    """Return the ids of each completion."""
    return [completion.token_ids for completion in completions]


def total(completions: Sequence[Completion], count: Callable[[Completion], int]) -> int:
    """Sum a count over completions."""
    return sum(map(count, completions))
