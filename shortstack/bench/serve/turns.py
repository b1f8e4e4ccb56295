"""Turns of a sweep: one sender under one load, once."""

import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shortstack.bench.open_bench import Watcher
from shortstack.bench.serve.cell_watch import CellWatch
from shortstack.bench.serve.figures import Figures, figures_of
from shortstack.bench.serve.loops import Extent, OnResult, closed_loop, open_loop
from shortstack.bench.serve.open_serve import Server
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.result import Result
from shortstack.bench.serve.senders import GatewaySender, Sender
from shortstack.bench.serve.window import LoadRun, Window, closed_window, open_window
from shortstack.bench.serve.workload import draw_items, poisson_arrivals

# Arrivals of an open loop, unless said otherwise.
NUM_ARRIVALS = 48


class LoadKind(StrEnum):
    """How requests are sent."""

    CLOSED = "closed"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Load:
    """A closed loop of `size` clients, or arrivals at `size` requests per second."""

    kind: LoadKind
    size: float

    def __str__(self) -> str:
        """Name the load."""
        is_closed = self.kind is LoadKind.CLOSED
        return f"{self.size:g} clients" if is_closed else f"{self.size:g} requests/s"


@dataclass(frozen=True, slots=True)
class Turn:
    """One sender under one load, once; repeats count from 0."""

    load: Load
    repeat: int
    sender: str
    started_ns: int
    results: Sequence[Result]
    figures: Figures

    def trace(self) -> list[dict[str, Any]]:
        """Return one record per request, times in milliseconds from the start of the turn."""
        own = {"load": self.load.kind.value, "size": self.load.size, "repeat": self.repeat}
        return [
            own | {"sender": self.sender} | trace_record(result, self.started_ns)
            for result in sorted(self.results, key=lambda result: result.item.index)
        ]


def trace_record(result: Result, started_ns: int) -> dict[str, Any]:
    """Return what a trace says of a request."""

    def since_start_ms(time_ns: int) -> float:
        return round((time_ns - started_ns) / 1e6, 3)

    return {
        "index": result.item.index,
        "prompt_id": result.item.prompt.prompt_id,
        "prompt_len": len(result.item.prompt.token_ids),
        "max_new_tokens": result.item.max_new_tokens,
        "outcome": result.outcome.value,
        "sent_ms": since_start_ms(result.sent_ns),
        "ended_ms": since_start_ms(result.ended_ns),
        "message_ms": [since_start_ms(time_ns) for time_ns in result.times_ns],
        "message_lens": list(result.lens),
        "token_ids": list(result.token_ids),
        "num_refusals": result.num_refusals,
        "error": result.error,
        "server": dataclasses.asdict(result.server) if result.server else None,
    }


def loads_of(plan: ServePlan) -> list[Load]:
    """Return the loads of a plan; each is refused here if it can never stand.

    Raises:
        UsageError: too few requests were asked for.
    """
    for concurrency in plan.concurrency:
        plan.extent_of(concurrency)
    closed = [Load(LoadKind.CLOSED, size) for size in plan.concurrency]
    return closed + [Load(LoadKind.OPEN, rate) for rate in plan.rates]


async def take_turns(
    plan: ServePlan, server: Server, senders: Sequence[Sender], watcher: Watcher
) -> AsyncIterator[Turn]:
    """Let every sender meet every load, as often as the plan repeats."""
    num_turns = 0
    for repeat in range(plan.repeats):
        for load in loads_of(plan):
            first = num_turns % len(senders)
            for sender in (*senders[first:], *senders[:first]):
                watcher.on_stage(f"{load}, {sender.name}, {repeat + 1} of {plan.repeats}")
                yield await take_turn(plan, server, sender, load, repeat, watcher)
            num_turns += 1


async def take_turn(
    plan: ServePlan, server: Server, sender: Sender, load: Load, repeat: int, watcher: Watcher
) -> Turn:
    """Run one load against one sender; pages are watched where it is the gateway's."""

    def on_result(result: Result) -> None:
        server.stack.poll()
        watcher.on_turn()

    async with AsyncExitStack() as contexts:
        watch = None
        if isinstance(sender, GatewaySender):
            watch = await contexts.enter_async_context(CellWatch(server.targets))
        run, window = await run_load(plan, sender, load, repeat, on_result)
        peaks = watch.peaks if watch else None
    figures = figures_of(run, window, peaks)
    return Turn(load, repeat, sender.name, run.started_ns, run.results, figures)


async def run_load(
    plan: ServePlan, sender: Sender, load: Load, repeat: int, on_result: OnResult
) -> tuple[LoadRun, Window]:
    """Send a load; it depends on seed, load and repeat alone, not on the sender."""
    seed = f"{plan.seed} {load} {repeat}"
    items = draw_items(plan.prompts, plan.mix, seed)
    if load.kind is LoadKind.CLOSED:
        concurrency = int(load.size)
        extent = plan.extent_of(concurrency)
        run = await closed_loop(sender, items, concurrency, extent, on_result)
        return run, closed_window(run, concurrency)
    arrivals_s = poisson_arrivals(load.size, seed)
    extent = open_extent(plan)
    run = await open_loop(sender, items, arrivals_s, extent, on_result)
    return run, open_window(run)


def open_extent(plan: ServePlan) -> Extent:
    """Return how many requests arrive."""
    if plan.duration_s is not None:
        return Extent(plan.num_requests, plan.duration_s)
    return Extent(plan.num_requests or NUM_ARRIVALS)
