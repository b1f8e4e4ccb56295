"""Scenario `next-turn`: what a prompt costs whose beginning the server has met before.

    chat      a first turn with a long history; then the second turn of the same chat, which is the
              first prompt, its answer, and what the user says next
    system    many requests that share one long system prompt: the first alone, then the others

Every chat and every system prompt is new, for every mode and repeat. Figures are times to the first
token: second turn over first, later requests over the first. All tokens are compared with plain
decoding, as what is reused must change none.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from shared.telemetry.machine import Machine, describe_machine
from shortstack.bench.open_bench import Watcher
from shortstack.bench.prompts import BenchPrompt
from shortstack.bench.serve.checks import Check, Found, check_of, differences, expected_answers
from shortstack.bench.serve.conditions import (
    Conditions,
    machine_line,
    make_conditions,
    published,
)
from shortstack.bench.serve.loops import Extent, closed_loop
from shortstack.bench.serve.made_prompts import made_prompt
from shortstack.bench.serve.open_serve import Server, open_server, require_done, warm_up
from shortstack.bench.serve.plan import ServePlan
from shortstack.bench.serve.result import Result
from shortstack.bench.serve.senders import GatewaySender
from shortstack.bench.serve.workload import WorkItem

NUM_CHATS, NUM_SHARING, CONCURRENCY = 5, 16, 4
HISTORY_LEN, SYSTEM_LEN, USER_LEN, ANSWER_LEN = 1000, 512, 24, 32


@dataclass(frozen=True, slots=True)
class Lens:
    """Tokens of the parts; the wished ones, as far as the model's context has room."""

    history: int
    system: int
    user: int
    answer: int


@dataclass(frozen=True, slots=True)
class Pair:
    """A prompt met for the first time and one that begins alike. TTFT in ms, share of tokens."""

    first_ms: float
    next_ms: float
    cached_share: float

    @property
    def ratio(self) -> float:
        """The next one's time to first token over the first's."""
        return self.next_ms / self.first_ms


@dataclass(frozen=True, slots=True)
class ModeTurns:
    """What one mode did: a pair per chat, a pair per shared system prompt and later request."""

    mode: str
    chats: Sequence[Pair]
    system: Sequence[Pair]


@dataclass(frozen=True, slots=True)
class NextTurnReport:
    """The whole scenario."""

    machine: Machine
    conditions: Conditions
    lens: Lens
    modes: Sequence[ModeTurns]
    checks: dict[str, Check]
    found: Sequence[Found]

    def failures(self) -> list[str]:
        """Return answers that differ."""
        return [
            f"{name}: {check.num_mismatches} of {check.num_compared} answers differ"
            for name, check in self.checks.items()
            if check.num_mismatches
        ]

    def to_json(self) -> dict[str, Any]:
        """Return everything that is published."""
        modes = {
            each.mode: {"chat": summed(each.chats), "system": summed(each.system)}
            for each in self.modes
        }
        checks = {name: asdict(check) for name, check in self.checks.items()}
        values = {"lens": asdict(self.lens), "modes": modes, "checks": checks}
        return published("next-turn", self.conditions, self.machine, values)


def summed(pairs: Sequence[Pair]) -> dict[str, float]:
    """Return medians over pairs; the ratio is the median of ratios."""
    return {
        "first_ttft_ms": median(pair.first_ms for pair in pairs),
        "next_ttft_ms": median(pair.next_ms for pair in pairs),
        "ratio": median(pair.ratio for pair in pairs),
        "cached_share": median(pair.cached_share for pair in pairs),
        "num_pairs": len(pairs),
    }


def lens_for(max_context_len: int) -> Lens:
    """Return lengths that fit: two turns fill a context at most."""
    rest = 2 * (USER_LEN + ANSWER_LEN)
    history = min(HISTORY_LEN, max_context_len - rest)
    return Lens(history, min(SYSTEM_LEN, history), USER_LEN, ANSWER_LEN)


async def measure_next_turn(plan: ServePlan, watcher: Watcher) -> NextTurnReport:
    """Measure every mode; `--requests` is the number of chats and of requests that share.

    Raises:
        CommandError: a process did not come up or stay up, or a request failed.
    """
    machine = describe_machine()
    async with open_server(plan, watcher) as server:
        senders = [server.endless_sender(mode) for mode in plan.modes]
        await warm_up(senders, plan.prompts)
        lens = lens_for(server.max_context_len)
        turns: dict[str, ModeTurns] = {each.name: ModeTurns(each.name, [], []) for each in senders}
        results: dict[str, list[Result]] = {sender.name: [] for sender in senders}
        for repeat, sender in itertools.product(range(plan.repeats), senders):
            watcher.on_stage(f"chats, {sender.name}, {repeat + 1} of {plan.repeats}")
            scene = Scene(plan, server, sender, lens, f"{plan.seed} {sender.name} {repeat}")
            chats, system = await scene.chats(), await scene.sharing()
            so_far = turns[sender.name]
            turns[sender.name] = ModeTurns(
                sender.name, [*so_far.chats, *chats], [*so_far.system, *system]
            )
            results[sender.name] += scene.results
            server.stack.poll()
    watcher.on_stage("comparing tokens")
    prompts = [result.item.prompt for own in results.values() for result in own]
    expected = await expected_answers(plan.choice, prompts, lens.answer, senders[0].ends)
    found = {name: differences(name, own, expected) for name, own in results.items()}
    checks = {name: check_of(own, found[name]) for name, own in results.items()}
    every = [each for own in found.values() for each in own]
    conditions = make_conditions(plan, server.num_layers)
    return NextTurnReport(machine, conditions, lens, list(turns.values()), checks, every)


class Scene:
    """The chats of one mode and repeat; keeps the results for the comparison."""

    def __init__(
        self, plan: ServePlan, server: Server, sender: GatewaySender, lens: Lens, seed: str
    ) -> None:
        self.results: list[Result] = []
        self._num = plan.num_requests
        self._server = server
        self._sender = sender
        self._lens = lens
        self._seed = seed

    async def chats(self) -> list[Pair]:
        """Hold chats of two turns, one after the other."""
        return [await self._chat(index) for index in range(self._num or NUM_CHATS)]

    async def _chat(self, index: int) -> Pair:
        num_ids = self._lens.history
        first = await self._ask(self._make(f"first-{index}", num_ids), index)
        so_far = (*first.item.prompt.token_ids, *first.token_ids)
        second = self._make(f"second-{index}", self._lens.user, so_far)
        return pair_of(first, await self._ask(second, index))

    async def sharing(self) -> list[Pair]:
        """Send a system prompt with one user's words, then with many others', some at a time."""
        system = self._make("system", self._lens.system).token_ids
        first = await self._ask(self._make("user-0", self._lens.user, system), 0)
        num = self._num or NUM_SHARING
        others = [self._make(f"user-{index}", self._lens.user, system) for index in range(1, num)]
        items = (WorkItem(index, prompt, self._lens.answer) for index, prompt in enumerate(others))
        run = await closed_loop(self._sender, items, CONCURRENCY, Extent(len(others)))
        for result in run.results:
            self.results.append(require_done(self._sender.name, result))
        return [pair_of(first, result) for result in run.results]

    async def _ask(self, prompt: BenchPrompt, index: int) -> Result:
        item = WorkItem(index, prompt, self._lens.answer)
        result = require_done(self._sender.name, await self._sender.send_now(item))
        self.results.append(result)
        return result

    def _make(self, name: str, num_ids: int, prefix: Sequence[int] = ()) -> BenchPrompt:
        return made_prompt(name, num_ids, self._server.vocab_size, self._seed, prefix=prefix)


def pair_of(first: Result, following: Result) -> Pair:
    """Set two answers against each other."""
    assert first.ttft_ns is not None and following.ttft_ns is not None
    server = following.server
    num_cached = server.num_cached_tokens if server else 0
    return Pair(
        first.ttft_ns / 1e6,
        following.ttft_ns / 1e6,
        num_cached / len(following.item.prompt.token_ids),
    )


def show_next_turn(report: NextTurnReport, console: Console) -> None:
    """Print the report."""
    console.print(report.conditions.headline, highlight=False, soft_wrap=True)
    lens = report.lens
    table = Table(
        title=f"histories of {lens.history} tokens; system prompt of {lens.system}",
        caption="time to first token, ms; medians; cached: tokens that were not computed again",
        box=SIMPLE_HEAD,
    )
    table.add_column("mode")
    table.add_column("what")
    for column in ("first", "next", "next / first", "cached", "pairs"):
        table.add_column(column, justify="right")
    for each in report.modes:
        for what, pairs in (("second turn", each.chats), ("same system prompt", each.system)):
            values = summed(pairs)
            table.add_row(
                each.mode,
                what,
                f"{values['first_ttft_ms']:.0f}",
                f"{values['next_ttft_ms']:.0f}",
                f"{values['ratio']:.3f}",
                f"{values['cached_share']:.0%}",
                f"{values['num_pairs']:.0f}",
            )
    console.print(table)
    for name, check in report.checks.items():
        line = f"{name}: {check.num_compared} compared, {check.num_mismatches} mismatches, "
        console.print(line + f"{check.num_near_ties} near ties", highlight=False)
    console.print(machine_line(report.machine), highlight=False, soft_wrap=True)
