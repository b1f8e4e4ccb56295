"""Hand-made requests, results and senders for the tests."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from shared.speculation.vocabulary import SpeculationSummary
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.serve.result import Outcome, Result, ServerSide
from shortstack.bench.serve.workload import WorkItem

MS = 1_000_000
PROMPTS = [BenchPrompt("a", "code", (1, 2)), BenchPrompt("b", "math", (3,))]


def item(index: int = 0, max_new_tokens: int = 8, prompt: BenchPrompt = PROMPTS[0]) -> WorkItem:
    return WorkItem(index, prompt, max_new_tokens)


def result(
    sent_ms: float,
    messages: Sequence[tuple[float, int]] = (),
    *,
    index: int = 0,
    outcome: Outcome = Outcome.DONE,
    ended_ms: float | None = None,
    server: ServerSide | None = None,
    error: str = "",
) -> Result:
    """A request; messages are (milliseconds, tokens)."""
    end_ms = messages[-1][0] if ended_ms is None and messages else ended_ms or sent_ms
    return Result(
        item(index),
        int(sent_ms * MS),
        int(end_ms * MS),
        outcome,
        tuple(int(at_ms * MS) for at_ms, _ in messages),
        tuple(num for _, num in messages),
        tuple(range(sum(num for _, num in messages))),
        error,
        server=server,
    )


def server_side(queue_ms: float = 0, num_accepted: int | None = None, **more: int) -> ServerSide:
    """What a server tells; with num_accepted one round of 4 drafts counts."""
    did = SpeculationSummary()
    if num_accepted is not None:
        did.count(4, num_accepted, num_accepted + 1)
    return ServerSide(int(queue_ms * MS), did, **more)


@dataclass
class FakeSender:
    """Answers after one turn of the event loop, as it is told to for each item."""

    name: str = "fake"
    answer: Callable[[int], Outcome] = lambda num_tries: Outcome.DONE
    sent: list[WorkItem] = field(default_factory=list)
    num_open: int = 0
    most_open: int = 0

    async def send(self, item: WorkItem, sent_ns: int) -> Result:
        self.sent.append(item)
        self.num_open += 1
        self.most_open = max(self.most_open, self.num_open)
        await asyncio.sleep(0)
        self.num_open -= 1
        outcome = self.answer(len(self.sent))
        ended_ns = time.perf_counter_ns()
        return Result(item, sent_ns, ended_ns, outcome, (ended_ns,), (1,), (7,))
