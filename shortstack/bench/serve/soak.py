"""Scenario `soak`: mixed load for a while; when it is over, everything must be as it was before.

Clients send short and long prompts and such that share a prefix, in all modes at once, and cancel
some of them. When the server is idle again no page is in use but by the prefix cache, every process
has its file descriptors and threads of before, no shared memory has been added, and when the stack
has ended none is left. Every answer, and what came of a cancelled one, is compared with plain
decoding.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shared.telemetry.machine import Machine, describe_machine
from shortstack.bench.open_bench import Watcher
from shortstack.bench.serve.checks import (
    Check,
    Found,
    check_of,
    differences,
    expected_answers,
)
from shortstack.bench.serve.conditions import (
    Conditions,
    machine_line,
    make_conditions,
    published,
)
from shortstack.bench.serve.open_serve import Server, open_server, warm_up
from shortstack.bench.serve.overload import Moment, idle_moment
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.processes import ProcessFigures, StackFigures, left_behind
from shortstack.bench.serve.result import Outcome, Result, with_outcome
from shortstack.bench.serve.senders import GatewaySender
from shortstack.bench.serve.soak_load import SoakItem, draw_soak, make_pools
from shortstack.bench.torch_messages import Answer

NUM_CLIENTS, DURATION_S, WARM_S = 8, 60.0, 5.0
# Threads and connections of libraries linger for a moment behind their last use.
SETTLE_TIMEOUT_S, SETTLE_POLL_S = 30.0, 0.5


@dataclass(frozen=True, slots=True)
class SoakReport:
    """The whole scenario. left_behind: segments that outlived the stack."""

    machine: Machine
    conditions: Conditions
    duration_s: float
    num_by_outcome: dict[str, int]
    num_tokens: int
    errors: Sequence[str]
    before: Moment
    after: Moment
    left_behind: Sequence[str]
    check: Check
    found: Sequence[Found]

    def failures(self) -> list[str]:
        """Return what is not as it was before, what was lost, what differs."""
        lines = [f"lost: {error}" for error in self.errors]
        if not self.num_by_outcome[Outcome.DONE]:
            lines.append("no request was answered")
        pages = self.after.pages
        if not pages.is_idle:
            lines.append(
                f"pages when idle: {pages.num_used} used, {pages.num_quarantined} set aside"
            )
        lines += leaks(self.before.stack, self.after.stack)
        lines += [f"shared memory left behind: {path}" for path in self.left_behind]
        if self.check.num_mismatches:
            lines.append(f"{self.check.num_mismatches} of {self.check.num_compared} answers differ")
        return lines

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published."""
        values = {
            "duration_s": self.duration_s,
            "requests": self.num_by_outcome,
            "num_tokens": self.num_tokens,
            "processes": {
                name: {"before": asdict(figures), "after": asdict(after)}
                for name, figures, after in self.pairs()
            },
            "num_segments": [len(each.stack.segments) for each in (self.before, self.after)],
            "pages": {"before": asdict(self.before.pages), "after": asdict(self.after.pages)},
            "left_behind": list(self.left_behind),
            "check": asdict(self.check),
            "failures": self.failures(),
        }
        return published("soak", self.conditions, self.machine, values)

    def pairs(self) -> Iterator[tuple[str, ProcessFigures, ProcessFigures]]:
        """Yield every process as it was before and after."""
        after = self.after.stack.processes
        for name, figures in self.before.stack.processes.items():
            yield name, figures, after[name]


def leaks(before: StackFigures, after: StackFigures) -> list[str]:
    """Return which processes hold more descriptors or threads, and which segments are new."""
    lines = []
    for name, was in before.processes.items():
        now = after.processes[name]
        if now.num_fds > was.num_fds:
            lines.append(f"{name}: {was.num_fds} file descriptors before, {now.num_fds} after")
        if now.num_threads > was.num_threads:
            lines.append(f"{name}: {was.num_threads} threads before, {now.num_threads} after")
    new = sorted(after.segments - before.segments)
    return [*lines, *(f"shared memory added: {path}" for path in new)]


async def measure_soak(plan: ServePlan, watcher: Watcher) -> SoakReport:
    """Run the load, then look at what is left.

    Raises:
        CommandError: a process did not come up or stay up.
    """
    machine = describe_machine()
    async with open_server(plan, watcher) as server:
        senders = [server.sender(mode) for mode in plan.modes]
        await warm_up(senders, plan.prompts)
        room = server.max_context_len - plan.mix.longest
        pools = make_pools(plan.prompts, server.vocab_size, room, str(plan.seed))
        # Libraries open what they keep at their first load; what counts is what comes on top.
        soak = Soak(plan, server, senders, watcher)
        await soak.run(draw_soak(pools, plan.mix, len(senders), f"{plan.seed} warm"), WARM_S)
        before = await idle_moment(server)
        duration_s = plan.duration_s or DURATION_S
        watcher.on_stage(f"mixed load for {duration_s:g} s")
        items = draw_soak(pools, plan.mix, len(senders), str(plan.seed))
        results = await soak.run(items, duration_s)
        watcher.on_stage("waiting until idle")
        after = await settled(server, before)
    remains = left_behind(before.stack.segments | after.stack.segments)
    watcher.on_stage("comparing tokens")
    expected = await expected_answers(plan.choice, pools.all, plan.mix.longest, server.ends)
    judged = [whole_or_cut(result, expected) for result in results]
    found = differences("soak", judged, expected)
    failed = with_outcome(results, Outcome.FAILED)
    return SoakReport(
        machine,
        make_conditions(plan, server.num_layers),
        duration_s,
        {outcome: len(with_outcome(results, outcome)) for outcome in Outcome},
        sum(len(result.token_ids) for result in results),
        [result.error for result in failed],
        before,
        after,
        remains,
        check_of(judged, found),
        found,
    )


class Soak:
    """Clients that send what they draw until time is up."""

    def __init__(
        self, plan: ServePlan, server: Server, senders: Sequence[GatewaySender], watcher: Watcher
    ) -> None:
        self._num_clients = plan.max_concurrency or NUM_CLIENTS
        self._server = server
        self._senders = senders
        self._watcher = watcher

    async def run(self, items: Iterator[SoakItem], duration_s: float) -> list[Result]:
        """Run all clients; return what became of every request."""
        results: list[Result] = []
        deadline_s = time.monotonic() + duration_s

        async def client() -> None:
            while time.monotonic() < deadline_s:
                results.append(await self._send(next(items)))
                self._server.stack.poll()
                self._watcher.on_turn()

        async with asyncio.TaskGroup() as clients:
            for _ in range(self._num_clients):
                clients.create_task(client())
        return results

    async def _send(self, soak_item: SoakItem) -> Result:
        """Send one request; a refused client waits as it was told and goes on with another."""
        sender, span_s = self._senders[soak_item.sender_index], soak_item.cancel_after_s
        if span_s is None:
            result = await sender.send_now(soak_item.item)
        else:
            result = await sender.send_for(soak_item.item, span_s)
        await asyncio.sleep(result.retry_delay_ms / 1e3)
        return result


async def settled(server: Server, before: Moment) -> Moment:
    """Look at the stack when it is as it was, or after a while when that does not come."""
    deadline_s = time.monotonic() + SETTLE_TIMEOUT_S
    moment = await idle_moment(server)
    while leaks(before.stack, moment.stack) and time.monotonic() < deadline_s:
        await asyncio.sleep(SETTLE_POLL_S)
        moment = await idle_moment(server)
    return moment


def whole_or_cut(result: Result, answers: Mapping[str, Answer]) -> Result:
    """Return a result to be judged; a cancelled one as if it had asked for what it got."""
    if result.outcome is not Outcome.CANCELLED or not result.token_ids:
        return result
    expected = answers[result.item.prompt.prompt_id].token_ids
    item = replace(result.item, max_new_tokens=min(len(result.token_ids), len(expected)))
    return replace(result, item=item, outcome=Outcome.DONE)


def show_soak(report: SoakReport, console: Console) -> None:
    """Print the report."""
    console.print(report.conditions.headline, highlight=False, soft_wrap=True)
    table = Table(title=f"{report.duration_s:g} s of mixed load; before -> after", box=SIMPLE_HEAD)
    table.add_column("process")
    for column in ("PSS MiB", "RSS MiB", "file descriptors", "threads"):
        table.add_column(column, justify="right")
    for name, was, now in report.pairs():
        table.add_row(name, *_cells(was, now))
    console.print(table)
    for line in soak_lines(report):
        console.print(line, highlight=False, soft_wrap=True)


def _cells(was: ProcessFigures, now: ProcessFigures) -> list[str]:
    def mib(size: int | None) -> str:
        return "-" if size is None else f"{size / 2**20:.0f}"

    return [
        f"{mib(was.pss_bytes)} -> {mib(now.pss_bytes)}",
        f"{mib(was.rss_bytes)} -> {mib(now.rss_bytes)}",
        f"{was.num_fds} -> {now.num_fds}",
        f"{was.num_threads} -> {now.num_threads}",
    ]


def soak_lines(report: SoakReport) -> list[str]:
    """Return what does not fit the table."""
    counts = ", ".join(f"{num} {name}" for name, num in report.num_by_outcome.items())
    pages, check = report.after.pages, report.check
    return [
        f"requests: {counts}; {report.num_tokens} tokens",
        f"pages when idle: {pages.num_used} used, {pages.num_quarantined} set aside, "
        f"{pages.num_cached} held by the prefix cache, {pages.num_free} free",
        f"shared memory: {len(report.after.stack.segments)} segments while up, "
        f"{len(report.left_behind)} left behind",
        f"tokens: {check.num_compared} answers compared, {check.num_mismatches} mismatches, "
        f"{check.num_near_ties} near ties",
        machine_line(report.machine),
    ]
