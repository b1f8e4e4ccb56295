"""Stacks with telemetry and one without take short turns at the same requests; pure figures of it.

All rounds have one pinned setting: what the stacks' controllers learn would differ by more than
what is measured. A block is off, on, on, off: a drift of the machine touches both alike. Two
figures come of it. Tokens per second are what a client sees, and scatter with whatever else runs.
CPU time per token scatters less, as no wait for a core blurs it; it holds all that the processes
did during the block, background work included, also while the other stack had its turns.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

from shared.ids import new_request_id
from shortstack.bench.paired import Interval, judge_bound, paired_interval, ratio_interval
from shortstack.bench.telemetry_stacks import DEFAULT, MODES, OFF, Subject
from shortstack.request import Request

# Of tokens per second, and of CPU time, that telemetry at default sampling may take.
MAX_COST = 0.01


@dataclass(frozen=True, slots=True)
class Turn:
    """One stack's go: every client runs one request. Blocks count from 0."""

    mode: str
    num_clients: int
    block: int
    against: str
    num_tokens: int
    elapsed_s: float


@dataclass(frozen=True, slots=True)
class CpuTime:
    """What one process of a stack took for so many tokens, from first turn to last."""

    mode: str
    num_clients: int
    process: str
    cpu_s: float
    num_tokens: int


@dataclass(frozen=True, slots=True)
class BlockCpu:
    """What the stacks took in a block, all processes together, and the tokens that they made."""

    num_clients: int
    block: int
    against: str
    off_cpu_s: float
    on_cpu_s: float
    off_num_tokens: int
    on_num_tokens: int

    def with_part(self, other: "BlockCpu") -> "BlockCpu":
        """Return this block with another part of it."""
        return replace(
            self,
            off_cpu_s=self.off_cpu_s + other.off_cpu_s,
            on_cpu_s=self.on_cpu_s + other.on_cpu_s,
            off_num_tokens=self.off_num_tokens + other.off_num_tokens,
            on_num_tokens=self.on_num_tokens + other.on_num_tokens,
        )

    @property
    def per_token(self) -> tuple[float, float]:
        """CPU time per token with telemetry, and without."""
        return self.on_cpu_s / self.on_num_tokens, self.off_cpu_s / self.off_num_tokens


@dataclass(frozen=True, slots=True)
class Measured:
    """All that was measured, at one load or at several."""

    turns: list[Turn]
    cpu_times: list[CpuTime]
    blocks: list[BlockCpu]

    def __add__(self, other: "Measured") -> "Measured":
        return Measured(
            self.turns + other.turns, self.cpu_times + other.cpu_times, self.blocks + other.blocks
        )


async def take_turns(
    subjects: Mapping[str, Subject],
    requests: Sequence[Request],
    num_clients: int,
    num_blocks: int,
    on_turn: Callable[[], None] = lambda: None,
) -> Measured:
    """Let each stack with telemetry run `num_blocks` blocks against the one without."""
    for subject in subjects.values():
        for index in range(len(requests)):
            await run(subject, requests, num_clients, index)
    before = {mode: subject.cpu_s() for mode, subject in subjects.items()}
    turns, blocks = [], []
    for block in range(num_blocks):
        for mode in [mode for mode in subjects if mode != OFF]:
            began_s, own = _sums(subjects), []
            for member in (OFF, mode, mode, OFF) if block % 2 else (mode, OFF, OFF, mode):
                taken = await run(subjects[member], requests, num_clients, block)
                own.append(Turn(member, num_clients, block, mode, *taken))
                on_turn()
            took_s = {name: ended_s - began_s[name] for name, ended_s in _sums(subjects).items()}
            nums = tokens_of(own, OFF), tokens_of(own, mode)
            blocks.append(BlockCpu(num_clients, block, mode, took_s[OFF], took_s[mode], *nums))
            turns += own
    cpu_times = [
        CpuTime(mode, num_clients, process, cpu_s - before[mode][process], tokens_of(turns, mode))
        for mode, subject in subjects.items()
        for process, cpu_s in subject.cpu_s().items()
    ]
    return Measured(turns, cpu_times, blocks)


def _sums(subjects: Mapping[str, Subject]) -> dict[str, float]:
    """Return the CPU time of each stack so far, all its processes together."""
    return {mode: sum(subject.cpu_s().values()) for mode, subject in subjects.items()}


def tokens_of(turns: Sequence[Turn], mode: str) -> int:
    """Return how many tokens a stack emitted."""
    return sum(turn.num_tokens for turn in turns if turn.mode == mode)


async def run(
    subject: Subject, requests: Sequence[Request], num_clients: int, first: int
) -> tuple[int, float]:
    """Let so many clients run one request each, from the first on; return tokens and seconds."""
    chosen = [requests[(first + index) % len(requests)] for index in range(num_clients)]
    started_s = time.perf_counter()
    done = await asyncio.gather(
        *(subject.client.complete(replace(each, request_id=new_request_id())) for each in chosen)
    )
    return sum(len(each.token_ids) for each in done), time.perf_counter() - started_s


def figures_of(measured: Measured) -> list[dict[str, Any]]:
    """Return by load and stack: speed, CPU time per token, and what telemetry adds to them."""
    return [
        {"num_clients": num_clients}
        | {
            mode: _figures(mode, num_clients, measured)
            for mode in MODES
            if any(turn.mode == mode for turn in measured.turns)
        }
        for num_clients in sorted({turn.num_clients for turn in measured.turns})
    ]


def _figures(mode: str, num_clients: int, measured: Measured) -> dict[str, Any]:
    turns = [turn for turn in measured.turns if turn.num_clients == num_clients]
    own = [turn for turn in turns if turn.mode == mode]
    cpu_times = [
        each for each in measured.cpu_times if (each.mode, each.num_clients) == (mode, num_clients)
    ]
    cpu_us = {
        process: 1e6 * _cpu_s_per_token([each for each in cpu_times if each.process == process])
        for process in dict.fromkeys(each.process for each in cpu_times)
    }
    figures: dict[str, Any] = {
        "tokens_per_s": median(turn.num_tokens / turn.elapsed_s for turn in own),
        "cpu_us_per_token": cpu_us | {"all": sum(cpu_us.values())},
    }
    if mode != OFF:
        cost = paired_interval(costs_of([turn for turn in turns if turn.against == mode], mode))
        own_blocks = (each for each in measured.blocks if each.num_clients == num_clients)
        cpu_cost = cpu_cost_of(whole([each for each in own_blocks if each.against == mode]))
        figures |= {"cost": asdict(cost), "cpu_cost": asdict(cpu_cost)}
        if mode == DEFAULT:
            figures["finding"] = judge_bound(cost, MAX_COST, MAX_COST).value
            figures["cpu_finding"] = judge_bound(cpu_cost, MAX_COST, MAX_COST).value
    return figures


def _cpu_s_per_token(times: Sequence[CpuTime]) -> float:
    return sum(each.cpu_s for each in times) / sum(each.num_tokens for each in times)


def whole(parts: Sequence[BlockCpu]) -> list[BlockCpu]:
    """Return blocks that were measured in parts, with other stacks of the same kinds, as one."""
    blocks: dict[int, BlockCpu] = {}
    for part in parts:
        known = blocks.get(part.block)
        blocks[part.block] = part if known is None else known.with_part(part)
    return list(blocks.values())


def cpu_cost_of(blocks: Sequence[BlockCpu]) -> Interval:
    """Return which share of the CPU time per token telemetry adds."""
    ratio = ratio_interval([block.per_token for block in blocks])
    return Interval(ratio.low - 1, ratio.median - 1, ratio.high - 1)


def costs_of(turns: Sequence[Turn], mode: str) -> list[float]:
    """Return for each block which share of the tokens per second the stack of a mode lacks."""
    speeds: dict[tuple[int, str], float] = {}
    for block in sorted({turn.block for turn in turns}):
        for member in (OFF, mode):
            own = [turn for turn in turns if (turn.block, turn.mode) == (block, member)]
            num_tokens = sum(turn.num_tokens for turn in own)
            speeds[block, member] = num_tokens / sum(turn.elapsed_s for turn in own)
    blocks = sorted({block for block, _ in speeds})
    return [1 - speeds[block, mode] / speeds[block, OFF] for block in blocks]


def table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Return a row per load and stack."""
    lines = [
        "| clients | telemetry | tokens/s | it costs (95 %) | target 1 % | CPU us per token "
        "| more (95 %) | target 1 % |",
        "|---:|---|---:|---:|---|---:|---:|---|",
    ]
    for load in figures:
        for mode in [name for name in load if name != "num_clients"]:
            own = load[mode]
            cost, more = (
                _percent(Interval(**own[name])) if mode != OFF else "-"
                for name in ("cost", "cpu_cost")
            )
            lines.append(
                f"| {load['num_clients']} | {mode} | {own['tokens_per_s']:.1f} | {cost} "
                f"| {own.get('finding', '-')} | {own['cpu_us_per_token']['all']:.0f} | {more} "
                f"| {own.get('cpu_finding', '-')} |"
            )
    return "\n".join(lines)


def _percent(cost: Interval) -> str:
    return f"{cost.median:+.1%} ({cost.low:+.1%} to {cost.high:+.1%})"


def process_table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Return CPU time per token, us: a row per load and process."""
    modes = [name for name in figures[0] if name != "num_clients"]
    lines = [
        f"| clients | CPU us per token of | {' | '.join(modes)} |",
        f"|---:|---|{'---:|' * len(modes)}",
    ]
    for load in figures:
        for process in load[OFF]["cpu_us_per_token"]:
            values = [f"{load[mode]['cpu_us_per_token'][process]:.0f}" for mode in modes]
            lines.append(f"| {load['num_clients']} | {process} | {' | '.join(values)} |")
    return "\n".join(lines)
