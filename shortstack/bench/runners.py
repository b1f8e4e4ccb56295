"""Runners: one per peer, each decodes a prompt once and says how long it took.

Times of the pipeline, the fused cell and plain decoding through the gateway are those that a client
sees, over gRPC; times of the torch peers are taken inside their process, without any network.
"""

import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Protocol

from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.samples import Peer, Sample
from shortstack.bench.torch_messages import Answer, EarlyExit, Order
from shortstack.bench.torch_peer import TorchPeer
from shortstack.client import Client, CompletionBuilder
from shortstack.events import Tokens
from shortstack.request import Limits, Request, Speculation


@dataclass(frozen=True, slots=True)
class Work:
    """What every peer does with a prompt: greedy, to the limit or an end of sequence."""

    max_new_tokens: int
    eos_token_ids: tuple[int, ...]
    ignore_eos: bool = False


class Runner(Protocol):
    """Decodes prompts as one peer."""

    @property
    def peer(self) -> Peer:
        """Whose samples these are."""
        ...

    async def run(self, prompt: BenchPrompt) -> Sample:
        """Decode a prompt once."""
        ...


@dataclass(frozen=True, slots=True)
class GatewayRunner:
    """Decodes through a gateway, as any client would."""

    peer: Peer
    client: Client
    work: Work
    speculation: Speculation

    async def run(self, prompt: BenchPrompt) -> Sample:
        """Decode a prompt once."""
        limits = Limits(max_new_tokens=self.work.max_new_tokens, ignore_eos=self.work.ignore_eos)
        request = Request(prompt.token_ids, limits=limits, speculation=self.speculation)
        builder = CompletionBuilder()
        times_ns, first_len = [time.perf_counter_ns()], 0
        async with aclosing(self.client.generate(request)) as events:
            async for event in events:
                if isinstance(event, Tokens) and event.token_ids:
                    times_ns.append(time.perf_counter_ns())
                    first_len = first_len or len(event.token_ids)
                builder.add(event)
        completion = builder.build()
        timings = completion.finished.timings
        return Sample(
            peer=self.peer,
            prompt_id=prompt.prompt_id,
            kind=prompt.kind,
            token_ids=completion.token_ids,
            first_len=first_len,
            first_ns=times_ns[1] - times_ns[0],
            decode_ns=times_ns[-1] - times_ns[1],
            speculation=completion.speculation,
            # The cell counts the passes of the prompt too.
            pass_ns=max(0, timings.verify_ns - timings.prefill_ns),
        )


@dataclass(frozen=True, slots=True)
class TorchRunner:
    """Decodes in a child process."""

    peer: Peer
    child: TorchPeer
    work: Work
    early_exit: EarlyExit | None = None

    async def run(self, prompt: BenchPrompt) -> Sample:
        """Decode a prompt once."""
        answer = await self.answer(prompt)
        return Sample(
            peer=self.peer,
            prompt_id=prompt.prompt_id,
            kind=prompt.kind,
            token_ids=answer.token_ids,
            first_len=answer.first_len,
            first_ns=answer.first_ns,
            decode_ns=answer.decode_ns,
        )

    async def answer(self, prompt: BenchPrompt, *, with_gaps: bool = False) -> Answer:
        """Decode a prompt once; with gaps the times are not comparable."""
        ends = () if self.work.ignore_eos else self.work.eos_token_ids
        return await self.child.generate(
            Order(prompt.token_ids, self.work.max_new_tokens, ends, self.early_exit, with_gaps)
        )


async def fastest_early_exit(
    runner: TorchRunner, prompts: Sequence[BenchPrompt], exit_layer: int, draft_len: int
) -> TorchRunner:
    """Try the ways of drafting that transformers offers at this exit; return the fastest.

    Its defaults are among them, and our own draft length: the peer is measured at its best.
    """
    candidates = [
        EarlyExit(exit_layer, 20, "constant", 0.4),
        EarlyExit(exit_layer, 5, "heuristic", 0.4),
        EarlyExit(exit_layer, draft_len, "constant", 0.4),
        EarlyExit(exit_layer, draft_len, "constant", 0.0),
    ]
    tried = [replace(runner, early_exit=candidate) for candidate in candidates]
    speeds = [await mean_speed(candidate, prompts) for candidate in tried]
    return tried[speeds.index(max(speeds))]


async def mean_speed(runner: Runner, prompts: Sequence[BenchPrompt]) -> float:
    """Return the decode speed over some prompts, each decoded once."""
    samples = [await runner.run(prompt) for prompt in prompts]
    return sum(sample.decode_tok_s or 0.0 for sample in samples) / len(samples)
