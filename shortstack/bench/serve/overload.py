"""Scenario `overload`: ten times the requests that the server can answer.

A closed loop measures the capacity; then requests arrive at ten times that for a minute. Every one
must be answered, with tokens or with a refusal that says when to come again; memory must not grow,
and no page may stay in use when the last request has ended.

Before anything counts, the first mode is overloaded for as long: libraries and allocators keep what
they need at the height of a load for good, for every size of pass that they meet.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shared.telemetry.machine import Machine, describe_machine
from shortstack.bench.open_bench import Watcher
from shortstack.bench.serve.cell_watch import pages_of
from shortstack.bench.serve.conditions import (
    Conditions,
    machine_line,
    make_conditions,
    published,
)
from shortstack.bench.serve.figures import Figures, Spread, figures_of, spread_of
from shortstack.bench.serve.loops import Extent, closed_loop, open_loop
from shortstack.bench.serve.open_serve import Server, open_server, warm_up
from shortstack.bench.serve.pages import PoolPages
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.processes import StackFigures, figures_of_stack
from shortstack.bench.serve.result import Outcome, with_outcome
from shortstack.bench.serve.senders import Sender
from shortstack.bench.serve.window import closed_window, open_window
from shortstack.bench.serve.workload import draw_items, poisson_arrivals

CONCURRENCY, OVERLOAD_FACTOR, DURATION_S = 16, 10.0, 60.0
# Allocators keep a little of what they had at the height of a load.
MAX_GROWTH, MAX_GROWTH_BYTES = 0.05, 32 << 20
CAPTION = (
    "capacity and arrivals in requests/s; times in ms, p50/p95/p99; pages used when idle again"
)
IDLE_TIMEOUT_S, IDLE_POLL_S = 30.0, 0.2


@dataclass(frozen=True, slots=True)
class Moment:
    """Processes and pages at one moment."""

    stack: StackFigures
    pages: PoolPages


@dataclass(frozen=True, slots=True)
class Overload:
    """One mode under overload. Rates are requests per second; refusal_ms is how fast it came."""

    mode: str
    capacity: float
    rate: float
    figures: Figures
    refusal_ms: Spread | None
    errors: tuple[str, ...]
    before: Moment
    after: Moment

    @property
    def num_sent(self) -> int:
        """Requests that arrived."""
        return self.figures.num_done + self.figures.num_refused + self.figures.num_failed

    def failures(self) -> list[str]:
        """Return which claims do not hold."""
        lines = []
        if self.figures.num_failed:
            errors = "; ".join(sorted(set(self.errors)))
            lines.append(f"{self.figures.num_failed} of {self.num_sent} requests lost: {errors}")
        if not self.after.pages.is_idle:
            lines.append(f"pages in use when idle: {self.after.pages.num_used}")
        lines += growth_failures(self.before.stack, self.after.stack)
        return [f"{self.mode}: {line}" for line in lines]


@dataclass(frozen=True, slots=True)
class OverloadReport:
    """The whole scenario."""

    machine: Machine
    conditions: Conditions
    modes: Sequence[Overload]

    def failures(self) -> list[str]:
        """Return which claims do not hold, of all modes."""
        return [line for each in self.modes for line in each.failures()]

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published."""
        modes = {each.mode: values_of(each) for each in self.modes}
        return published("overload", self.conditions, self.machine, {"modes": modes})


def values_of(each: Overload) -> dict[str, Any]:
    """Return the JSON of one mode."""
    moments = {"before": each.before, "after": each.after}
    return {
        "capacity_requests_s": each.capacity,
        "rate_requests_s": each.rate,
        "figures": asdict(each.figures),
        "refusal_ms": asdict(each.refusal_ms) if each.refusal_ms else None,
        **{
            name: {
                "processes": {key: asdict(one) for key, one in moment.stack.processes.items()},
                "pages": asdict(moment.pages),
            }
            for name, moment in moments.items()
        },
    }


def growth_failures(before: StackFigures, after: StackFigures) -> list[str]:
    """Return the processes that hold clearly more memory than before."""
    lines = []
    for name, was in before.processes.items():
        old, new = was.own_bytes, after.processes[name].own_bytes
        if new - old > max(MAX_GROWTH * old, MAX_GROWTH_BYTES):
            lines.append(f"{name} grew from {old / 2**20:.0f} to {new / 2**20:.0f} MiB")
    return lines


async def measure_overload(plan: ServePlan, watcher: Watcher) -> OverloadReport:
    """Overload every mode once.

    Raises:
        CommandError: a process did not come up or stay up.
    """
    machine = describe_machine()
    async with open_server(plan, watcher) as server:
        senders: list[Sender] = [server.sender(mode) for mode in plan.modes]
        await warm_up(senders, plan.prompts)
        await overload(plan, server, senders[0], watcher)
        modes = [await overload(plan, server, sender, watcher) for sender in senders]
    return OverloadReport(machine, make_conditions(plan, server.num_layers), modes)


async def overload(plan: ServePlan, server: Server, sender: Sender, watcher: Watcher) -> Overload:
    """Measure the capacity of one mode, then send more than that."""

    def on_result(_: object) -> None:
        server.stack.poll()
        watcher.on_turn()

    concurrency = plan.max_concurrency or CONCURRENCY
    watcher.on_stage(f"capacity with {concurrency} clients, {sender.name}")
    items = draw_items(plan.prompts, plan.mix, f"{plan.seed} capacity")
    run = await closed_loop(sender, items, concurrency, plan.extent_of(concurrency), on_result)
    standing = figures_of(run, closed_window(run, concurrency), None)
    capacity = standing.requests_s or figures_of(run, run.whole(), None).requests_s
    before = await idle_moment(server)
    rate = OVERLOAD_FACTOR * capacity
    watcher.on_stage(f"{rate:.1f} requests/s, {sender.name}")
    items = draw_items(plan.prompts, plan.mix, f"{plan.seed} overload")
    arrivals_s = poisson_arrivals(rate, f"{plan.seed} overload")
    extent = Extent(duration_s=plan.duration_s or DURATION_S)
    run = await open_loop(sender, items, arrivals_s, extent, on_result)
    refused = with_outcome(run.results, Outcome.REFUSED)
    failed = with_outcome(run.results, Outcome.FAILED)
    return Overload(
        sender.name,
        capacity,
        rate,
        figures_of(run, open_window(run), None),
        spread_of(each.ended_ns - each.sent_ns for each in refused),
        tuple(each.error for each in failed),
        before,
        await idle_moment(server),
    )


async def idle_moment(server: Server) -> Moment:
    """Look at the stack when no page is in use, or after a while when that does not come."""
    deadline_s = asyncio.get_running_loop().time() + IDLE_TIMEOUT_S
    pages = await pages_of(server.targets)
    while not pages.is_idle and asyncio.get_running_loop().time() < deadline_s:
        await asyncio.sleep(IDLE_POLL_S)
        pages = await pages_of(server.targets)
    return Moment(figures_of_stack(server.stack), pages)


def show_overload(report: OverloadReport, console: Console) -> None:
    """Print the report."""
    console.print(report.conditions.headline, highlight=False, soft_wrap=True)
    table = Table(title="overload", caption=CAPTION, box=SIMPLE_HEAD)
    for column in ("mode", "capacity", "arrivals", "done", "refused", "lost", "tok/s"):
        table.add_column(column, justify="right", no_wrap=True)
    for column in ("TTFT", "refusal after", "memory", "after", "pages used"):
        table.add_column(column, justify="right", no_wrap=True)
    for each in report.modes:
        table.add_row(*_row(each))
    console.print(table)
    console.print(machine_line(report.machine), highlight=False, soft_wrap=True)


def _row(each: Overload) -> list[str]:
    figures = each.figures
    counts = (figures.num_done, figures.num_refused, figures.num_failed)
    memory = (each.before.stack.memory_bytes, each.after.stack.memory_bytes)
    return [
        each.mode,
        f"{each.capacity:.2f}",
        f"{each.rate:.2f}",
        *map(str, counts),
        f"{figures.tok_s:.1f}",
        *(_text(spread) for spread in (figures.ttft_ms, each.refusal_ms)),
        *(f"{size / 2**20:.0f} MiB" for size in memory),
        str(each.after.pages.num_used),
    ]


def _text(spread: Spread | None) -> str:
    return "-" if spread is None else f"{spread.p50:.0f}/{spread.p95:.0f}/{spread.p99:.0f}"
