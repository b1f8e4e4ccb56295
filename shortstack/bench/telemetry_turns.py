"""Stacks that trace and one that does not take turns at the same requests; pure figures of it.

All rounds have one pinned setting: what the stacks' controllers learn would differ by more than
what is measured.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from shared.ids import new_request_id
from shortstack.client import Client
from shortstack.plan import StackConfig
from shortstack.request import Request
from shortstack.stack import Stack

# No traces; the default sampling; every request.
OFF, DEFAULT, ALL = MODES = ("off", "default", "all")


@dataclass(frozen=True, slots=True)
class Turn:
    """One stack's go: every client runs every request once."""

    mode: str
    num_clients: int
    index: int
    num_tokens: int
    elapsed_s: float

    @property
    def tokens_per_s(self) -> float:
        """Over all clients."""
        return self.num_tokens / self.elapsed_s


@asynccontextmanager
async def clients_of(
    plain: StackConfig, endpoint: str, more: Mapping[str, str]
) -> AsyncIterator[dict[str, Client]]:
    """Bring a stack up for each mode; yield a client of each.

    Args:
        plain: the stack that does not trace.
        endpoint: where the others send spans.
        more: variables of the others.
    """
    traced = replace(plain, otlp=endpoint, environ={**plain.environ, **more})
    configs = (plain, traced, replace(traced, sampling_ratio=1.0))
    async with AsyncExitStack() as exits:
        clients = {}
        for mode, config in zip(MODES, configs, strict=True):
            stack = await exits.enter_async_context(Stack(config))
            clients[mode] = await exits.enter_async_context(Client(stack.target))
        yield clients


async def take_turns(
    clients: Mapping[str, Client], requests: Sequence[Request], num_clients: int, repeats: int
) -> list[Turn]:
    """Let every stack run all requests `repeats` times, another one leading each time."""
    for client in clients.values():
        await run(client, requests, num_clients)
    turns = []
    for index in range(repeats):
        first = index % len(MODES)
        for mode in (*MODES[first:], *MODES[:first]):
            taken = await run(clients[mode], requests, num_clients)
            turns.append(Turn(mode, num_clients, index, *taken))
    return turns


async def run(client: Client, requests: Sequence[Request], num_clients: int) -> tuple[int, float]:
    """Let so many clients run all requests, each beginning with another; tokens and seconds."""

    async def run_all(first: int) -> int:
        num_tokens = 0
        for index in range(len(requests)):
            request = requests[(first + index) % len(requests)]
            done = await client.complete(replace(request, request_id=new_request_id()))
            num_tokens += len(done.token_ids)
        return num_tokens

    started_s = time.perf_counter()
    counts = await asyncio.gather(*map(run_all, range(num_clients)))
    return sum(counts), time.perf_counter() - started_s


def figures_of(turns: Sequence[Turn]) -> list[dict[str, Any]]:
    """Return median speeds by load, and medians of the ratios to the stack that does not trace.

    A ratio compares turns that followed each other: the machine's moods touch both.
    """
    figures = []
    for num_clients in sorted({turn.num_clients for turn in turns}):
        speeds = {
            mode: [
                turn.tokens_per_s
                for turn in sorted(turns, key=lambda each: each.index)
                if (turn.mode, turn.num_clients) == (mode, num_clients)
            ]
            for mode in MODES
        }
        load: dict[str, Any] = {"num_clients": num_clients}
        for mode, values in speeds.items():
            ratios = [value / off for value, off in zip(values, speeds[OFF], strict=True)]
            load[mode] = {"tokens_per_s": median(values), "ratio_to_off": median(ratios)}
        figures.append(load)
    return figures


def table(figures: Sequence[Mapping[str, Any]]) -> str:
    """Return speeds, with their ratio to no tracing in brackets."""
    lines = ["| clients | no traces | default sampling | every request |", "|---:|---:|---:|---:|"]
    for load in figures:
        traced = [
            f"{load[mode]['tokens_per_s']:.1f} ({load[mode]['ratio_to_off']:.3f})"
            for mode in (DEFAULT, ALL)
        ]
        off = f"{load[OFF]['tokens_per_s']:.1f}"
        lines.append(f"| {load['num_clients']} | {off} | {' | '.join(traced)} |")
    return "\n".join(lines)
