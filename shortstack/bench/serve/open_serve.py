"""The stack under measurement, up and warm, and the clients that ask it."""

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from shortstack.bench.open_bench import Watcher, check_room
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.serve.modes import Mode
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.result import Outcome, Result
from shortstack.bench.serve.senders import Ends, GatewaySender, Sender
from shortstack.bench.serve.workload import WorkItem
from shortstack.client import Client
from shortstack.errors import CommandError
from shortstack.stack import Stack

# Enough for the first drafts of a session, so that both workers have run every path once.
NUM_WARM_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Server:
    """A stack that serves, and what it says of its model."""

    stack: Stack
    client: Client
    ends: Ends
    num_layers: int
    max_context_len: int
    vocab_size: int

    @property
    def targets(self) -> list[str]:
        """Where the verify workers listen."""
        return [cell.verify_target for cell in self.stack.cells]

    def sender(self, mode: Mode) -> GatewaySender:
        """Return the sender of a mode."""
        return GatewaySender(mode, self.client, self.ends)

    def endless_sender(self, mode: Mode) -> GatewaySender:
        """Return a sender whose answers end by their length alone."""
        return GatewaySender(mode, self.client, replace(self.ends, ignore_eos=True))


@asynccontextmanager
async def open_server(plan: ServePlan, watcher: Watcher) -> AsyncIterator[Server]:
    """Bring the stack up; prompts must fit its context together with their answers.

    Raises:
        UsageError: a prompt leaves too little room.
        StackError: a process did not come up.
    """
    watcher.on_stage("bringing the stack up")
    async with (
        Stack(plan.stack_config(), watcher.on_event) as stack,
        Client(stack.target) as client,
    ):
        model = (await client.models()).models[0]
        check_room(plan.prompts, plan.mix.longest, model.max_context_len)
        ends = Ends(tuple(model.eos_token_ids), plan.ignore_eos)
        yield Server(stack, client, ends, model.num_layers, model.max_context_len, model.vocab_size)


async def warm_up(senders: Sequence[Sender], prompts: Sequence[BenchPrompt]) -> None:
    """Send every prompt once through each sender.

    Whoever keeps prefixes has then met all of them, and nobody is measured while it meets them for
    the first time: modes share one server, so the first of them would pay for all.

    Raises:
        CommandError: a request failed.
    """
    for sender in senders:
        for index, prompt in enumerate(prompts):
            item = WorkItem(index, prompt, NUM_WARM_TOKENS)
            require_done(sender.name, await sender.send(item, time.perf_counter_ns()))


def require_done(name: str, result: Result) -> Result:
    """Return a result that must be a whole answer.

    Raises:
        CommandError: it is none.
    """
    if result.outcome is not Outcome.DONE:
        prompt_id = result.item.prompt.prompt_id
        raise CommandError(f"{name}: request {prompt_id} {result.outcome}: {result.error}")
    return result
