"""Scenario `prompts-arriving`: what long prompts of others do to streams that decode.

A number of streams decode without end, first undisturbed, then with a long prompt arriving every
second, which asks for a single token. Every prompt is new, so no prefix cache helps. The figure is
the ratio of the disturbed 99th percentile of the time between messages to the undisturbed median.
"""

import asyncio
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shared.telemetry.machine import Machine, describe_machine
from shortstack.bench.open_bench import Watcher
from shortstack.bench.serve.conditions import (
    Conditions,
    machine_line,
    make_conditions,
    published,
)
from shortstack.bench.serve.figures import Spread, median_spread, spread_of
from shortstack.bench.serve.loops import Extent, open_loop
from shortstack.bench.serve.made_prompts import made_prompts
from shortstack.bench.serve.open_serve import Server, open_server, warm_up
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.result import Outcome, Result
from shortstack.bench.serve.senders import GatewaySender
from shortstack.bench.serve.workload import WorkItem

NAMES = ("p50", "p99")
NUM_STREAMS, DURATION_S = 4, 20.0
ARRIVING_LEN, PERIOD_S = 512, 1.0
# Streams reach their pace before anything counts.
RAMP_S = 2.0


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One mode, one repeat: the streams without and with prompts, and the prompts themselves."""

    mode: str
    without: Spread | None
    disturbed: Spread | None
    prompt_ttft: Spread | None
    num_prompts: int
    errors: tuple[str, ...]

    @property
    def ratio(self) -> float | None:
        """p99 with prompts over p50 without."""
        if self.without is None or self.disturbed is None:
            return None
        return self.disturbed.p99 / self.without.p50


@dataclass(frozen=True, slots=True)
class ArrivingReport:
    """The whole scenario."""

    machine: Machine
    conditions: Conditions
    num_streams: int
    arriving_len: int
    rounds: Sequence[Disturbance]

    @property
    def medians(self) -> list[Disturbance]:
        """The median of each mode over its repeats."""
        modes = dict.fromkeys(each.mode for each in self.rounds)
        return [_median([each for each in self.rounds if each.mode == mode]) for mode in modes]

    def failures(self) -> list[str]:
        """Return lost requests."""
        return [f"{each.mode}: {error}" for each in self.rounds for error in each.errors]

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published."""
        values = {
            "num_streams": self.num_streams,
            "arriving_len": self.arriving_len,
            "modes": [asdict(each) | {"ratio": each.ratio} for each in self.medians],
            "ratios_by_repeat": [[each.mode, each.ratio] for each in self.rounds],
        }
        return published("prompts-arriving", self.conditions, self.machine, values)


def _median(repeats: Sequence[Disturbance]) -> Disturbance:
    return Disturbance(
        repeats[0].mode,
        median_spread([each.without for each in repeats]),
        median_spread([each.disturbed for each in repeats]),
        median_spread([each.prompt_ttft for each in repeats]),
        int(median(each.num_prompts for each in repeats)),
        tuple(error for each in repeats for error in each.errors),
    )


async def measure_arriving(plan: ServePlan, watcher: Watcher) -> ArrivingReport:
    """Measure every mode, as often as the plan repeats.

    Raises:
        CommandError: a process did not come up or stay up.
    """
    machine = describe_machine()
    num_streams = plan.max_concurrency or NUM_STREAMS
    async with open_server(plan, watcher) as server:
        arriving_len = min(ARRIVING_LEN, server.max_context_len - 1)
        senders = [server.endless_sender(mode) for mode in plan.modes]
        await warm_up(senders, plan.prompts)
        phases = _Phases(plan, server, num_streams, arriving_len)
        rounds = []
        for repeat, sender in itertools.product(range(plan.repeats), senders):
            watcher.on_stage(f"{num_streams} streams, {sender.name}, {repeat + 1}")
            rounds.append(await phases.run(sender, repeat))
            server.stack.poll()
    conditions = make_conditions(plan, server.num_layers)
    return ArrivingReport(machine, conditions, num_streams, arriving_len, rounds)


@dataclass(frozen=True, slots=True)
class _Phases:
    """The two phases of a round."""

    plan: ServePlan
    server: Server
    num_streams: int
    arriving_len: int

    async def run(self, sender: GatewaySender, repeat: int) -> Disturbance:
        """Run streams without prompts, then with."""
        quiet, _ = await self._phase(sender, repeat, has_prompts=False)
        busy, prompts = await self._phase(sender, repeat, has_prompts=True)
        lost = [each.error for each in (*quiet, *busy, *prompts) if each.outcome is Outcome.FAILED]
        return Disturbance(
            sender.name,
            _tbt(quiet),
            _tbt(busy),
            spread_of(each.ttft_ns for each in prompts if each.ttft_ns is not None),
            len(prompts),
            tuple(lost),
        )

    async def _phase(
        self, sender: GatewaySender, repeat: int, *, has_prompts: bool
    ) -> tuple[list[Result], Sequence[Result]]:
        span_s = self.plan.duration_s or DURATION_S
        deadline_s = time.monotonic() + RAMP_S + span_s
        streams = [
            asyncio.create_task(self._stream(sender, index, deadline_s))
            for index in range(self.num_streams)
        ]
        await asyncio.sleep(RAMP_S)
        prompts: Sequence[Result] = ()
        if has_prompts:
            items = self._arriving(f"{self.plan.seed} {sender.name} {repeat}")
            arrivals_s = itertools.count(0.0, PERIOD_S)
            extent = Extent(duration_s=span_s - PERIOD_S)
            prompts = (await open_loop(sender, items, arrivals_s, extent)).results
        return [each for stream in await asyncio.gather(*streams) for each in stream], prompts

    async def _stream(self, sender: GatewaySender, index: int, deadline_s: float) -> list[Result]:
        """Decode until the deadline, anew when the context is full."""
        prompt = self.plan.prompts[index % len(self.plan.prompts)]
        room = self.server.max_context_len - len(prompt.token_ids)
        item, results = WorkItem(index, prompt, room), []
        while (left_s := deadline_s - time.monotonic()) > 0:
            results.append(await sender.send_for(item, left_s))
            if results[-1].outcome is Outcome.FAILED:
                break
        return results

    def _arriving(self, seed: str) -> Iterator[WorkItem]:
        """Yield prompts that nobody has seen."""
        prompts = made_prompts("arriving", self.arriving_len, self.server.vocab_size, seed)
        return (WorkItem(index, prompt, 1) for index, prompt in enumerate(prompts))


def _tbt(results: Sequence[Result]) -> Spread | None:
    """Return the times between messages behind the ramp."""
    starts = [result.sent_ns for result in results]
    start_ns = min(starts) + int(RAMP_S * 1e9)
    return spread_of(ns for each in results for ns, _ in each.gaps_ns(start_ns))


def show_arriving(report: ArrivingReport, console: Console) -> None:
    """Print the report."""
    console.print(report.conditions.headline, highlight=False, soft_wrap=True)
    every = f"a prompt of {report.arriving_len} tokens every {PERIOD_S:g} s"
    table = Table(
        title=f"{report.num_streams} streams; {every}",
        caption="time between messages of the streams, ms",
        box=SIMPLE_HEAD,
    )
    table.add_column("mode")
    columns = ("p50 without", "p99 without", "p50 with", "p99 with", "p99 with / p50 without")
    for column in (*columns, "TTFT p50 of the prompts"):
        table.add_column(column, justify="right")
    for each in report.medians:
        table.add_row(
            each.mode,
            *(_text(spread, name) for spread in (each.without, each.disturbed) for name in NAMES),
            "-" if each.ratio is None else f"{each.ratio:.2f}",
            _text(each.prompt_ttft, "p50"),
        )
    console.print(table)
    console.print(machine_line(report.machine), highlight=False, soft_wrap=True)


def _text(spread: Spread | None, name: str) -> str:
    return "-" if spread is None else f"{getattr(spread, name):.1f}"
